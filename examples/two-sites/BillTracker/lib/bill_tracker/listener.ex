defmodule BillTracker.Listener do
  @moduledoc """
  Owns the listening socket, on the loopback only, and the processes that accept on it. When it
  stops, both are gone.
  """
  use GenServer

  @acceptors 8
  @options [
    :binary,
    ip: {127, 0, 0, 1},
    packet: :http_bin,
    packet_size: 8192,
    active: false,
    reuseaddr: true,
    nodelay: true,
    backlog: 1024,
    send_timeout: 15_000,
    send_timeout_close: true
  ]

  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: __MODULE__)

  @doc "The port that is really listened on (of interest when 0 was asked for)."
  def port, do: GenServer.call(__MODULE__, :port)

  @impl true
  def init(options) do
    case :gen_tcp.listen(options[:port], @options) do
      {:ok, listener} ->
        for _ <- 1..@acceptors, do: spawn_link(fn -> accept(listener) end)
        {:ok, listener}

      {:error, reason} ->
        {:stop, "cannot listen on 127.0.0.1:#{options[:port]}: #{:inet.format_error(reason)}"}
    end
  end

  @impl true
  def handle_call(:port, _from, listener) do
    {:ok, port} = :inet.port(listener)
    {:reply, port, listener}
  end

  defp accept(listener) do
    case :gen_tcp.accept(listener) do
      {:ok, socket} ->
        connection = BillTracker.Application.serve(socket)
        :gen_tcp.controlling_process(socket, connection)
        send(connection, :begin)
        accept(listener)

      # Out of file descriptors, or a client that left at once: take a breath, go on.
      {:error, reason} when reason in [:emfile, :enfile, :econnaborted] ->
        Process.sleep(10)
        accept(listener)

      {:error, reason} ->
        exit(reason)
    end
  end
end
