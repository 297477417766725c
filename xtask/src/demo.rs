//! The demo: from a bare machine to two sites that answer, and what to try next.
//!
//! Works on a copy of `examples/two-sites` in the target folder, which people may edit. Run again, it
//! deploys again; nothing changed is nothing done.

use crate::run::{Failure, Result, as_root, fail, is_root, step, visibly};
use crate::setup;
use crate::workspace::{Metadata, build};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use xtask::portfolio;

const LAB: &str = "demo";
/// Ports of this machine, and where they lead in the lab.
const HTTP: u16 = 8080;
const HTTPS: u16 = 8443;
const SITES: [&str; 2] = ["billtracker.localhost", "portfolio.localhost"];

/// Runs the demo.
pub(crate) fn run() -> Result {
    let began = Instant::now();
    let metadata = Metadata::load()?;
    step("setup", setup::system)?;
    let program = step("build", || build(&metadata, &["--release", "--package", "stead"], "stead"))?;
    let project = metadata.target_directory.join("two-sites");
    step("example", || Ok(portfolio::prepare(&metadata.workspace_root.join("examples/two-sites"), &project)?))?;
    step("lab", || {
        let forwards = [format!("{HTTP}:80"), format!("{HTTPS}:443")];
        let mut stead = as_root(&program);
        stead.args(["lab", "up", LAB, "--release", "bookworm"]);
        visibly(stead.args(forwards.iter().flat_map(|forward| ["--forward", forward])))
    })?;
    step("deploy", || visibly(as_root(&program).arg("--project").arg(&project).args(["up", "--lab", LAB])))?;
    for site in SITES {
        step(site, || answers(site))?;
    }
    let stead = shortcut(&metadata, &program)?;
    tell(&stead, &project, began.elapsed());
    Ok(())
}

/// Waits until the site answers with success, seen from where a browser is.
fn answers(site: &str) -> Result {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let outcome = ask(site);
        match outcome {
            Ok(line) if line.split(' ').nth(1) == Some("200") => return Ok(()),
            outcome if Instant::now() > deadline => {
                let told = outcome.unwrap_or_else(|Failure(text)| text);
                return fail(format!("http://{site}:{HTTP} does not answer: {told}"));
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn ask(site: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, HTTP))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {site}:{HTTP}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// A short name for the program in what people are told to type: `target/stead`.
fn shortcut(metadata: &Metadata, program: &Path) -> Result<String> {
    let link = metadata.target_directory.join("stead");
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink(program, &link)?;
    let sudo = if is_root() { "" } else { "sudo -E " };
    Ok(format!("{sudo}{}", relative(&link)))
}

fn tell(stead: &str, project: &Path, took: Duration) {
    let project = relative(project);
    println!("\nTwo sites answer, from one declaration ({:.0} s in all):\n", took.as_secs_f64());
    for site in SITES {
        println!("    http://{site}:{HTTP}");
    }
    println!(
        "
change something     edit {project}/portfolio/index.html, {project}/modules/server.ncl, …
see what would do    {stead} --project {project} plan --lab {LAB}
deploy it            {stead} --project {project} up --lab {LAB}     (or `cargo xtask demo` again)
go back              {stead} --project {project} rollback --lab {LAB}
look around          {stead} --project {project} status --lab {LAB}
                     {stead} lab ssh {LAB}
clean up             {stead} lab down {LAB}"
    );
}

/// As seen from where the person is, if it is below.
fn relative(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
