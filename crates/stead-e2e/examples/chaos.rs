//! The long run of power cuts on one Debian release: `cargo xtask chaos` starts it.
//!
//! Every server is cut in its first deploy, and then by turns in later ones and in rollbacks. One that
//! is not as promised is told and left, and the next one begins anew. Every cut is a line of the
//! result, written at once: a run that is broken off has told what it saw.
#![expect(clippy::print_stderr, reason = "a program speaks")]

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
    let (mut done, mut is_well) = (0, true);
    while done < cuts {
        let mut server = Server::boot(machine, debian, rng.u64(..));
        for kind in KINDS.into_iter().take((cuts - done) as usize) {
            let (line, as_promised) = match catch_unwind(AssertUnwindSafe(|| server.cut(kind))) {
                Ok(cut) => (serde_json::to_string(&cut)?, true),
                Err(panic) => {
                    let words = panic.downcast_ref::<String>().map_or("a panic without words", String::as_str);
                    (serde_json::json!({ "kind": kind, "failure": words }).to_string(), false)
                }
            };
            done += 1;
            eprintln!("{done}/{cuts} {line}");
            writeln!(result, "{line}")?;
            if !as_promised {
                is_well = false;
                break;
            }
        }
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
