//! Holding an activation in a phase, for certain.
//!
//! The agent does nothing of weight to a server without asking systemd, by `systemctl` or `systemd-run`. In the lab
//! those go through a script that waits while the newest activation's journal says the phase that is held. So a test
//! can do what it likes to an activation, its operator or the machine at a phase that would be over in a moment.

use crate::lab::Lab;
use crate::wait;
use std::time::Duration;

const SCRIPT: &str = r#"#!/bin/sh
if [ -s /run/hold ]; then
    newest=$(ls -d /var/lib/stead/activations/[0-9]* 2>/dev/null | tail -n 1)
    phase=$(sed -n 's/.*"phase": *"\([a-zA-Z]*\)".*/\1/p' "$newest/record.json" 2>/dev/null)
    if [ "$phase" = "$(cat /run/hold)" ]; then
        echo "$PPID" > /run/held.new && mv /run/held.new /run/held
        while [ -e /run/hold ]; do sleep 0.02; done
    fi
fi
exec "/usr/bin/${0##*/}" "$@"
"#;

/// An activation that stays in a phase until this is dropped or [released](Hold::release).
#[derive(Debug)]
pub struct Hold<'a> {
    lab: &'a Lab,
}

impl<'a> Hold<'a> {
    /// From now on an activation that comes to this phase (as the journal spells it) stays there.
    #[track_caller]
    pub fn at(lab: &'a Lab, phase: &str) -> Self {
        lab.run(&format!(
            "rm -f /run/held; test -e /usr/local/bin/systemctl || {{ cat > /usr/local/bin/systemctl <<'END'\n{SCRIPT}END\n\
             chmod 755 /usr/local/bin/systemctl && ln -s systemctl /usr/local/bin/systemd-run; }}; echo {phase} > /run/hold"
        ));
        Self { lab }
    }

    /// Waits until the activation is held, and tells the process of Stead's that waits for systemd.
    #[track_caller]
    pub fn process(&self) -> u32 {
        let held = wait::until("the activation is held", Duration::from_secs(90), || {
            let held = self.lab.try_run("cat /run/held");
            (held.status == 0).then_some(held.stdout)
        });
        held.trim().parse().expect("the script writes a number")
    }

    /// Lets it go on.
    pub fn release(self) {}
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.lab.try_run("rm -f /run/hold");
    }
}
