defmodule BillTracker.Routes do
  @moduledoc "What each address answers: `{status, headers, body}`, or `:websocket`."

  @reasons %{
    200 => "OK",
    400 => "Bad Request",
    403 => "Forbidden",
    404 => "Not Found",
    405 => "Method Not Allowed",
    408 => "Request Timeout",
    411 => "Length Required",
    413 => "Content Too Large",
    426 => "Upgrade Required",
    431 => "Request Header Fields Too Large"
  }

  # /slow waits no longer than this.
  @slowest 20_000

  def route(method, path, query) when method in ["GET", "HEAD"] do
    case path do
      "/" ->
        {200, [{"Content-Type", "text/html; charset=utf-8"}, {"Cache-Control", "no-store"}], BillTracker.Page.html()}

      "/health" ->
        text(200, "ok\n")

      "/version" ->
        text(200, BillTracker.version() <> "\n")

      "/slow" ->
        slow(query)

      "/ws" ->
        :websocket

      _ ->
        plain(404)
    end
  end

  def route(_method, _path, _query), do: plain(405, [{"Allow", "GET, HEAD"}])

  @doc "An answer that only says its status."
  def plain(status, headers \\ []) do
    {status, kind, body} = text(status, "#{status} #{reason(status)}\n")
    {status, headers ++ kind, body}
  end

  def reason(status), do: Map.fetch!(@reasons, status)

  defp text(status, body),
    do: {status, [{"Content-Type", "text/plain; charset=utf-8"}, {"Cache-Control", "no-store"}], body}

  # For rehearsing a drain: an answer that takes its time.
  defp slow(query) do
    with %{"ms" => text} <- URI.decode_query(query), {ms, ""} when ms in 0..@slowest <- Integer.parse(text) do
      Process.sleep(ms)
      text(200, "waited #{ms} ms, version #{BillTracker.version()}\n")
    else
      _ -> plain(400)
    end
  end
end
