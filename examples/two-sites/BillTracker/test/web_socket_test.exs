defmodule BillTracker.WebSocketTest do
  use ExUnit.Case, async: true
  alias BillTracker.WebSocket

  # The example of RFC 6455, section 1.3.
  @headers %{
    "sec-websocket-key" => "dGhlIHNhbXBsZSBub25jZQ==",
    "upgrade" => "websocket",
    "sec-websocket-version" => "13"
  }

  defp handshake(headers, host), do: WebSocket.handshake(%{method: "GET", headers: headers}, host)

  test "the handshake answers the example of RFC 6455" do
    assert {:ok, head} = handshake(@headers, nil)
    assert head =~ "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    assert {:error, :no_handshake} = handshake(Map.delete(@headers, "upgrade"), nil)
  end

  test "only pages of the own site may open a WebSocket" do
    from = &Map.put(@headers, "origin", &1)
    assert {:ok, _} = handshake(from.("http://bills.example:8080"), "bills.example")
    assert {:error, :foreign_origin} = handshake(from.("http://evil.example"), "bills.example")
    assert {:error, :foreign_origin} = handshake(from.("null"), "bills.example")
    assert {:ok, _} = handshake(@headers, "bills.example")
  end

  test "a masked frame is read, in pieces too" do
    # RFC 6455, section 5.7: a single-frame masked text message, "Hello".
    frame = <<0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58>>
    assert WebSocket.parse(frame <> "x") == {:frame, 1, "Hello", "x"}
    for bytes <- 0..(byte_size(frame) - 1), do: assert(WebSocket.parse(binary_part(frame, 0, bytes)) == :incomplete)
  end

  test "an unmasked or oversized frame is refused" do
    assert WebSocket.parse(<<0x81, 0x05, "Hello">>) == {:refused, 1002}
    assert WebSocket.parse(<<0x82, 0xFF, 1_000_000::64, 0::32>>) == {:refused, 1009}
  end
end
