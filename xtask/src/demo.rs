//! The demo: from a bare machine to two sites that answer over HTTPS, and what to try next.
//!
//! Their certificates are of a test authority (`pebble`) that runs as long as the demo. Works on a copy of `examples/two-sites` in the target folder, which people may edit. Run again, it
//! deploys again; nothing changed is nothing done.

use crate::run::{Failure, Result, as_root, command, fail, is_root, output, step, visibly};
use crate::setup;
use crate::workspace::{Metadata, build};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use xtask::pebble::{Options, Pebble};
use xtask::portfolio;

const LAB: &str = "demo";
/// Ports of this machine, and where they lead in the lab.
const HTTP: u16 = 8080;
const HTTPS: u16 = 8443;
/// The port of the authority, on this machine's end of the lab's cable: the same in every run, so that nothing changes.
const AUTHORITY: u16 = 14000;
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
    let authority = step("authority", || authority(&metadata, &program, &project))?;
    step("deploy", || visibly(as_root(&program).arg("--project").arg(&project).args(["up", "--lab", LAB])))?;
    let root = metadata.target_directory.join("demo-authority/root-of-sites.pem");
    for site in SITES {
        step(site, || answers(site).and_then(|()| is_trusted(site, &root, &authority)))?;
    }
    let stead = shortcut(&metadata, &program)?;
    tell(&stead, &project, &root, began.elapsed());
    Ok(())
}

/// Starts the authority for the lab, where the last demo's was, and declares it in the working copy: in the place of what the
/// example says, unless somebody edited that.
fn authority(metadata: &Metadata, program: &Path, project: &Path) -> Result<Pebble> {
    let listed = output(as_root(program).args(["lab", "list", "--json"]))?;
    let listed: serde_json::Value =
        serde_json::from_str(&listed).map_err(|error| Failure(format!("{listed}: {error}")))?;
    let labs = listed["result"].as_array().into_iter().flatten();
    let lab = labs.into_iter().find(|lab| lab["name"] == LAB).and_then(|lab| lab["address"].as_str()?.parse().ok());
    let Some(IpAddr::V4(address)) = lab else { return fail(format!("the lab `{LAB}` has no address: {listed}")) };
    // The other end of the lab's own cable.
    let here = Ipv4Addr::from_bits(address.to_bits() - 1);
    let pebble = Pebble::start(Options {
        listen: here.into(),
        port: AUTHORITY,
        http_port: 80,
        address,
        identity: Some(metadata.target_directory.join("demo-authority")),
        ..Options::default()
    });
    let (module, of_example) =
        (project.join("modules/https.ncl"), metadata.workspace_root.join("examples/two-sites/modules/https.ncl"));
    let (text, example) = (fs::read_to_string(&module)?, fs::read_to_string(of_example)?);
    let declared = format!(
        "    # The demo's own authority, in the place of Let's Encrypt.\n    defaults.server = \"{}\",\n    \
         defaults.rootCertificates = import \"authority.pem\" as 'Text,\n",
        pebble.directory()
    );
    let wanted = example.replacen("    defaults.email", &format!("{declared}    defaults.email"), 1);
    if text != wanted && (text == example || text.contains("# The demo's own authority")) {
        fs::write(&module, &wanted)?;
    }
    fs::write(project.join("modules/authority.pem"), pebble.roots())?;
    Ok(pebble)
}

/// Whether the site's certificate is the authority's; its root is kept for people.
fn is_trusted(site: &str, root: &Path, authority: &Pebble) -> Result {
    let trusted = || {
        let mut curl = command("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "10", "--output", "/dev/null", "--cacert"])
            .arg(root);
        output(curl.arg("--connect-to").arg(format!("::127.0.0.1:{HTTPS}")).arg(format!("https://{site}/"))).map(drop)
    };
    if root.exists() && trusted().is_ok() {
        return Ok(());
    }
    // The authority has another one whenever it starts.
    fs::write(root, authority.issuing_root())?;
    trusted()
}

/// Whether an answer leads to the site over HTTPS, by the port that is forwarded to the lab.
fn leads_on(answer: &str, site: &str) -> bool {
    answer.starts_with("HTTP/1.1 301 ") && answer.contains(&format!("\r\nLocation: https://{site}:{HTTPS}/\r\n"))
}

/// Waits until the site leads to HTTPS, seen from where a browser is.
fn answers(site: &str) -> Result {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let outcome = ask(site);
        match outcome {
            Ok(answer) if leads_on(&answer, site) => return Ok(()),
            outcome if Instant::now() > deadline => {
                let told = outcome.unwrap_or_else(|Failure(text)| text);
                return fail(format!("http://{site}:{HTTP} does not lead to https://{site}:{HTTPS}: {told}"));
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
    Ok(answer)
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

fn tell(stead: &str, project: &Path, root: &Path, took: Duration) {
    let project = relative(project);
    println!("\nTwo sites answer, from one declaration ({:.0} s in all):\n", took.as_secs_f64());
    for site in SITES {
        println!("    http://{site}:{HTTP}  leads to  https://{site}:{HTTPS}");
    }
    println!(
        "\nTheir certificates are of a test authority, of which a browser warns unless it trusts {}:\n\n    \
         curl --cacert {0} https://{}:{HTTPS}/",
        relative(root),
        SITES[1]
    );
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
