//! The two sites of the example in a real browser, over HTTPS that it trusts.

#![expect(clippy::unwrap_used, reason = "in a test, a panic with the error is the report")]

use serde_json::{Value, json};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use stead_e2e::authority::Authority;
use stead_e2e::lab::Machine;
use stead_e2e::{Stage, wait};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

const APP: &str = "billtracker.localhost";
const SITE: &str = "portfolio.localhost";

/// A headless Chromium with a home of its own, in which the test authority alone is added to what it trusts.
struct Browser {
    page: WebSocket<MaybeTlsStream<TcpStream>>,
    asked: u64,
    _process: Running,
}

/// A child that ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Browser {
    /// Starts one, for which the two names are this stage's server, and no other name is anything.
    fn open(stage: &Stage, root: &Path) -> Self {
        let home = stage.lab.folder().join("browser");
        let database = home.join(".pki/nssdb");
        fs::create_dir_all(&database).unwrap();
        let certutil = |words: &[&str]| {
            let mut certutil = Command::new("certutil");
            certutil.arg("-d").arg(format!("sql:{}", database.display())).args(words);
            let output = certutil.output().expect("certutil is there: `cargo xtask setup` installs libnss3-tools");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        certutil(&["-N", "--empty-password"]);
        certutil(&["-A", "-n", "test authority", "-t", "C,,", "-i", root.to_str().unwrap()]);
        let (profile, address) = (home.join("profile"), stage.lab.address());
        let rules = format!("MAP {APP} {address}, MAP {SITE} {address}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1");
        let mut chromium = Command::new("chromium");
        chromium.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
        chromium.args(["--disable-background-networking", "--disable-component-update", "--disable-extensions"]);
        chromium.args(["--remote-debugging-port=0", "about:blank"]);
        chromium.arg(format!("--user-data-dir={}", profile.display())).arg(format!("--host-resolver-rules={rules}"));
        chromium.env("HOME", &home).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        chromium.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(home.join("said")).unwrap());
        let process = Running(chromium.spawn().expect("chromium is there: `cargo xtask setup` installs it"));
        let port: u16 = wait::until("the browser can be told what to do", Duration::from_secs(60), || {
            fs::read_to_string(profile.join("DevToolsActivePort")).ok()?.lines().next()?.parse().ok()
        });
        let debugger = wait::until("the browser has a page", Duration::from_secs(30), || {
            let list = format!("http://127.0.0.1:{port}/json/list");
            let answer = Command::new("curl").args(["--silent", "--noproxy", "*", "--max-time", "5", &list]).output();
            let targets: Vec<Value> = serde_json::from_slice(&answer.ok()?.stdout).ok()?;
            let page = targets.iter().find(|target| target["type"] == "page")?;
            page["webSocketDebuggerUrl"].as_str().map(str::to_owned)
        });
        let (page, _) = tungstenite::connect(debugger).unwrap();
        Self { page, asked: 0, _process: process }
    }

    /// A command of the DevTools protocol, and its result.
    fn tell(&mut self, method: &str, parameters: &Value) -> Value {
        self.asked += 1;
        let words = json!({ "id": self.asked, "method": method, "params": parameters });
        self.page.send(Message::text(words.to_string())).unwrap();
        loop {
            let said: Value = serde_json::from_str(self.page.read().unwrap().to_text().unwrap()).unwrap();
            if said["id"] == self.asked {
                return said["result"].clone();
            }
        }
    }

    fn visit(&mut self, url: &str) {
        let result = self.tell("Page.navigate", &json!({ "url": url }));
        assert_eq!(result["errorText"], Value::Null, "{url}");
    }

    /// What an expression is in the page, as text.
    fn ask(&mut self, expression: &str) -> String {
        let result = self.tell("Runtime.evaluate", &json!({ "expression": format!("String({expression})") }));
        result["result"]["value"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn a_browser_opens_both_sites_over_https_and_sees_the_clock_tick() {
    let stage = Stage::with_two_sites(Machine::bookworm());
    let authority = Authority::beside(&stage.lab, 0);
    let tls = "enableACME = true, forceSSL = true";
    let module = format!(
        "{{\n  services.nginx.virtualHosts.\"{APP}\" = {{ {tls} }},\n  services.nginx.virtualHosts.\"{SITE}\" = {{ {tls} }},\n  \
         security.acme = {{ {} }},\n}}\n",
        authority.declared(&stage.project.join("modules"))
    );
    fs::write(stage.project.join("modules/tls-of-test.ncl"), module).unwrap();
    let project = fs::read_to_string(stage.project.join("stead.ncl")).unwrap();
    let last = "        inputs.billtracker.module,\n";
    assert!(project.contains(last), "{project}");
    let with_tls = format!("{last}        import \"modules/tls-of-test.ncl\",\n");
    fs::write(stage.project.join("stead.ncl"), project.replace(last, &with_tls)).unwrap();
    stage.stead(&["update"]).well();
    let began = Instant::now();
    let deploy = stage.stead(&["deploy"]).well();
    eprintln!("two sites, from nothing to certificates: {:.1?}, {}", began.elapsed(), deploy.json()["phases"]);
    assert_eq!(deploy.json()["notes"].as_array().map(Vec::len), Some(0), "{deploy}");

    let mut browser = Browser::open(&stage, &authority.root());
    // By the plain name, as somebody types it.
    browser.visit(&format!("http://{SITE}/"));
    wait::until("the portfolio is shown", Duration::from_secs(20), || {
        (browser.ask("document.title") == "N. Example, portfolio").then_some(())
    });
    assert_eq!(browser.ask("location.href"), format!("https://{SITE}/"));
    wait::until("its pictures are there", Duration::from_secs(20), || {
        (browser.ask("[...document.images].every(image => image.complete && image.naturalWidth > 0)") == "true")
            .then_some(())
    });
    assert_eq!(browser.ask("performance.getEntriesByType('navigation')[0].nextHopProtocol"), "h2");

    browser.visit(&format!("https://{APP}/"));
    let is_time = |text: &String| text.len() == 8 && text.matches(':').count() == 2;
    let clock = "document.getElementById('clock')?.textContent";
    let first =
        wait::until("the clock shows a time", Duration::from_secs(20), || Some(browser.ask(clock)).filter(is_time));
    wait::until("it ticks", Duration::from_secs(20), || {
        Some(browser.ask(clock)).filter(|now| is_time(now) && *now != first)
    });
    assert_eq!(browser.ask("isSecureContext && location.protocol"), "https:");
    assert_eq!(browser.ask("performance.getEntriesByType('navigation')[0].nextHopProtocol"), "h2");
}
