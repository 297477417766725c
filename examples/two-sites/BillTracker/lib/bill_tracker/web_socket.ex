defmodule BillTracker.WebSocket do
  @moduledoc """
  The server's side of a WebSocket (RFC 6455): a text message each tick, pings answered, what the
  client says otherwise ignored. Told to stop, it says goodbye (1001, going away).
  """

  import Bitwise

  # RFC 6455, section 1.3.
  @guid "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
  @max_frame 65_536

  @doc """
  The answer to a handshake. Pages of other sites than `host` (if there is one) are refused: the
  browser sends its cookies along for them too.
  """
  def handshake(%{method: "GET", headers: headers}, host) do
    with %{"sec-websocket-key" => key, "upgrade" => upgrade, "sec-websocket-version" => "13"} <- headers,
         "websocket" <- String.downcase(upgrade) do
      if own_page?(headers["origin"], host), do: {:ok, switch(key)}, else: {:error, :foreign_origin}
    else
      _ -> {:error, :no_handshake}
    end
  end

  def handshake(_request, _host), do: {:error, :no_handshake}

  defp own_page?(origin, host), do: origin == nil or host == nil or URI.parse(origin).host == host

  defp switch(key) do
    accept = :sha |> :crypto.hash(key <> @guid) |> Base.encode64()

    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" <>
      "Sec-WebSocket-Accept: #{accept}\r\n\r\n"
  end

  @doc "Talks until one side closes. The calling process traps exits."
  def run(socket) do
    send(self(), {:tick, 0})
    loop(socket, "")
  end

  defp loop(socket, buffer) do
    :inet.setopts(socket, packet: :raw, active: :once)

    receive do
      {:tcp, ^socket, bytes} ->
        frames(socket, buffer <> bytes)

      {:tick, number} ->
        Process.send_after(self(), {:tick, number + 1}, BillTracker.tick())
        with :ok <- :gen_tcp.send(socket, frame(1, tick(number))), do: loop(socket, buffer)

      {:tcp_closed, ^socket} ->
        :ok

      {:tcp_error, ^socket, _reason} ->
        :ok

      {:EXIT, _from, _reason} ->
        close(socket, 1001)
    end
  end

  defp frames(socket, buffer) do
    case parse(buffer) do
      {:frame, 8, _payload, _rest} -> close(socket, 1000)
      {:frame, 9, payload, rest} -> with :ok <- :gen_tcp.send(socket, frame(10, payload)), do: frames(socket, rest)
      {:frame, opcode, _payload, rest} when opcode in [0, 1, 2, 10] -> frames(socket, rest)
      {:frame, _opcode, _payload, _rest} -> close(socket, 1002)
      {:refused, code} -> close(socket, code)
      :incomplete -> loop(socket, buffer)
    end
  end

  @doc "The first frame of what a client sent: `{:frame, opcode, payload, rest}`, `:incomplete`, or `{:refused, code}`."
  def parse(<<_fin::1, 0::3, opcode::4, 1::1, 126::7, length::16, rest::binary>>), do: unmask(opcode, length, rest)
  def parse(<<_fin::1, 0::3, opcode::4, 1::1, 127::7, length::64, rest::binary>>), do: unmask(opcode, length, rest)

  def parse(<<_fin::1, 0::3, opcode::4, 1::1, length::7, rest::binary>>) when length < 126,
    do: unmask(opcode, length, rest)

  # A client has to mask, and no extension was agreed on.
  def parse(<<_fin::1, reserved::3, _opcode::4, mask::1, _::7, _::binary>>) when reserved != 0 or mask == 0,
    do: {:refused, 1002}

  def parse(_buffer), do: :incomplete

  defp unmask(_opcode, length, _rest) when length > @max_frame, do: {:refused, 1009}

  defp unmask(opcode, length, rest) do
    case rest do
      <<mask::binary-size(4), payload::binary-size(length), rest::binary>> ->
        key = mask |> :binary.copy(div(length, 4) + 1) |> binary_part(0, length)
        {:frame, opcode, :crypto.exor(payload, key), rest}

      _ ->
        :incomplete
    end
  end

  @doc "A whole, unmasked frame, as a server sends it."
  def frame(opcode, payload) when byte_size(payload) < 126, do: <<0x80 ||| opcode, byte_size(payload), payload::binary>>
  def frame(opcode, payload), do: <<0x80 ||| opcode, 126, byte_size(payload)::16, payload::binary>>

  defp close(socket, code) do
    :gen_tcp.send(socket, frame(8, <<code::16>>))
    :gen_tcp.shutdown(socket, :write)
  end

  # Only numbers, a time and our own version: nothing that JSON would want escaped.
  defp tick(number) do
    time = DateTime.utc_now() |> DateTime.truncate(:second) |> DateTime.to_iso8601()
    ~s({"tick":#{number},"time":"#{time}","version":"#{BillTracker.version()}","port":#{BillTracker.port()}})
  end
end
