defmodule BillTracker.Connection do
  @moduledoc """
  One client: reads requests, answers each (`Content-Length` always, kept alive as HTTP/1.1 says),
  and becomes a WebSocket when asked to. Told to stop, it finishes the request that it works on.
  """

  alias BillTracker.{Routes, WebSocket}

  # A client may stay without a request for so long, and may take so long for a request.
  @idle 75_000
  @patience 15_000
  @max_headers 100
  @max_body 1_000_000

  def start_link(socket), do: {:ok, :proc_lib.spawn_link(__MODULE__, :init, [socket])}

  @doc false
  def init(socket) do
    Process.flag(:trap_exit, true)

    receive do
      :begin -> next_request(socket)
      {:EXIT, _from, _reason} -> :ok
    after
      @patience -> :ok
    end

    :gen_tcp.close(socket)
  end

  defp next_request(socket) do
    :inet.setopts(socket, packet: :http_bin, active: :once)

    receive do
      {:http, ^socket, {:http_request, method, target, version}} ->
        case headers(socket, %{}, 0) do
          {:ok, headers} ->
            request(socket, %{method: text(method), target: target, version: version, headers: headers})

          {:error, status} ->
            answer(socket, %{method: "GET", version: {1, 1}, headers: %{}}, Routes.plain(status), :close)

          :gone ->
            :ok
        end

      {:http, ^socket, {:http_error, _line}} ->
        answer(socket, %{method: "GET", version: {1, 1}, headers: %{}}, Routes.plain(400), :close)

      {:tcp_closed, ^socket} ->
        :ok

      {:tcp_error, ^socket, _reason} ->
        :ok

      {:EXIT, _from, _reason} ->
        :ok
    after
      @idle -> :ok
    end
  end

  defp headers(_socket, _headers, count) when count > @max_headers, do: {:error, 431}

  defp headers(socket, headers, count) do
    case :gen_tcp.recv(socket, 0, @patience) do
      {:ok, {:http_header, _, name, _, value}} ->
        headers(socket, Map.put(headers, name |> text() |> String.downcase(), value), count + 1)

      {:ok, :http_eoh} ->
        {:ok, headers}

      {:ok, {:http_error, _line}} ->
        {:error, 400}

      {:error, :emsgsize} ->
        {:error, 431}

      {:error, _reason} ->
        :gone
    end
  end

  defp request(socket, request) do
    with {:ok, target} <- target(request.target),
         :ok <- skip_body(socket, request.headers) do
      uri = URI.parse(target)

      case Routes.route(request.method, uri.path || "/", uri.query || "") do
        :websocket -> upgrade(socket, request)
        response -> answer(socket, request, response, keep_alive(request))
      end
    else
      {:error, status} -> answer(socket, request, Routes.plain(status), :close)
    end
  end

  # RFC 9112, section 3.2: a server accepts the absolute form too.
  defp target({:abs_path, path}), do: {:ok, path}
  defp target({:absoluteURI, _scheme, _host, _port, path}), do: {:ok, path}
  defp target(_other), do: {:error, 400}

  defp upgrade(socket, request) do
    case WebSocket.handshake(request, BillTracker.host()) do
      {:ok, head} ->
        with :ok <- :gen_tcp.send(socket, head), do: WebSocket.run(socket)

      {:error, :foreign_origin} ->
        answer(socket, request, Routes.plain(403), :close)

      {:error, :no_handshake} ->
        answer(socket, request, Routes.plain(426, [{"Upgrade", "websocket"}]), :close)
    end
  end

  defp answer(socket, request, {status, headers, body}, keep) do
    keep = if stopping?(), do: :close, else: keep

    head = [
      "HTTP/1.1 #{status} #{Routes.reason(status)}\r\n",
      for({name, value} <- headers, do: [name, ": ", value, "\r\n"]),
      "Content-Length: #{IO.iodata_length(body)}\r\n",
      "Connection: #{if keep == :keep, do: "keep-alive", else: "close"}\r\n\r\n"
    ]

    body = if request.method == "HEAD", do: "", else: body

    case {:gen_tcp.send(socket, [head, body]), keep} do
      {:ok, :keep} -> next_request(socket)
      {:ok, :close} -> :gen_tcp.shutdown(socket, :write)
      {{:error, _reason}, _} -> :ok
    end
  end

  # Nothing here reads a body, but the next request of the connection begins behind it.
  defp skip_body(_socket, %{"transfer-encoding" => _}), do: {:error, 411}

  defp skip_body(socket, %{"content-length" => length}) do
    case Integer.parse(length) do
      {0, ""} -> :ok
      {bytes, ""} when bytes in 1..@max_body -> receive_body(socket, bytes)
      {bytes, ""} when bytes > @max_body -> {:error, 413}
      _ -> {:error, 400}
    end
  end

  defp skip_body(_socket, _headers), do: :ok

  defp receive_body(socket, bytes) do
    :inet.setopts(socket, packet: :raw)

    case :gen_tcp.recv(socket, bytes, @patience) do
      {:ok, _body} -> :ok
      {:error, _reason} -> {:error, 408}
    end
  end

  defp keep_alive(%{version: version, headers: headers}) do
    asked = headers |> Map.get("connection", "") |> String.downcase()

    cond do
      asked =~ "close" -> :close
      version >= {1, 1} or asked =~ "keep-alive" -> :keep
      true -> :close
    end
  end

  defp stopping? do
    receive do
      {:EXIT, _from, _reason} -> true
    after
      0 -> false
    end
  end

  defp text(name) when is_atom(name), do: Atom.to_string(name)
  defp text(name), do: name
end
