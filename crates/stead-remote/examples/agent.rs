//! The smallest agent: it says hello, takes generations into a store, and publishes them.
//!
//! The program's own agent does more; this one shows what this crate asks of it, and is what the
//! tests of the session run at the other end of a real `ssh`. The store is the folder of the
//! variable `STEAD_EXAMPLE_STORE`.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use stead_remote::agent::own_hash;
use stead_remote::frame::{Connection, Error};
use stead_remote::message::{Failed, Failure, Hello, Machine, PROTOCOL, Reply, Request};
use stead_remote::transfer::{ReceiveError, lacking_packages, receive};
use stead_store::Store;

fn main() -> ExitCode {
    let root = PathBuf::from(std::env::var_os("STEAD_EXAMPLE_STORE").unwrap_or_else(|| "stead-example".into()));
    match serve(root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(root: PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::open(&root.join("state"))?;
    let mut connection = Connection::new(io::stdin().lock(), io::stdout().lock());
    connection.send(&hello(&store)?)?;
    loop {
        let reply = match connection.receive() {
            Err(Error::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(Request::Stage(offer)) => {
                let guard = Store::lock(&root.join("lock"))?.ok_or("somebody else holds the lock")?;
                let mut lacking = |generation: &_| Ok(lacking_packages(&store, generation));
                match receive(&mut connection, &offer, &store, &guard, None, &mut lacking) {
                    Ok(generation) => {
                        store.publish(&guard, &generation)?;
                        Reply::Staged { generation: generation.id() }
                    }
                    Err(ReceiveError::Refused(failed)) => Reply::Failed(failed),
                    Err(ReceiveError::Broken(failed)) => {
                        connection.send(&Reply::Failed(failed))?;
                        return Err("the client is in the middle of a stream".into());
                    }
                    Err(ReceiveError::Line(error)) => return Err(error.into()),
                }
            }
            Ok(other) => Reply::Failed(Failed { kind: Failure::Refused, what: format!("{other:?}"), hint: None }),
        };
        connection.send(&reply)?;
    }
}

fn hello(store: &Store) -> Result<Hello, Box<dyn std::error::Error>> {
    Ok(Hello {
        protocol: PROTOCOL,
        agent: own_hash()?,
        machine: Machine {
            hostname: "example".to_owned(),
            system: "example".to_owned(),
            architecture: "amd64".to_owned(),
            memory_kib: 0,
            cores: 1,
            free: store.space()?,
        },
        active: None,
        confirmed: None,
        running: None,
        generations: store.generations()?,
        pins: Vec::new(),
        server: None,
    })
}
