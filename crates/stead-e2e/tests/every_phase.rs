//! What may happen in the middle of a deploy, in every phase that the journal knows: the activation is killed, or
//! nobody can reach the server any more. Afterwards, without any help, the server is wholly in one of the two
//! generations, the record says how it ended, and visitors did not notice.

use std::process::{Child, Stdio};
use std::time::Duration;
use stead_e2e::hold::Hold;
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage, nobody_noticed, wait};

/// Every phase in which an activation acts or waits, and whether what is interrupted there is live in the end.
const PHASES: [(&str, bool); 6] = [
    ("staged", false),
    ("starting", false),
    ("onTrial", false),
    ("proved", false),
    ("goingBack", false),
    ("confirmed", true),
];

/// A server that runs a generation, and one after another that is deployed there.
struct Server<'a> {
    stage: &'a Stage,
    small: Small,
    /// What runs, with the app's answer and the page.
    parent: (String, String, String),
}

impl<'a> Server<'a> {
    fn new(stage: &'a Stage) -> Self {
        let small = Small::default();
        let parent = (stage.stead(&["up"]).well().text("generation"), small.answer.clone(), small.page.clone());
        Self { stage, small, parent }
    }

    /// Begins to deploy another app and another page. One that is to go back is never confirmed.
    fn begin(&mut self, phase: &str) -> Child {
        self.small.answer = format!("changed at {phase}");
        self.small.page = format!("page of {phase}\n");
        self.small.write(&self.stage.project);
        let goes_back: &[&str] = &["up", "--no-confirm", "--confirm-deadline", "1"];
        let waits: &[&str] = &["up", "--no-confirm", "--confirm-deadline", "60"];
        let words = match phase {
            "goingBack" => goes_back,
            "proved" => waits,
            _ => &["up", "--confirm-deadline", "3"],
        };
        let mut command = self.stage.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program under test can be run")
    }

    fn journalled(&self) -> String {
        let phase = r#"sed -n 's/.*"phase": *"\([a-zA-Z]*\)".*/\1/p' $(ls -d /var/lib/stead/activations/[0-9]* | tail -n 1)/record.json"#;
        self.stage.lab.run(phase)
    }

    /// Waits until the journal says that it has ended, and compares all that can be seen with how it should have.
    fn ended(&mut self, phase: &str, is_live: bool) {
        wait::until_is(
            &format!("the end of what was interrupted at {phase}"),
            Duration::from_secs(90),
            if is_live { "done" } else { "wentBack" }.to_owned(),
            || self.journalled(),
        );
        let status = self.stage.stead(&["status"]).well().json();
        let active = status["active"].as_str().expect("a generation runs").to_owned();
        assert_eq!(active == self.parent.0, !is_live, "{phase}: {status}");
        assert_eq!(status["confirmed"].as_str(), Some(&*active), "{phase}");
        if is_live {
            self.parent = (active, self.small.answer.clone(), self.small.page.clone());
        }
        let (_, answer, page) = &self.parent;
        let served = || (self.stage.get("app.small", "/").body, self.stage.get("site.small", "/").body);
        assert_eq!(served(), (answer.clone(), page.clone()), "{phase}");
        wait::until_is(&format!("instances of the app after {phase}"), Duration::from_secs(40), 1, || {
            self.stage.lab.units("stead-hello@*").len()
        });
        let last = self.stage.stead(&["history", "-n", "1"]).well().json()[0].clone();
        assert_eq!(last["phase"], if is_live { "done" } else { "wentBack" }, "{phase}: {last}");
        assert_eq!(last["reason"].is_string(), !is_live, "{phase}: {last}");
        assert_eq!(served(), (answer.clone(), page.clone()), "{phase}");
    }
}

#[test]
fn an_activation_that_is_killed_in_any_phase_is_taken_up_by_the_server_itself() {
    let stage = Stage::with_small(&Small::default(), Machine::bookworm());
    let mut server = Server::new(&stage);
    let visitors = stage.visitors(&[("app.small", "/"), ("site.small", "/")], &[]);
    for (phase, is_live) in PHASES {
        // Nothing is asked of systemd while the login is awaited: there is time enough without being held.
        let hold = (phase != "proved").then(|| Hold::at(&stage.lab, phase));
        let deploy = server.begin(phase);
        let process = match &hold {
            Some(hold) => hold.process().to_string(),
            None => {
                wait::until_is("the phase", Duration::from_secs(90), phase.to_owned(), || server.journalled());
                stage.lab.run("systemctl show --value -p MainPID 'stead-activation-*.service' | grep -v '^0*$'")
            }
        };
        assert_eq!(server.journalled(), phase);
        stage.lab.run(&format!("kill -9 {process}"));
        drop(hold);
        if phase == "staged" {
            // Its own service had not begun yet: whoever comes next takes it up, and until then nothing has happened.
            stage.stead(&["status"]).well();
        }
        server.ended(phase, is_live);
        let told = deploy.wait_with_output().expect("the program under test ends");
        let code = told.status.code();
        let wanted: &[i32] = match phase {
            "staged" => &[3, 4],
            "confirmed" => &[0],
            _ => &[4],
        };
        assert!(code.is_some_and(|code| wanted.contains(&code)), "{phase}: {told:?}");
    }
    nobody_noticed(visitors);
    // And the next one just works.
    server.small.answer = "at last".into();
    server.small.write(&stage.project);
    stage.stead(&["up"]).well();
    assert_eq!(stage.get("app.small", "/").body, "at last");
    stage.stead(&["verify"]).well();
}

#[test]
fn a_server_that_nobody_can_reach_any_more_ends_its_deploy_by_itself_whatever_the_phase() {
    let stage = Stage::with_small(&Small::default(), Machine::bookworm());
    let mut server = Server::new(&stage);
    let visitors = stage.visitors(&[("app.small", "/"), ("site.small", "/")], &[]);
    for (phase, is_live) in PHASES {
        let hold = (phase != "proved").then(|| Hold::at(&stage.lab, phase));
        let deploy = server.begin(if phase == "proved" { "goingBack" } else { phase });
        match &hold {
            Some(hold) => drop(hold.process()),
            None => wait::until_is("the phase", Duration::from_secs(90), phase.to_owned(), || server.journalled()),
        }
        // Nothing of SSH arrives any more, without a word to either side; visitors come and go.
        stage.lab.run(
            "nft add table inet cut && nft 'add chain inet cut input { type filter hook input priority -10; }' && \
             nft add rule inet cut input tcp dport 22 drop",
        );
        drop(hold);
        let end = if is_live { "done" } else { "wentBack" };
        wait::until_is("the end without an operator", Duration::from_secs(90), end.to_owned(), || server.journalled());
        stage.lab.run("nft delete table inet cut");
        server.ended(phase, is_live);
        let told = deploy.wait_with_output().expect("the program under test ends");
        assert_eq!(told.status.code(), Some(if is_live { 0 } else { 4 }), "{phase}: {told:?}");
    }
    nobody_noticed(visitors);
}
