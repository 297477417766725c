defmodule BillTracker.Application do
  @moduledoc """
  The supervision tree. Children stop in reverse order: first the listener, so that nothing new
  comes in, then the connections, each of which finishes the request that it works on.
  """
  use Application

  # How long requests in flight may take after a SIGTERM.
  @drain 25_000

  @impl true
  def start(_type, _args) do
    children = [
      {DynamicSupervisor, name: BillTracker.Connections, strategy: :one_for_one},
      {BillTracker.Listener, port: BillTracker.port()}
    ]

    Supervisor.start_link(children, strategy: :rest_for_one, name: BillTracker.Supervisor)
  end

  @doc "Gives an accepted socket a supervised process of its own."
  def serve(socket) do
    child = %{
      id: BillTracker.Connection,
      start: {BillTracker.Connection, :start_link, [socket]},
      restart: :temporary,
      shutdown: @drain
    }

    {:ok, connection} = DynamicSupervisor.start_child(BillTracker.Connections, child)
    connection
  end
end
