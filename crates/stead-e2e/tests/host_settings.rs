//! Settings of the machine itself: set by a deploy, kept by a boot, and back as they were before Stead when nobody asks for them.

use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage};

const SETTINGS: &str = r#"
  networking.hostName = "billtracker",
  time.timeZone = "Europe/Berlin",
  boot.kernel.sysctl."net.ipv4.ip_forward" = true,
  environment.etc."motd".text = "declared\n",
  environment.etc."app.conf" = { text = "new\n", mode = "0640" },
  services.journald.enable = true,
  system.autoUpgrade.enable = true,
"#;

/// Archives with one package each, of which one is of security updates; an older version of both is installed.
const ARCHIVES: &str = r#"
set -e
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
pack() { # FOLDER NAME VERSION
    mkdir -p /tmp/pack/DEBIAN "$1"
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n' "$2" "$3" > /tmp/pack/DEBIAN/control
    dpkg-deb --build /tmp/pack "$1/$2.deb" > /dev/null
}
archive() { # NAME LABEL SUITE CODENAME
    cd "/srv/$1"
    deb=$(ls *.deb)
    { dpkg-deb --field "$deb"; printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum < "$deb" | cut -d' ' -f1)"; } > Packages
    printf 'Origin: Debian\nLabel: %s\nSuite: %s\nCodename: %s\nVersion: 12\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n %s %s Packages\n' \
        "$2" "$3" "$4" "$(sha256sum < Packages | cut -d' ' -f1)" "$(stat -c %s Packages)" > Release
    echo "deb [trusted=yes] file:/srv/$1 ./" >> /etc/apt/sources.list
}
pack /srv/old plain 1 && dpkg -i /srv/old/plain.deb
pack /srv/old secure 1 && dpkg -i /srv/old/secure.deb
pack /srv/plain plain 2 && archive plain Debian stable bookworm
pack /srv/secure secure 2 && archive secure Debian-Security stable-security bookworm-security
# A version of an update that is none of security does not hide the one that is.
pack /srv/newer secure 3 && archive newer Debian stable-updates bookworm-updates
"#;

/// The timer's service takes what an archive of security updates has, and nothing else.
fn the_machine_takes_its_security_updates(stage: &Stage) {
    stage.lab.run(&format!("({ARCHIVES}) 2>&1"));
    let next = stage.lab.show("stead-auto-upgrade.timer", "NextElapseUSecRealtime");
    assert!([" 04:4", " 04:5", " 05:"].iter().any(|time| next.contains(time)), "{next}");
    let versions = "dpkg-query -W -f '${Package} ${Version}\n' plain secure";
    assert_eq!(stage.lab.run(versions), "plain 1\nsecure 1");
    stage.lab.run("systemctl start stead-auto-upgrade.service");
    assert_eq!(stage.lab.run(versions), "plain 1\nsecure 2");
    let said = stage.lab.run("journalctl -u stead-auto-upgrade -o cat --no-pager");
    assert!(said.contains("updated secure=2") && !said.contains("plain"), "{said}");
    stage.lab.run("rm -rf /srv/secure && ! systemctl start stead-auto-upgrade.service 2>/dev/null");
}

/// All that the settings are about, as one text.
fn seen(stage: &Stage) -> String {
    stage.lab.run(
        "hostname; cat /etc/hostname; readlink /etc/localtime; cat /proc/sys/net/ipv4/ip_forward; cat /etc/motd; \
         stat -c '%a %U' /etc/motd; stat -c '%a %U %n' /etc/app.conf 2>&1; cat /etc/app.conf 2>/dev/null; \
         systemd-analyze cat-config systemd/journald.conf | grep -E '^(MaxRetention|MaxFileSec|RateLimitBurst)'; \
         ls /var/lib/stead/host 2>/dev/null; ls -a /etc | grep stead; true",
    )
}

#[test]
fn settings_of_the_machine_go_there_and_back_whatever_happens() {
    let mut small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.lab.run("printf 'before\\n' > /etc/motd && chmod 600 /etc/motd");
    stage.stead(&["up"]).well();
    let before = seen(&stage);
    let journald = stage.lab.show("systemd-journald.service", "MainPID");

    // What this machine does not have is named before anything is touched.
    for (wrong, words) in [
        (
            "boot.kernel.sysctl.\"vm.swapines\" = 1,",
            "boot.kernel.sysctl.\"vm.swapines\": the kernel of this server has no parameter",
        ),
        ("time.timeZone = \"Europe/Berlyn\",", "time.timeZone: this server knows no time zone `Europe/Berlyn`"),
        ("environment.etc.\"no/such/file\".text = \"x\",", "there is no folder /etc/no/such"),
        ("swapDevices = [{ device = \"/var/swap\", size = 999999999 }],", "MiB free on its disk"),
    ] {
        small.extra = wrong.to_owned();
        small.write(&stage.project);
        stage.stead(&["up"]).exits(3).tells(words).tells("--> extra.ncl:");
        assert_eq!(seen(&stage), before, "{wrong}");
    }

    small.extra = SETTINGS.to_owned();
    small.write(&stage.project);
    let plan = stage.stead_in_words(&["plan"]).well().stdout;
    assert!(plan.contains("set networking.hostName: as before Stead → billtracker"), "{plan}");
    stage.stead(&["up"]).well();
    let set = seen(&stage);
    let wanted = [
        "billtracker\nbilltracker\n../usr/share/zoneinfo/Europe/Berlin\n1\ndeclared\n644 root\n640 root /etc/app.conf\nnew\n",
        "MaxRetentionSec=1209600s\nMaxFileSec=1day\nRateLimitBurst=10000\nsettings.json",
    ]
    .concat();
    assert_eq!(set, wanted);
    assert_ne!(stage.lab.show("systemd-journald.service", "MainPID"), journald);
    let journald = stage.lab.show("systemd-journald.service", "MainPID");

    // Nothing is done for what is unchanged.
    let written = stage.lab.run("stat -c %z /etc/motd /etc/hostname");
    small.page = "two\n".to_owned();
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    assert_eq!(stage.lab.run("stat -c %z /etc/motd /etc/hostname"), written);
    assert_eq!(stage.lab.show("systemd-journald.service", "MainPID"), journald);

    the_machine_takes_its_security_updates(&stage);

    // A trial that nobody confirms, and one that loses its power: what was confirmed is there again.
    small.extra = "networking.hostName = \"other\", environment.etc.\"motd\".text = \"other\\n\",".to_owned();
    small.write(&stage.project);
    stage.stead(&["up", "--no-confirm", "--confirm-deadline", "1"]).exits(4);
    assert_eq!(seen(&stage), wanted);
    let mut trial = stage.command(&["up", "--no-confirm", "--confirm-deadline", "60", "--soak", "0"]);
    let mut trial =
        trial.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().expect("it can be run");
    stead_e2e::wait::until_is("the trial", std::time::Duration::from_secs(30), "other".to_owned(), || {
        stage.lab.run("hostname")
    });
    stage.lab.cut_and_boot();
    let _ = trial.kill();
    let _ = trial.wait();
    stead_e2e::wait::until_is("the confirmed settings", std::time::Duration::from_secs(60), wanted.clone(), || {
        seen(&stage)
    });
    assert_eq!(stage.get("site.small", "/").body, "two\n");

    // Without a word about them, all is as it was before Stead; and so it is when the whole is taken back.
    small.extra = String::new();
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    assert_eq!(seen(&stage), before);
    stage.stead(&["rollback"]).well();
    assert_eq!(seen(&stage), wanted);
}
