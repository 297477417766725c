defmodule BillTracker do
  @moduledoc """
  A small web application on nothing but Erlang/OTP and Elixir: pages over HTTP/1.1, and a
  WebSocket that ticks.

  It stands for any app that Stead deploys: it takes its port from `PORT`, says when it is
  healthy, and finishes what it has begun when it is told to stop.
  """

  @version "1"

  @doc "What this build of the app calls itself. Change it and deploy to see a new instance take over."
  def version, do: @version

  @doc "The port of this instance, from `PORT`; 4000 unless it is set."
  def port, do: "PORT" |> System.get_env("4000") |> String.to_integer()

  @doc "The title of the pages, from `TITLE`."
  def title, do: System.get_env("TITLE", "BillTracker")

  @doc "The name of the site, from `HOST`; `nil`: any."
  def host, do: System.get_env("HOST")

  @doc "Milliseconds between two ticks of the WebSocket, from `TICK`; one second unless it is set."
  def tick, do: "TICK" |> System.get_env("1000") |> String.to_integer()
end
