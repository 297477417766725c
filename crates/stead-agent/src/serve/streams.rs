//! Answers that are streams: descriptions, packages, the journal, and the output of commands.
//!
//! Each sends its stream as it comes, and holds none of it in memory. Changes nothing of Stead's. What
//! is started for the operator ends with the operator's connection.

use super::tether::Tether;
use super::{Answer, Error, Session, refused};
use crate::inspect;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use stead_model::hash::Hash;
use stead_model::layout;
use stead_remote::frame::{self, Kind};
use stead_remote::message::{Event, Failure, Reply};

/// The pattern (`journalctl(1)`, `--grep`) of nginx's lines about a site of the active generation; `None`: there is no such site.
fn lines_of_site(site: &str) -> Option<String> {
    let name = site.parse::<stead_model::name::Domain>().ok()?;
    let file = Path::new(layout::ACTIVE).join(format!("nginx/sites/{name}.conf"));
    let text = std::fs::read_to_string(file).ok()?;
    let main = text.lines().find_map(|line| line.trim().strip_prefix("server_name ")?.split([' ', ';']).next())?;
    let main = main.replace('.', "\\.");
    // Its requests, and what nginx says of them.
    Some(format!("^{main}:[0-9]+ |, server: {main},"))
}

impl<R: Read, W: Write> Session<R, W> {
    /// A description and its stream; `None`: all is said.
    pub(super) fn describe(&mut self, id: &Hash) -> Result<Option<Answer>, Error> {
        let Some(generation) = self.generation(Some(*id)) else {
            return Ok(Some(Err(refused(Failure::Unknown, format!("generation {} is not on the server", id.short())))));
        };
        let text = serde_json::to_vec(&generation).map_err(|error| Error::Store(error.to_string()))?;
        let packed = zstd::bulk::compress(&text, 3).map_err(|error| Error::Store(error.to_string()))?;
        self.connection.writer.message(&Reply::Description { size: text.len() as u64 })?;
        for part in packed.chunks(frame::DATA_LIMIT) {
            self.connection.writer.frame(Kind::Data, part)?;
        }
        self.connection.writer.frame(Kind::End, &[])?;
        self.connection.writer.flush()?;
        Ok(None)
    }

    /// A package's file as a stream; `None`: all is said.
    pub(super) fn package(&mut self, sha256: stead_model::hash::Sha256) -> Result<Option<Answer>, Error> {
        let Ok(mut file) = fs::File::open(self.store.package_path(sha256)) else {
            return Ok(Some(Err(refused(
                Failure::Unknown,
                format!("package {} is not on this server", sha256.short()),
            ))));
        };
        let size = file.metadata().map_or(0, |found| found.len());
        self.connection.writer.message(&Reply::Package { size })?;
        let mut buffer = vec![0; 64 << 10];
        // A file that cannot be read to its end ends the stream early; the other side checks the hash.
        while let Ok(count @ 1..) = file.read(&mut buffer) {
            self.connection.writer.frame(Kind::Data, &buffer[..count])?;
        }
        self.connection.writer.frame(Kind::End, &[])?;
        self.connection.writer.flush()?;
        Ok(None)
    }

    pub(super) fn logs(&mut self, of: Option<&str>, lines: u32, follow: bool) -> Result<Answer, Error> {
        let generation = self.generation(self.active());
        let mut units = inspect::units_of(generation.as_ref(), of);
        let site = of.filter(|_| units.is_empty()).and_then(lines_of_site);
        if let (Some(_), Some(nginx)) = (&site, generation.and_then(|generation| generation.nginx)) {
            units.push(nginx.unit.to_string());
        }
        if units.is_empty() {
            let what = of.unwrap_or_default();
            return Ok(Err(refused(
                Failure::Unknown,
                format!("there is no app, service, site or unit `{what}` on the server"),
            )));
        }
        let mut command = std::process::Command::new("journalctl");
        command.args(["--no-pager", "--output=json", "--quiet"]).arg(format!("--lines={lines}"));
        command.args(units.iter().map(|unit| format!("--unit={unit}")));
        command.args(site.map(|pattern| format!("--grep={pattern}")));
        if follow {
            command.arg("--follow");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = match Tether::start(&mut command, &self.line) {
            Ok(running) => running,
            Err(error) => return Ok(Err(refused(Failure::Server, format!("journalctl cannot be run: {error}")))),
        };
        let output = running.child().stdout.take().map(BufReader::new);
        for line in output.into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
            if let Some(event) = log_event(&line) {
                self.event(event)?;
            }
        }
        let _ = running.wait();
        Ok(Ok(Reply::Done {}))
    }

    pub(super) fn exec(&mut self, app: Option<stead_model::name::Name>, command: &[String]) -> Result<Answer, Error> {
        let mut process = match (&app, command) {
            (_, []) => return Ok(Err(refused(Failure::Refused, "there is no command"))),
            (None, [program, arguments @ ..]) => {
                let mut process = std::process::Command::new(program);
                process.args(arguments);
                process
            }
            (Some(app), command) => {
                let generation = self.generation(self.active());
                let known = generation.as_ref().and_then(|generation| inspect::beside_app(generation, app, command));
                match known {
                    Some(process) => process,
                    None => return Ok(Err(refused(Failure::Unknown, format!("no app `{app}` runs on the server")))),
                }
            }
        };
        // Standard input ends at once: what a person types into a command needs a terminal, which is `stead lab ssh`'s or ssh's.
        while !matches!(self.connection.reader.frame()?.kind, Kind::End) {}
        process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = match Tether::start(&mut process, &self.line) {
            Ok(running) => running,
            Err(error) => {
                return Ok(Err(refused(Failure::Unknown, format!("`{}` cannot be run: {error}", command[0]))));
            }
        };
        let errors = running.child().stderr.take();
        let (sender, receiver) = std::sync::mpsc::channel::<(Kind, Vec<u8>)>();
        let mut readers = vec![pump(Kind::Errors, errors, sender.clone())];
        readers.push(pump(Kind::Data, running.child().stdout.take(), sender));
        for (kind, bytes) in receiver {
            self.connection.writer.frame(kind, &bytes)?;
            self.connection.writer.flush()?;
        }
        readers.into_iter().for_each(|reader| drop(reader.join()));
        self.connection.writer.frame(Kind::End, &[])?;
        use std::os::unix::process::ExitStatusExt;
        let code = running
            .wait()
            .map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
            .unwrap_or(127);
        Ok(Ok(Reply::Exited { code }))
    }
}

fn pump(
    kind: Kind,
    from: Option<impl Read + Send + 'static>,
    to: std::sync::mpsc::Sender<(Kind, Vec<u8>)>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let Some(mut from) = from else { return };
        let mut buffer = vec![0; 32 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.send((kind, buffer[..count].to_vec())).is_err() {
                return;
            }
        }
    })
}

/// A line of `journalctl --output=json` (`systemd.journal-fields(7)`).
fn log_event(line: &str) -> Option<Event> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str);
    let message = match value.get("MESSAGE")? {
        serde_json::Value::String(text) => text.clone(),
        // A line that is not UTF-8 comes as an array of bytes.
        serde_json::Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => return None,
    };
    Some(Event::Log {
        unit: text("UNIT").or(text("_SYSTEMD_UNIT")).unwrap_or_default().to_owned(),
        time: text("__REALTIME_TIMESTAMP")?.parse().ok()?,
        priority: text("PRIORITY").and_then(|priority| priority.parse().ok()).unwrap_or(6),
        line: message,
    })
}
