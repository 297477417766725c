//! `stead adopt`: looks at a machine before anything of Stead's is on it, and makes it a server of the project.
//!
//! The look is a script that reads (`adopt/look.sh`). Promises that a machine which does not fit is left without a trace, that
//! nothing of network, boot or other services is changed, and that the host key is in the project afterwards.

mod machine;

use crate::arguments::{Global, Target};
use crate::connect;
use crate::failure::{Failure, chain};
use crate::output::Output;
use crate::project;
use machine::Machine;
use serde_json::json;
use stead_model::name::Name;
use stead_remote::destination::Destination;
use stead_remote::message::{Reply, Request};
use stead_secrets::folder::{Held, Secrets};
use stead_secrets::key::PublicKey;

const LOOK: &str = include_str!("adopt/look.sh");

/// Looks at a machine, and unless only that is wanted, adopts it.
pub(crate) fn adopt(global: &Global, target: &Target, only_look: bool, output: &mut Output) -> Result<(), Failure> {
    let loaded = project::load(&global.project, output)?;
    let server = loaded.server(target.server.as_deref())?;
    let destination = connect::destination(server, target)?;
    output.phase("look");
    let machine = look(&destination, output)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    output.finish();
    output.data(&format!("{} · {}", server.name, destination.host()));
    output.data(machine.describe().trim_end());
    let remarks = machine.remarks(now);
    remarks.iter().for_each(|remark| output.say(&format!("  note: {remark}")));
    let problems = machine.problems();
    if !problems.is_empty() {
        return Err(Failure::request(format!("{} cannot be adopted: {}", destination.host(), problems.join("; and ")))
            .hint("nothing was left there; choose another machine, or change this one and look again"));
    }
    let mut document = json!({ "server": server.name, "machine": machine, "remarks": remarks, "adopted": !only_look });
    if only_look {
        output.json(&document);
        output.data("it can be adopted: `stead adopt` does it, and `stead leave` takes it back");
        return Ok(());
    }
    let key = host_key(&machine, &destination)?;
    let mut connected = connect::begin(server, target)?.join(output)?;
    let reply = connected.ask(&Request::Adopt {}, |_, _| Ok(()))?;
    if reply != (Reply::Done {}) {
        return Err(Failure::before("the agent answered something else"));
    }
    let learned = record_host_key(global, &server.name, key)?;
    document["hostKey"] = json!(learned.word());
    output.json(&document);
    output.data("adopted: the agent and the systemd generator are there, and nothing else");
    output.data(learned.words());
    output.say("next: `stead up`; `stead leave` gives the machine back");
    Ok(())
}

fn look(destination: &Destination, output: &Output) -> Result<Machine, Failure> {
    let read = connect::read_as_root(destination, LOOK, output)?;
    Machine::parse(&read.text).ok_or_else(|| {
        Failure::before(format!("{}: the look did not come to its end\n{}", destination.host(), read.said))
    })
}

fn host_key(machine: &Machine, destination: &Destination) -> Result<PublicKey, Failure> {
    let what = |words: String| Failure::request(format!("{}: {words}", destination.host()));
    let hint = "make one on the server with `ssh-keygen -A`, and restart sshd";
    let text = machine.host_key.as_ref().ok_or_else(|| what("it has no ssh-ed25519 host key".to_owned()).hint(hint))?;
    text.parse().map_err(|error| what(format!("its host key is strange: {error}")))
}

/// What became of the host key in `secrets/readers.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Learned {
    New,
    Changed,
    Known,
}

impl Learned {
    fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Known => "known",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::New => "its host key is in secrets/readers.toml: after `stead secret rekey` it can read what it may",
            Self::Changed => {
                "its host key is another one than before: secrets/readers.toml has the new one; run `stead secret rekey` now"
            }
            Self::Known => "its host key is the one in secrets/readers.toml",
        }
    }
}

/// Writes a server's host key into the project.
fn record_host_key(global: &Global, server: &Name, key: PublicKey) -> Result<Learned, Failure> {
    let failed = |error: stead_secrets::folder::FolderError| Failure::request(chain(&error));
    let held = Held::wait(&global.project).map_err(failed)?;
    let mut readers = Secrets::load(&global.project).map_err(failed)?.readers;
    let learned = match readers.servers().get(server.as_str()) {
        Some(known) if *known == key => return Ok(Learned::Known),
        Some(_) => Learned::Changed,
        None => Learned::New,
    };
    readers.set_server(server.clone(), key);
    held.write(Some(&readers), &std::collections::BTreeMap::new()).map_err(failed)?;
    Ok(learned)
}
