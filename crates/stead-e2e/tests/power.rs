//! What only a machine of its own can show: the power is cut.
//!
//! The long run is `cargo xtask chaos`; its program is `examples/chaos.rs`.
#![expect(clippy::print_stderr, reason = "a seed that finds something has to be known")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::listing::Listing;
use stead_e2e::power::{Kind, Server};
use stead_e2e::{Small, Stage, nobody_noticed, wait};

/// The seed that `STEAD_POWER_SEED` gives, else another one each time. It is told either way.
fn seed() -> u64 {
    let given = std::env::var("STEAD_POWER_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |text| text.parse().expect("STEAD_POWER_SEED is a number"));
    eprintln!("STEAD_POWER_SEED={seed}");
    seed
}

#[test]
fn whenever_the_power_is_cut_the_server_comes_up_whole_in_one_of_two_generations() {
    let mut server = Server::boot(Machine::bookworm(), "bookworm", seed());
    for kind in Kind::ALL {
        let cut = server.cut(kind);
        eprintln!("{cut:?}");
    }
}

#[test]
fn an_app_that_leaks_to_its_memory_limit_is_taken_back_and_visitors_of_its_parent_go_on() {
    let patient = "apps.hello.health = { deadline | force = 240, timeout = 60 },";
    let limited = format!("{patient}\n  apps.hello.limits.memoryMax = \"96M\",");
    let mut small = Small { extra: limited, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm().virtual_machine());
    let untouched = Listing::outline(&stage.lab);
    stage.stead(&["adopt"]).well();
    let parent = stage.stead(&["up", "--confirm-deadline", "240"]).well().text("generation");

    // Few: the processor is emulated.
    let visitors = stage.visitors_at(4, &[("app.small", "/"), ("site.small", "/")], &[("app.small", "/ws")]);
    small.answer = "two".into();
    // Held, and written to: memory that is only asked for is not used.
    small.prelude = "hoard = [bytes([1]) * 1048576 for _ in range(1024)]".into();
    small.write(&stage.project);
    let outcome = stage.stead(&["up", "--confirm-deadline", "240"]).exits(4).tells("oom-kill");
    nobody_noticed(visitors);

    let status = stage.stead(&["status"]).well().json();
    assert_eq!(status["active"].as_str(), Some(&*parent), "{outcome}");
    assert_eq!(stage.get("app.small", "/").body, "one");
    small.prelude = String::new();
    a_clock_that_jumps_neither_ends_nor_hides_an_activation(&stage, small.clone());
    a_certificate_is_whole_when_the_power_goes_while_it_is_written(&stage, small);
    the_machine_is_given_back(&stage, &untouched);
}

/// In the machine of the test above, whose clock is its own: booting another one takes longer than this.
fn a_clock_that_jumps_neither_ends_nor_hides_an_activation(stage: &Stage, mut small: Small) {
    small.answer = "three".into();
    small.write(&stage.project);
    let mut trial = stage.command(&["up", "--no-confirm", "--confirm-deadline", "240", "--soak", "0"]);
    let trial = trial.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program can be run");
    let trial = Killed(trial);
    wait::until("the trial awaits its login", Duration::from_secs(240), || {
        let waits = "grep -qs awaitingLogin $(readlink -f /var/lib/stead/activations/unfinished)/events.jsonl";
        (stage.lab.try_run(waits).status == 0).then_some(())
    });
    drop(trial);
    stage.lab.run("date -s '+2 days'");
    let third = stage.stead(&["deploy", "--attach"]).well().text("generation");

    stage.lab.run("date -s '-5 days'");
    small.answer = "four".into();
    small.write(&stage.project);
    let fourth = stage.stead(&["up", "--confirm-deadline", "240", "--soak", "0"]).well().text("generation");
    assert_eq!(stage.get("app.small", "/").body, "four");
    let history = stage.stead(&["history"]).well().json();
    assert_eq!((&history[0]["generation"], &history[1]["generation"]), (&fourth.into(), &third.into()), "{history}");
    assert_eq!(stage.lab.run("ls /var/lib/stead/activations/unfinished 2>/dev/null || true"), "");
}

/// In the same machine, which also gets swap, a kernel parameter and a short memory. Two certificates take turns in the place of the operator's files, and are taken over and served again and
/// again, until the power is cut: what is served afterwards is one of the two, with its key.
fn a_certificate_is_whole_when_the_power_goes_while_it_is_written(stage: &Stage, mut small: Small) {
    let one = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=site.small \
        -addext subjectAltName=DNS:site.small";
    let pairs =
        format!("mkdir -p /etc/own && cd /etc/own && for pair in a b; do {one} -out $pair.pem -keyout $pair.key; done");
    stage.lab.run(&format!("({pairs} && cp a.pem site.pem && cp a.key site.key) 2>&1"));
    let patient = small.extra.clone();
    small.extra.push_str(
        "swapDevices = [{ device = \"/var/swapfile\", size = 64 }],
        zramSwap.enable = true,
        boot.kernel.sysctl.\"vm.swappiness\" = 7,
        services.journald = { enable = true, retention = \"1d\" },
        services.nginx.virtualHosts.\"site.small\" =
            { addSSL = true, sslCertificate = \"/etc/own/site.pem\", sslCertificateKey = \"/etc/own/site.key\" },",
    );
    small.write(&stage.project);
    let swappiness = stage.lab.run("cat /proc/sys/vm/swappiness");
    let settings = "cat /proc/sys/vm/swappiness; grep -o '^/dev/zram0 ' /proc/swaps;
        grep -o '.zstd.' /sys/block/zram0/comp_algorithm; swapon --show=NAME,SIZE --noheadings --bytes | grep file | tr -s ' '; stat -c %a /var/swapfile 2>&1 || true";
    stage.stead(&["up", "--confirm-deadline", "240", "--soak", "0"]).well();
    let set = "7\n/dev/zram0 \n[zstd]\n/var/swapfile 67104768\n600";
    assert_eq!(stage.lab.run(settings), set);
    let roots = stage.lab.folder().join("roots.pem");
    fs::write(&roots, stage.lab.run("cat /etc/own/a.pem /etc/own/b.pem")).expect("a file can be written");
    // Whose issuer is which of the two, only the key can tell: curl checks the one against the other.
    let served = || {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "20", "--cacert"]).arg(&roots);
        let to = format!("::{}:", stage.lab.address());
        let output = curl.args(["--connect-to", &to, "https://site.small/"]).output();
        output.expect("curl is on this machine").stdout
    };
    assert_eq!(served(), small.page.as_bytes());

    let turns = "cd /etc/own && while :; do for pair in b a; do
        cp $pair.pem site.pem && cp $pair.key site.key && /var/lib/stead/agent agent certificates --renew && echo turned
    done; done";
    stage.lab.run(&format!("systemd-run --unit=turns sh -c '{turns}'"));
    // Not before it is at it: twice there and back.
    wait::until("certificates take turns", Duration::from_secs(240), || {
        let count = stage.lab.run("journalctl -u turns --no-pager -o cat | grep -c turned || true");
        count.parse::<u32>().is_ok_and(|count| count >= 4).then_some(())
    });
    std::thread::sleep(Duration::from_millis(fastrand::Rng::with_seed(seed()).u64(0..4000)));
    stage.lab.cut_and_boot();
    wait::until_is("the site", Duration::from_secs(120), small.page.clone().into_bytes(), served);
    let look =
        "cd /var/lib/stead-acme/certificates/*/live && openssl x509 -in fullchain.pem -noout -pubkey > /tmp/one &&
        openssl pkey -in key.pem -pubout > /tmp/two && cmp /tmp/one /tmp/two";
    stage.lab.run(look);

    // The machine's own settings are there again, and journald drops what is older than it may be.
    assert_eq!(stage.lab.run(settings), set);
    stage.lab.run("logger planted-old; journalctl --sync; date -s '+3 days'; logger planted-new");
    let planted =
        |which: &str| stage.lab.run(&format!("journalctl -o cat --no-pager | grep -c '^planted-{which}$' || true"));
    wait::until_is("journald drops what is old", Duration::from_secs(120), "0".to_owned(), || {
        stage.lab.run("logger tick");
        planted("old")
    });
    assert_eq!(planted("new"), "1");
    a_secret_is_not_on_the_disk_when_memory_is(stage, &small, &patient);
    small.extra = patient;
    small.write(&stage.project);
    stage.stead(&["up", "--confirm-deadline", "240", "--soak", "0"]).well();
    let gone = format!("{swappiness}\nstat: cannot statx '/var/swapfile': No such file or directory");
    assert_eq!(stage.lab.run(settings), gone);
}

/// In the same machine, whose kernel is told to swap what it can. The disk is searched as it is, from outside: through a file system,
/// a swap file looks empty.
fn a_secret_is_not_on_the_disk_when_memory_is(stage: &Stage, small: &Small, patient: &str) {
    const SECRET: &str = "planted-secret-3c9a";
    const CONTROL: &str = "planted-control-3c9a";
    let host = stage.lab.run("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub");
    let own = stage.lab.folder().join("operator");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&own).status();
    assert!(made.expect("ssh-keygen can be run").success());
    let operator = fs::read_to_string(own.with_extension("pub")).expect("it was made");
    let readers = format!(
        "[operators]\nme = \"{}\"\n\n[servers]\nsmall = \"{host}\"\n\n[secrets]\nkey = [\"operators\", \"servers\"]\n",
        operator.trim()
    );
    fs::create_dir_all(stage.project.join("secrets")).expect("a folder can be made");
    fs::write(stage.project.join("secrets/readers.toml"), readers).expect("a file can be written");
    let mut set = stage.command(&["secret", "set", "key"]);
    let mut set = set.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the program can be run");
    set.stdin.take().expect("it has one").write_all(SECRET.as_bytes()).expect("it listens");
    assert!(set.wait().expect("it ends").success());
    // Into the swap file alone, which cannot be searched from inside; going on with the next deploy is the deploy's affair.
    stage.lab.run("swapoff /dev/zram0");
    let swap = "swapDevices = [{ device = \"/var/swapfile\", size = 64 }],";
    let prelude = "held = open(os.environ['CREDENTIALS_DIRECTORY'] + '/key').read()".into();
    Small { prelude, ..small.clone() }.write(&stage.project);
    let credential = "apps.hello.credentials.key = secret \"key\",";
    let module = format!("fun {{ secret, .. }} => {{\n{patient}\n{swap}\n{credential}\n}}\n");
    fs::write(stage.project.join("extra.ncl"), module).expect("a file can be written");
    stage.stead(&["up", "--confirm-deadline", "240", "--soak", "0"]).well();
    let given = stage.lab.run("grep -rlsa planted-secre[t] /run/credentials | wc -l");
    assert_eq!(given, "1", "the app has read it: it would not have started else");

    // Everything that may be swapped, is: of a service that nobody protects, and of the app.
    stage.lab.run(&format!("systemd-run --quiet --unit=control --setenv=CONTROL={CONTROL} sleep infinity"));
    let swapped = |unit: &str| {
        // The kernel's `cgroup-v2.rst`, memory.reclaim: an error says that it was less than asked for.
        let reclaim = format!(
            "for unit in $(systemctl list-units --plain --no-legend '{unit}' | cut -d' ' -f1); do
                [ $unit = control.service ] || [ -d /run/credentials/$unit ] || continue
                group=/sys/fs/cgroup$(systemctl show --value -p ControlGroup $unit)
                echo 256M > $group/memory.reclaim; cat $group/memory.swap.current
            done 2>/dev/null | sort -n | tail -n 1"
        );
        stage.lab.run(&reclaim).parse::<u64>().expect("the kernel tells a number")
    };
    assert!(swapped("control.service") > 0);
    assert_eq!(swapped("stead-hello@*.service"), 0, "nothing of the app is swapped");
    let disk = stage.lab.itself().ssh_config().with_file_name("disk.qcow2");
    let is_on_disk = |what: &str| {
        let found = Command::new("grep").args(["-q", "-a", "-F", what]).arg(&disk).status().expect("grep can be run");
        assert!(found.code().is_some_and(|code| code < 2), "the disk can be searched");
        found.success()
    };
    wait::until("memory that nobody protects is on the disk", Duration::from_secs(60), || {
        is_on_disk(CONTROL).then_some(())
    });
    assert!(!is_on_disk(SECRET), "the secret is on the disk");
    stage.lab.run("systemctl stop control");
}

/// After all of that, in the same machine: what Stead was told, and what the power cut left, is gone.
fn the_machine_is_given_back(stage: &Stage, untouched: &Listing) {
    stage.stead(&["leave", "--yes", "--with-data", "--confirm-deadline", "240", "--soak", "0"]).well();
    let rest = "ls -d /var/lib/stead* /run/stead /var/cache/stead* 2>/dev/null; systemctl list-units --all --plain --no-legend 'stead-*'";
    assert_eq!(stage.lab.run(&format!("{rest}; true")), "");
    let changed = untouched.changed_by_hand(&Listing::outline(&stage.lab));
    // The test's own, and Debian's daily copies (`dpkg-db-backup.timer`), whose time came when the clock jumped.
    let is_known = |path: &&String| path.starts_with("/etc/own") || path.starts_with("/var/backups/");
    assert_eq!(changed.iter().filter(|path| !is_known(path)).collect::<BTreeSet<_>>(), BTreeSet::new());
    assert!(changed.contains("/etc/own/a.pem"), "the listing sees what changes: {changed:#?}");
}

/// A program that is killed when it goes out of scope, whatever else happens.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
