//! What builds promise, with real bubblewrap. The file system of these builds is the machine's own,
//! so that they need no packages; how a runtime becomes one is tested in `runtime.rs`.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use stead_build::builder::{Builder, Error, Event, Release, Request};
use stead_inputs::folder;
use stead_model::hash::Hash;
use stead_model::name::Name;
use stead_model::server::Build;
use stead_model::tree::{Entry, Tree};

struct Project {
    folder: tempfile::TempDir,
    build: Build,
    runtime: Hash,
    builder: Builder,
    events: Vec<Event>,
}

impl Project {
    fn new(command: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("source")).unwrap();
        let build = Build {
            packages: Vec::new(),
            command: command.to_owned(),
            output: "out".to_owned(),
            environment: [("GREETING".parse().unwrap(), "hello".to_owned())].into(),
        };
        let builder = Builder::new(folder.path().join("cache"));
        let project = Self { folder, build, runtime: Hash::of(b"runtime"), builder, events: Vec::new() };
        project.write("file", "content");
        project
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    fn write(&self, path: &str, content: &str) {
        fs::write(self.source().join(path), content).unwrap();
    }

    fn tree(&self) -> Tree {
        folder::snapshot(&self.source(), None).unwrap().tree
    }

    fn build_in(&mut self, root: &Path, tree: &Tree) -> Result<Release, Error> {
        self.build_watched(root, tree, &mut |_| {})
    }

    fn build_watched(&mut self, root: &Path, tree: &Tree, watch: &mut dyn FnMut(&Event)) -> Result<Release, Error> {
        let app: Name = "app".parse().unwrap();
        let request = Request {
            app: &app,
            source: &self.source(),
            source_tree: tree,
            runtime_root: root,
            runtime_id: self.runtime,
            build: &self.build,
        };
        self.events.clear();
        let events = &mut self.events;
        self.builder.build(&request, &mut |event| {
            watch(&event);
            events.push(event);
        })
    }

    fn build(&mut self) -> Result<Release, Error> {
        let tree = self.tree();
        self.build_in(Path::new("/"), &tree)
    }

    /// What the command printed.
    fn printed(&mut self) -> Vec<String> {
        self.build().unwrap();
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Output(line) => Some(line.clone()),
                _ => None,
            })
            .collect()
    }

    fn was_cached(&self) -> bool {
        self.events == [Event::Cached]
    }

    fn left_in(&self, folder: &str) -> usize {
        fs::read_dir(self.folder.path().join("cache").join(folder)).map_or(0, Iterator::count)
    }
}

fn printing(command: &str) -> Project {
    Project::new(&format!("{command}\nmkdir out"))
}

#[test]
fn a_release_is_what_the_command_made_and_nothing_else() {
    let mut project = Project::new(
        "mkdir -p out/bin out/empty; cp file out/.hidden; echo run > out/bin/run; chmod 700 out/bin/run; ln -s bin/run out/link",
    );
    let release = project.build().unwrap();
    let paths: Vec<&str> = release.tree.entries.keys().map(|path| path.as_str()).collect();
    assert_eq!(paths, [".hidden", "bin/run", "empty", "link"]);
    assert_eq!(release.tree.get("link"), Some(&Entry::Link("bin/run".to_owned())));
    assert!(
        matches!(release.tree.get("bin/run"), Some(Entry::File(object)) if object.executable && object.hash == Hash::of(b"run\n"))
    );
    assert_eq!(fs::read_to_string(release.folder.join(".hidden")).unwrap(), "content");
    assert_eq!(fs::metadata(release.folder.join("bin/run")).unwrap().permissions().mode() & 0o777, 0o555);
    assert_eq!(fs::read_dir(project.source()).unwrap().count(), 1, "the sources are untouched");
    assert_eq!(project.left_in("work"), 0);
}

#[test]
fn the_same_things_are_built_once() {
    let mut project = printing("true");
    let first = project.build().unwrap();
    assert!(!project.was_cached());
    assert_eq!(project.build().unwrap(), first);
    assert!(project.was_cached());
}

#[test]
fn whatever_goes_in_counts() {
    let mut project = printing("true");
    project.build().unwrap();
    let changes: [fn(&mut Project); 5] = [
        |project| project.write("file", "changed"),
        |project| project.build.command.push_str("; true"),
        |project| drop(project.build.environment.insert("MORE".parse().unwrap(), String::new())),
        |project| project.runtime = Hash::of(b"another"),
        |project| project.build.output = "./out/".to_owned(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        change(&mut project);
        project.build().unwrap();
        assert!(!project.was_cached(), "change {number}");
    }
}

#[test]
fn a_kept_release_that_was_altered_is_built_again() {
    let mut project = Project::new("mkdir out; echo fine > out/file");
    let release = project.build().unwrap();
    project.build().unwrap();
    let file = release.folder.join("file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&file, "evil\n").unwrap();
    assert_eq!(project.build().unwrap(), release);
    assert!(!project.was_cached());
    assert_eq!(fs::read_to_string(&file).unwrap(), "fine\n");
}

#[test]
fn the_environment_is_fixed() {
    let printed = printing("env | sort; id -u; id -un; id -gn; hostname; pwd; umask").printed();
    let expected = [
        "GREETING=hello",
        "HOME=/home/build",
        "LANG=C.UTF-8",
        "LC_ALL=C.UTF-8",
        "LOGNAME=build",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "PWD=/build",
        "SHELL=/bin/sh",
        "SOURCE_DATE_EPOCH=315532800",
        "TMPDIR=/tmp",
        "TZ=UTC",
        "USER=build",
    ];
    let (environment, rest) = printed.split_at(expected.len());
    assert_eq!(environment, expected);
    assert_eq!(&rest[..5], ["1000", "build", "build", "stead-build", "/build"]);
}

#[test]
fn sources_have_one_time_and_plain_modes() {
    let mut project = printing("stat -c '%n %Y %a' file run");
    project.write("run", "");
    fs::set_permissions(project.source().join("run"), fs::Permissions::from_mode(0o710)).unwrap();
    assert_eq!(project.printed(), ["file 315532800 644", "run 315532800 755"]);
}

#[test]
fn there_is_no_network_but_loopback() {
    let printed = printing("tail -n +3 /proc/net/dev | cut -d: -f1").printed();
    assert_eq!(printed.iter().map(|line| line.trim()).collect::<Vec<_>>(), ["lo"]);
}

#[test]
fn a_build_sees_nothing_of_the_machine_that_runs_it() {
    let mut project = printing(
        "ls -A /tmp /run /home/build; ls -d /proc/[0-9]* | wc -l; ls -A / | grep -Fx -e sys -e build -e proc || true",
    );
    let printed = project.printed();
    let [.., processes, build, proc] = &printed[..] else { panic!("{printed:?}") };
    assert!(processes.trim().parse::<u32>().unwrap() < 10, "{printed:?}");
    assert_eq!((build.as_str(), proc.as_str()), ("build", "proc"));
    let empty: Vec<&str> =
        printed[..printed.len() - 3].iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
    assert_eq!(empty, ["/home/build:", "/run:", "/tmp:"]);
}

#[test]
fn a_build_writes_to_its_own_folders_only() {
    let tries = "for place in / /usr /etc /var /proc/sys/kernel; do if touch $place/x 2>/dev/null; then echo wrote $place; fi; done";
    let printed = printing(&format!("{tries}; touch /build/x /tmp/x /home/build/x && echo own")).printed();
    assert_eq!(printed, ["own"]);
}

#[test]
fn a_failing_command_is_told_with_its_last_lines_and_its_log() {
    let mut project =
        Project::new("i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i >&2; done; false; echo never");
    let Err(Error::Command { how, last, log, .. }) = project.build() else { panic!("a failure") };
    assert_eq!(how, "ended with 1");
    assert_eq!((last.0.len(), last.0[0].as_str(), last.0[19].as_str()), (20, "line 11", "line 30"));
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 30);
    assert_eq!((project.left_in("work"), project.left_in("releases")), (0, 0));
    let told = project.build().unwrap_err().to_string();
    assert!(told.starts_with("the build of `app` ended with 1; its last lines:\n  line 11\n"), "{told}");
    assert!(told.contains(&log.display().to_string()), "{told}");
}

#[test]
fn a_command_ended_by_a_signal_says_so() {
    let Err(Error::Command { how, .. }) = Project::new("kill -9 $$").build() else { panic!("a failure") };
    assert_eq!(how, "was ended by signal 9");
}

#[test]
fn a_build_that_takes_too_long_is_stopped_with_all_it_has_started() {
    for command in ["echo begun; sleep 7919 & sleep 7919", "echo begun; exec >/dev/null 2>&1; sleep 7919"] {
        let mut project = Project::new(command);
        project.builder = project.builder.clone().with_timeout(Duration::from_secs(1));
        let (began, tree) = (Instant::now(), project.tree());
        let inside = format!("{}", project.folder.path().display());
        let mut seen = false;
        let built = project.build_watched(Path::new("/"), &tree, &mut |event| {
            if matches!(event, Event::Output(_)) {
                seen = running_with(&inside);
            }
        });
        let Err(Error::Timeout { last, .. }) = built else { panic!("a timeout") };
        assert_eq!(last.0, ["begun"]);
        assert!(seen, "the build can be seen from outside while it runs");
        assert!(began.elapsed() < Duration::from_secs(20));
        let deadline = Instant::now() + Duration::from_secs(10);
        while running_with(&inside) {
            assert!(Instant::now() < deadline, "something of the build still runs");
            std::thread::yield_now();
        }
    }
}

/// Whether a process has this text in its mounts: only those inside the sandbox have.
fn running_with(text: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .into_iter()
        .any(|process| fs::read_to_string(process.path().join("mountinfo")).is_ok_and(|mounts| mounts.contains(text)))
}

#[test]
fn what_a_build_leaves_running_does_not_hold_it_up() {
    let began = Instant::now();
    printing("sleep 7919 &").build().unwrap();
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_build_without_its_output_says_what_there_is() {
    let told = Project::new("mkdir dist").build().unwrap_err().to_string();
    assert_eq!(told, "the build succeeded, but made no folder `out`; there is: dist, file");
    let mut linked = Project::new("mkdir dist; ln -s dist out");
    assert!(matches!(linked.build(), Err(Error::NoOutput { .. })));
    assert_eq!(linked.left_in("releases"), 0);
}

#[test]
fn an_output_outside_of_the_sources_is_refused_before_anything_runs() {
    for output in ["../out", "/tmp", "", "a/../.."] {
        let mut project = printing("true");
        project.build.output = output.to_owned();
        assert!(matches!(project.build(), Err(Error::OutputPath { .. })), "{output}");
        assert!(project.events.is_empty());
    }
}

#[test]
fn the_whole_folder_can_be_the_output() {
    let mut project = Project::new("echo made > made");
    project.build.output = ".".to_owned();
    assert_eq!(project.build().unwrap().tree.entries.len(), 2);
}

#[test]
fn read_only_folders_become_a_release_too() {
    let mut project = Project::new("mkdir -p out/a/b; echo x > out/a/b/c; chmod 500 out/a/b out/a out; chmod 0 .");
    let release = project.build().unwrap();
    assert_eq!(release.tree.entries.len(), 1);
    fs::remove_dir_all(release.folder).unwrap();
    assert_eq!(project.left_in("work"), 0);
}

#[test]
fn links_that_leave_the_output_are_refused() {
    for target in ["/usr/bin/env", "../file", "/build/out/x"] {
        let mut project = Project::new(&format!("mkdir out; ln -s {target} out/link"));
        let error = project.build().unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(target), "{cause}");
        assert_eq!((project.left_in("work"), project.left_in("releases")), (0, 0));
    }
}

#[test]
fn sources_that_changed_meanwhile_are_not_built() {
    let mut project = printing("true");
    let tree = project.tree();
    project.write("file", "changed");
    assert!(matches!(project.build_in(Path::new("/"), &tree), Err(Error::SourceChanged { .. })));
    fs::remove_file(project.source().join("file")).unwrap();
    assert!(matches!(project.build_in(Path::new("/"), &tree), Err(Error::SourceChanged { .. })));
}

#[test]
fn a_missing_bubblewrap_is_told_with_what_to_install() {
    let mut project = printing("true");
    project.builder = project.builder.clone().with_bubblewrap("/nowhere/bwrap");
    let told = project.build().unwrap_err().to_string();
    assert!(told.contains("/nowhere/bwrap") && told.contains("apt install bubblewrap"), "{told}");
}

#[test]
fn a_bubblewrap_that_cannot_is_told_with_its_words() {
    let mut project = printing("true");
    let fake = project.folder.path().join("bwrap");
    fs::write(&fake, "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n").unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    project.builder = project.builder.clone().with_bubblewrap(fake);
    let Err(Error::Sandbox { said }) = project.build() else { panic!("a failure") };
    assert_eq!(said, "No permissions to create new namespace");
}

#[test]
fn packages_without_a_shell_are_told() {
    let mut project = printing("true");
    let (tree, root) = (project.tree(), project.folder.path().join("root"));
    fs::create_dir(&root).unwrap();
    assert!(matches!(project.build_in(&root, &tree), Err(Error::NoShell)));
}
