//! A deploy that locks the operator out, in one way or another: the server lets them in again by itself, when the
//! deadline of the confirmation is over, and runs what ran before.

use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage, nobody_noticed};

/// A service of the host that does something when it starts, and takes it back when it stops.
fn service(start: &str, stop: &str) -> String {
    format!(
        r#"
        systemd.services.lockout = {{
          wantedBy = ["multi-user.target"],
          serviceConfig = {{
            Type = "oneshot",
            RemainAfterExit = true,
            ExecStart = "/bin/sh -c '{start}'",
            ExecStop = "/bin/sh -c '{stop}'",
          }},
        }},"#
    )
}

#[test]
fn whoever_deploys_their_own_lockout_is_let_in_again_when_the_deadline_is_over() {
    let good = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&good, Machine::bookworm());
    let parent = stage.stead(&["up"]).well().text("generation");
    stage.lab.ssh("true").well();
    let broken = "/etc/ssh/sshd_config.d/broken.conf";
    let ways = [
        ("sshd stopped", service("systemctl stop ssh", "systemctl start ssh")),
        (
            "sshd's configuration broken",
            service(
                &format!("echo Nonsense yes > {broken}; systemctl restart ssh || true"),
                &format!("rm {broken}; systemctl reset-failed ssh; systemctl restart ssh"),
            ),
        ),
        (
            "every login refused",
            service(
                &format!("echo DenyUsers root > {broken}; systemctl restart ssh"),
                &format!("rm {broken}; systemctl restart ssh"),
            ),
        ),
        (
            "port 22 closed by the firewall",
            service(
                "nft add table inet closed && \
                 nft \\\"add chain inet closed input { type filter hook input priority 0; }\\\" && \
                 nft add rule inet closed input tcp dport 22 drop",
                "nft delete table inet closed",
            ),
        ),
    ];
    let visitors = stage.visitors(&[("site.small", "/")], &[]);
    for (way, extra) in ways {
        Small { extra, page: format!("{way}\n"), ..good.clone() }.write(&stage.project);
        let told = stage.stead(&["up", "--confirm-deadline", "4"]).exits(4);
        let told = told.tells("a fresh login failed").tells("the operator's fresh login did not arrive in time");
        stage.lab.ssh("true").well();
        let status = stage.stead(&["status"]).well().json();
        let runs = (status["active"].as_str(), status["confirmed"].as_str());
        assert_eq!(runs, (Some(&*parent), Some(&*parent)), "{way}: {told}");
        assert_eq!(stage.get("site.small", "/").body, "page one\n", "{way}");
        assert_eq!(stage.lab.units("stead-lockout*"), [""; 0], "{way}");
    }
    nobody_noticed(visitors);
    assert_eq!(stage.lab.run(&format!("ls {broken} 2>/dev/null || nft list tables")), "");
}
