//! The long run of power cuts on one Debian release: `cargo xtask chaos` starts it.
//!
//! Every server is cut in its first deploy, and then by turns in later ones and in rollbacks. One that
//! is not as promised is told and left, and the next one begins anew. At its end each is given back, and compared
//! with what it was; every other one was adopted at first. Every cut, and every giving back, is a line of the
//! result, written at once: a run that is broken off has told what it saw.
#![expect(clippy::print_stderr, reason = "a program speaks")]

use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use stead_e2e::lab::Machine;
use stead_e2e::power::{Kind, Server};

type Failure = Box<dyn std::error::Error>;

/// The order in which one server is cut.
const KINDS: [Kind; 5] = [Kind::FirstDeploy, Kind::Deploy, Kind::Rollback, Kind::Deploy, Kind::Rollback];

fn main() -> Result<ExitCode, Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [release, cuts, seed, result] = &words[..] else {
        eprintln!("usage: chaos RELEASE CUTS SEED RESULT");
        return Ok(ExitCode::from(2));
    };
    let (machine, debian) = match release.as_str() {
        "bookworm" => (Machine::bookworm(), "bookworm"),
        "trixie" => (Machine::trixie(), "trixie"),
        other => return Err(format!("no Debian release `{other}`").into()),
    };
    let (cuts, mut result): (u32, File) = (cuts.parse()?, File::create(result)?);
    let mut rng = fastrand::Rng::with_seed(seed.parse()?);
    let (mut done, mut is_well, mut adopt) = (0, true, false);
    let mut tell = |line: &str| -> std::io::Result<()> {
        eprintln!("{line}");
        writeln!(result, "{line}")
    };
    while done < cuts {
        let mut server = Server::boot(machine, debian, rng.u64(..));
        adopt = !adopt;
        server.look(adopt);
        let mut is_whole = true;
        for kind in KINDS.into_iter().take((cuts - done) as usize) {
            let cut = caught(|| server.cut(kind));
            done += 1;
            match cut {
                Ok(cut) => tell(&serde_json::to_string(&cut)?)?,
                Err(failure) => {
                    tell(&json!({ "kind": kind, "failure": failure }).to_string())?;
                    is_whole = false;
                    break;
                }
            }
        }
        if is_whole {
            let failure = caught(|| server.give_back()).err();
            is_whole = failure.is_none();
            tell(&json!({ "kind": "leave", "adopted": adopt, "failure": failure }).to_string())?;
        }
        is_well &= is_whole;
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What this returns, or the words of its panic.
fn caught<T>(what: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(what)).map_err(|panic| {
        panic.downcast_ref::<String>().map_or_else(|| "a panic without words".to_owned(), Clone::clone)
    })
}
