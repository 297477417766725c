//! Projects to deploy: the real example, and a small one that can be made to misbehave.

use crate::place;
use std::fs;
use std::path::Path;

/// A copy of `examples/two-sites` as the demo deploys it, gallery included. Kept pictures are copied.
pub fn two_sites(folder: &Path) {
    let kept = place::cache().join("two-sites");
    let example = place::checkout().join("examples/two-sites");
    let portfolio = folder.join("portfolio");
    if kept.join("portfolio/gallery").is_dir() {
        copy(&kept.join("portfolio/gallery"), &portfolio.join("gallery"));
    }
    xtask::portfolio::prepare(&example, folder).expect("the example can be copied");
    // No authority of the world certifies a lab; tests of HTTPS have one of their own.
    fs::write(folder.join("modules/https.ncl"), "{}\n").expect("a file can be written");
    if !kept.exists() {
        // Published by rename; whoever comes second throws theirs away.
        let own = place::cache().join(format!("two-sites.{}", std::process::id()));
        copy(&portfolio.join("gallery"), &own.join("portfolio/gallery"));
        if fs::rename(&own, &kept).is_err() {
            let _ = fs::remove_dir_all(&own);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("the folder is there").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a file can be copied");
        }
    }
}

/// A project that deploys in seconds: nginx, the static site `site.small`, and the app behind
/// `app.small`, which runs on Debian's Python. Change a field and [`Small::write`] it again.
#[derive(Debug, Clone)]
pub struct Small {
    /// The Debian release that everything comes from.
    pub debian: &'static str,
    /// What the app answers: a changed one is a changed app.
    pub answer: String,
    /// Python that the app runs before it listens; it can end the app, or make it sick (`sick = True`).
    pub prelude: String,
    /// Seconds that the app is given to stop.
    pub stop_timeout: u32,
    /// The content of the site's `index.html`.
    pub page: String,
    /// The body of a Nickel record merged over the server's declaration.
    pub extra: String,
    /// Whether there is the app at all; without it, a deploy needs no package but nginx's.
    pub has_app: bool,
}

impl Default for Small {
    fn default() -> Self {
        Self {
            debian: "bookworm",
            answer: "one".into(),
            prelude: String::new(),
            stop_timeout: 5,
            page: "page one\n".into(),
            extra: String::new(),
            has_app: true,
        }
    }
}

impl Small {
    /// The static site alone, behind a firewall with these options.
    pub fn guarded(options: &str) -> Self {
        let extra = format!("networking.firewall = {{ enable = true, {options} }},");
        Self { extra, has_app: false, ..Self::default() }
    }

    /// Writes the project into this folder, over an earlier one; its lock stays.
    pub fn write(&self, folder: &Path) {
        let put = |path: &str, text: &str| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder can be made");
            fs::write(&path, text).expect("a file can be written");
        };
        put("stead.ncl", &STEAD.replace("@debian@", self.debian));
        put("server.ncl", SERVER);
        let app = if self.has_app { APP } else { "fun { inputs, .. } => {}" };
        put("app.ncl", &app.replace("@stop@", &self.stop_timeout.to_string()));
        put("extra.ncl", &format!("fun {{ inputs, .. }} => {{\n{}\n}}\n", self.extra));
        put("site/index.html", &self.page);
        put("app/server.py", &PYTHON.replace("@answer@", &self.answer).replace("@prelude@", &self.prelude));
    }
}

const STEAD: &str = r#"{
  inputs = {
    debian.url = "debian:@debian@",
    site.url = "path:./site",
    app.url = "path:./app",
  },
  outputs = fun inputs => {
    servers.small = {
      host = "small",
      sshUser = "root",
      modules = [import "server.ncl", import "app.ncl", import "extra.ncl"],
    },
  },
}
"#;

const SERVER: &str = r#"fun { inputs, .. } => {
  services.nginx.virtualHosts."site.small" = {
    root = inputs.site.path,
    locations."/".tryFiles = "$uri $uri/ =404",
  },
}
"#;

const APP: &str = r#"fun { inputs, .. } => {
  apps.hello = {
    source = inputs.app.path,
    exec = "/usr/bin/python3 -u server.py",
    packages = ["python3"],
    port = 5000,
    stopTimeout = @stop@,
    restart.delay = 0,
    health = { path = "/health", deadline = 10 },
  },
  services.nginx.virtualHosts."app.small".locations."/" = {
    proxyPass = "http://127.0.0.1:5000",
    proxyWebsockets = true,
  },
}
"#;

/// `/` answers its text, `/health` whether it is well, `/slow` after three seconds, and `/ws` is a
/// WebSocket that ticks ten times a second; the one of `/quiet` only says back what it is told. Of `/assets` it has one file, named after its text. Told to
/// stop, it finishes what it has begun.
const PYTHON: &str = r#"import base64, hashlib, os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sick = False
@prelude@

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/ws":
            return self.tick()
        if self.path == "/quiet":
            return self.echo()
        if self.path == "/slow":
            print("slow", flush=True)
            time.sleep(3)
        if self.path.startswith("/assets/") and self.path != "/assets/@answer@.css":
            return self.send_error(404)
        ill = sick and self.path == "/health"
        body = b"ill" if ill else b"@answer@"
        self.send_response(503 if ill else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def upgrade(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True

    def tick(self):
        self.upgrade()
        try:
            while True:
                self.wfile.write(b"\x81\x04tick")
                self.wfile.flush()
                time.sleep(0.1)
        except OSError:
            pass

    def echo(self):
        self.upgrade()
        while len(head := self.rfile.read(2)) == 2 and head[0] & 15 != 8:
            mask, said = self.rfile.read(4), self.rfile.read(head[1] & 127)
            said = bytes(byte ^ mask[place % 4] for place, byte in enumerate(said))
            self.wfile.write(bytes([0x81, len(said)]) + said)

    def log_message(self, *words):
        pass

class Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 1024

server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("listening", flush=True)
server.serve_forever()
server.server_close()
"#;
