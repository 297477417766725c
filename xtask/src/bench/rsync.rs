//! What `rsync -az` sends for the same change, over the same ssh configuration: the measure of bytes sent.
//!
//! The lab has no rsync: this machine's own one is copied there with the libraries that it needs.
//! Writes below `/root/bench` of the lab only.

use super::said;
use super::server::Server;
use crate::run::{Failure, Result, command, fail, output};
use std::path::Path;
use std::process::Stdio;

const THERE: &str = "/root/bench";

/// Brings rsync to the lab.
pub(crate) fn install(server: &Server) -> Result {
    let program = output(command("sh").args(["-c", "command -v rsync"]))?.trim().to_owned();
    let linked = output(command("ldd").arg(&program))?;
    // `libz.so.1 => /lib/…/libz.so.1 (0x…)`, and the loader as a path of its own.
    let files: Vec<&str> = linked.split_whitespace().filter(|word| word.starts_with('/')).collect();
    let loader = files.iter().find(|file| file.contains("/ld-")).copied();
    let Some(loader) = loader else { return fail(format!("{program} has no loader")) };
    let mut tar = command("tar");
    tar.args(["--create", "--dereference", "--absolute-names", "--transform=s,.*/,,", &program]).args(&files);
    let mut tar = tar.stdout(Stdio::piped()).spawn()?;
    let unpack = server
        .ssh(&format!("mkdir -p {THERE}/bin {THERE}/copies && tar --extract --directory {THERE}/bin"))
        .stdin(tar.stdout.take().map_or_else(Stdio::null, Stdio::from))
        .output()?;
    if !tar.wait()?.success() || !unpack.status.success() {
        return Err(said("copying rsync to the lab", &unpack));
    }
    let loader = Path::new(loader).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let script = format!(
        "printf '#!/bin/sh\\nexec {THERE}/bin/{loader} --library-path {THERE}/bin {THERE}/bin/rsync \"$@\"\\n' > {THERE}/rsync && chmod +x {THERE}/rsync"
    );
    server.shell(&script).map(drop)
}

/// Brings a copy on the lab up to date; returns the bytes that were sent for it, before ssh's own.
pub(crate) fn send(server: &Server, folder: &Path, copy: &str) -> Result<u64> {
    let source = format!("{}/", folder.display());
    run(server, &source, &format!("{}:{THERE}/copies/{copy}/", server.host()))
}

/// Brings a folder of the lab to this machine.
pub(crate) fn fetch(server: &Server, there: &str, here: &Path) -> Result {
    std::fs::create_dir_all(here)?;
    run(server, &format!("{}:{there}/", server.host()), &format!("{}/", here.display())).map(drop)
}

fn run(server: &Server, from: &str, to: &str) -> Result<u64> {
    let mut rsync = command("rsync");
    rsync.args(["-az", "--delete", "--stats", "--no-human-readable"]);
    rsync.arg(format!("--rsync-path={THERE}/rsync")).arg("-e").arg(server.ssh_words().join(" ")).args([from, to]);
    sent(&output(rsync.env("LC_ALL", "C"))?)
}

/// `Total bytes sent: 1,234`
fn sent(text: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Total bytes sent: "));
    let Some(number) = line else { return fail("rsync does not tell how much it sent") };
    number.replace(',', "").trim().parse().map_err(Failure::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_that_rsync_sent_are_read() {
        let text = "File list size: 0\nTotal bytes sent: 1,234\nTotal bytes received: 56\n";
        assert_eq!(sent(text).ok(), Some(1234));
        assert!(sent("nothing").is_err());
    }
}
