//! Giving a lab another size: a container at once, a machine by switching it off and on.

use crate::error::Error;
use crate::group;
use crate::keeper::{Running, save};
use crate::lab::Lab;
use crate::labs::{Event, require_root};
use crate::specification::Specification;
use std::process::Stdio;
use std::time::Duration;

/// How long a machine may take to power off before its power is cut.
const PATIENCE: Duration = Duration::from_secs(60);

impl Lab {
    /// Gives the lab another size. A running container gets other limits; a running virtual machine
    /// is shut down and booted, as a droplet is. A stopped lab has its new size from its next boot on.
    pub fn resize(
        &mut self,
        cpus: Option<u32>,
        memory_mib: Option<u32>,
        events: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        require_root()?;
        let _held = self.lock()?;
        let running = self.running();
        let mut wanted = self.specification.clone();
        wanted.cpus = cpus.unwrap_or(wanted.cpus);
        wanted.memory_mib = memory_mib.unwrap_or(wanted.memory_mib);
        if let Some(running) = &running {
            if self.machinery().is_limited_from_outside() {
                self.limit(running, &wanted)?;
            } else {
                self.shut_down(running, events)?;
            }
        }
        save(&self.folder().join("lab.json"), &wanted)?;
        self.specification = wanted;
        match running {
            Some(_) if !self.machinery().is_limited_from_outside() => self.start(events),
            _ => Ok(()),
        }
    }

    fn limit(&self, running: &Running, wanted: &Specification) -> Result<(), Error> {
        let not_resized = |reason| Error::NotResized { name: self.name().clone(), reason };
        group::limit_memory(&running.groups, wanted.memory_mib).map_err(not_resized)?;
        let allowed = group::allowed_cpus().map_err(|error| not_resized(format!("CPUs: {error}")))?;
        group::restrict_cpus_of(&running.groups, &allowed, wanted.cpus, running.link)
            .map_err(|error| not_resized(format!("CPUs: {error}")))
    }

    /// Asks the lab to power off. One that does not within a minute is cut.
    fn shut_down(&self, running: &Running, events: &mut dyn FnMut(Event)) -> Result<(), Error> {
        events(Event::ShuttingDown);
        // The line may break before there is an answer; what counts is the end.
        let _ = self.quiet_ssh().args(["systemctl", "poweroff"]).stdin(Stdio::null()).output();
        let _ = running.init.wait(PATIENCE);
        self.stop(running)
    }
}
