//! How much memory an agent takes while a large generation arrives.

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use crate::support::{Operator, noise, page, site};
    use std::path::Path;
    use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
    use stead_remote::cache::Base;
    use stead_remote::frame::Connection;
    use stead_remote::message::{Hello, Reply};
    use stead_remote::transfer;

    type Line = Connection<ChildStdout, ChildStdin>;

    /// The example of this package: cargo builds it along with the tests.
    fn start(root: &Path) -> (Child, Line) {
        let own = std::env::current_exe().unwrap();
        let path = own.parent().and_then(Path::parent).unwrap().join("examples/agent");
        assert!(path.exists(), "the example agent is not built: {} is not there", path.display());
        let mut agent = Command::new(path)
            .env("STEAD_EXAMPLE_STORE", root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = Connection::new(agent.stdout.take().unwrap(), agent.stdin.take().unwrap());
        line.receive::<Hello>().unwrap();
        (agent, line)
    }

    fn stage(line: &mut Line, operator: &Operator, base: Option<&Base>) {
        transfer::send(line, operator.shipment(base), &mut |_| {}).unwrap();
        assert!(matches!(line.receive().unwrap(), Reply::Staged { .. }));
    }

    /// `VmHWM` of proc_pid_status(5), in KiB.
    fn highest(agent: &Child) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn an_agent_stays_below_40_mib_while_large_files_and_many_files_arrive() {
        let folder = tempfile::tempdir().unwrap();
        let (mut agent, mut line) = start(folder.path());
        let mut files = site();
        files.extend((0..4_000).map(|n| (format!("pages/{n}.html"), page(200, n))));
        files.push(("film.mp4".to_owned(), noise(48 << 20, 1)));
        let first = Operator::with_site(&files);
        stage(&mut line, &first, None);
        files.last_mut().unwrap().1.splice(20_000_000..20_000_000, noise(3 << 20, 2));
        files[7].1 = page(2_000, 9_999);
        let contents = first.contents.iter().filter(|(_, bytes)| bytes.len() < 64 << 10);
        let contents = contents.map(|(hash, bytes)| (*hash, bytes.clone())).collect();
        let base = Base { generation: first.generation.clone(), trees: first.trees.clone(), contents };
        let second = Operator::with_site(&files);
        stage(&mut line, &second, Some(&base));
        let peak = highest(&agent);
        drop(line);
        assert!(agent.wait().unwrap().success());
        assert!(peak < 40 << 10, "{peak} KiB");
    }
}
