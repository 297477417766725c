defmodule BillTracker.Page do
  @moduledoc "The one page of the app."

  def html do
    """
    <!doctype html>
    <html lang="en">
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>#{escape(BillTracker.title())}</title>
    <style>
      body { font: 1.1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem; color: #1c2530; }
      #clock { font: 600 3rem/1.2 ui-monospace, monospace; }
      dt { color: #667; } dd { margin: 0 0 .6rem; font-weight: 600; }
    </style>
    <h1>#{escape(BillTracker.title())}</h1>
    <p id="clock" role="timer">connecting …</p>
    <dl>
      <dt>Version</dt><dd id="version">#{escape(BillTracker.version())}</dd>
      <dt>BEAM schedulers online</dt><dd id="schedulers">#{System.schedulers_online()}</dd>
      <dt>Port of this instance</dt><dd id="port">#{BillTracker.port()}</dd>
      <dt>Erlang/OTP, Elixir</dt><dd>#{System.otp_release()}, #{System.version()}</dd>
    </dl>
    <p>The clock comes over a WebSocket, and stays open while a new version takes over.</p>
    <script>
      const clock = document.getElementById("clock");
      const connect = () => {
        const scheme = location.protocol === "https:" ? "wss://" : "ws://";
        const socket = new WebSocket(scheme + location.host + "/ws");
        socket.onmessage = (event) => {
          const tick = JSON.parse(event.data);
          clock.textContent = tick.time.slice(11, 19);
          document.getElementById("version").textContent = tick.version;
          document.getElementById("port").textContent = tick.port;
        };
        socket.onclose = () => { clock.textContent = "reconnecting …"; setTimeout(connect, 500); };
      };
      connect();
    </script>
    </html>
    """
  end

  defp escape(text) do
    text
    |> String.replace("&", "&amp;")
    |> String.replace("<", "&lt;")
    |> String.replace(">", "&gt;")
    |> String.replace("\"", "&quot;")
  end
end
