defmodule BillTracker.ConnectionTest do
  use ExUnit.Case, async: true

  defp connect do
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, BillTracker.Listener.port(), [:binary, active: false])
    socket
  end

  defp read(socket) do
    {:ok, bytes} = :gen_tcp.recv(socket, 0, 5_000)
    bytes
  end

  test "a connection carries several requests" do
    socket = connect()

    for _ <- 1..3 do
      :ok = :gen_tcp.send(socket, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
      answer = read(socket)
      assert answer =~ "HTTP/1.1 200 OK\r\n"
      assert answer =~ "Content-Length: 2\r\n"
      assert String.ends_with?(answer, "\r\n\r\n" <> BillTracker.version() <> "\n")
    end
  end

  test "a body is not taken for the next request" do
    socket = connect()
    :ok = :gen_tcp.send(socket, "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nHello")
    assert read(socket) =~ "405 Method Not Allowed"
    :ok = :gen_tcp.send(socket, "GET /health HTTP/1.1\r\n\r\n")
    assert read(socket) =~ "\r\n\r\nok\n"
  end

  test "nonsense is answered with 400 and the connection closed" do
    socket = connect()
    :ok = :gen_tcp.send(socket, "\x16\x03\x01 nonsense\r\n\r\n")
    assert read(socket) =~ "400 Bad Request"
    assert {:error, :closed} = :gen_tcp.recv(socket, 0, 5_000)
  end
end
