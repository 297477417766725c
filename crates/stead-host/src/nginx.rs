//! nginx: the test of a configuration before it is switched to, and what is served now.
//!
//! The test runs the candidate's own nginx in the candidate's own file system, as a transient
//! service of systemd. What is served is asked on a socket of Stead's own, never on the sites'.

use crate::probe;
use crate::run::RunError;
use crate::systemd::in_runtime;
use std::path::Path;
use std::time::Duration;
use stead_model::{hash::Hash, layout};

/// Tests the configuration of a staged generation with that generation's nginx.
///
/// `binds` are the unit's own, in the form of `BindReadOnlyPaths=`. The upstreams are the
/// generation's defaults, so that no app has to run.
///
/// # Errors
/// nginx's own words, when it refuses the configuration or cannot be run.
pub fn test(generation: &Hash, runtime: &Hash, binds: &[String]) -> Result<(), RunError> {
    test_with(generation, runtime, binds, None)
}

/// [`test()`], of one site by itself: `site` is its file's name below `nginx/sites`, and the others are not there.
///
/// # Errors
/// As [`test()`].
pub fn test_site(generation: &Hash, runtime: &Hash, binds: &[String], site: &str) -> Result<(), RunError> {
    test_with(generation, runtime, binds, Some(site))
}

fn test_with(generation: &Hash, runtime: &Hash, binds: &[String], site: Option<&str>) -> Result<(), RunError> {
    let folder = format!("{}/{generation}", layout::GENERATIONS);
    // The test opens log and temporary files where the service would: somewhere that is gone afterwards.
    let mut properties = vec!["TemporaryFileSystem=/var/cache /var/log /run:mode=0755".to_owned()];
    properties.push(format!("BindReadOnlyPaths={folder}/run/upstreams:{}", layout::UPSTREAMS));
    let configuration = format!("{folder}/nginx/nginx.conf");
    if let Some(site) = site {
        properties.push(format!("TemporaryFileSystem={folder}/nginx/sites:mode=0755"));
        properties.push(format!("BindReadOnlyPaths={folder}/nginx/sites/{site}"));
    }
    in_runtime(runtime, binds, &properties, &["/usr/sbin/nginx", "-t", "-q", "-c", &configuration]).map(drop)
}

/// What nginx says against a configuration, with the line that it means and the site that the line is of.
///
/// `folder` is the generation's; what is not nginx's complaint about a file there stays as it is.
pub fn complaint(output: &str, folder: &Path) -> String {
    let parts = output.lines().find_map(|line| {
        let (_, words) = line.split_once("[emerg] ")?;
        let words = words.split_once(": ").map_or(words, |(_, words)| words);
        let (words, place) = words.rsplit_once(" in ")?;
        let (file, number) = place.rsplit_once(':')?;
        Some((words, Path::new(file).strip_prefix(folder).ok()?, number.parse::<usize>().ok()?))
    });
    let Some((words, file, number)) = parts else { return format!("nginx refuses the configuration: {output}") };
    let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    let site = text.lines().find_map(|line| line.trim().strip_prefix("server_name ")?.split([' ', ';']).next());
    let of = match site.filter(|_| file.starts_with("nginx/sites")) {
        Some(site) => format!("the configuration of the site `{site}`"),
        None => "the configuration".to_owned(),
    };
    let line = text.lines().nth(number.saturating_sub(1)).unwrap_or_default().trim();
    format!("nginx refuses {of}: {words}\n{}:{number}: {line}", file.display())
}

/// What nginx says that it serves: the hash of its configuration and the epoch of its last reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The configuration.
    pub configuration: Hash,
    /// What the last reload was marked with; `boot` after a boot.
    pub epoch: String,
}

/// Asks nginx what it serves; `None` when it does not answer (yet).
pub fn served() -> Option<Served> {
    let socket = format!("{}/nginx.sock", layout::SOCKETS);
    let answer = probe::http_unix(Path::new(&socket), "stead", "/configuration", Duration::from_secs(2)).ok()?;
    let (configuration, epoch) = answer.body.trim().split_once(' ')?;
    Some(Served { configuration: configuration.parse().ok()?, epoch: epoch.to_owned() })
}

/// The worker processes of a running nginx that accept connections; `main` is its main process.
///
/// Those that a reload has told to end are not among them: such a worker changes its title before it looks for
/// another connection (`ngx_worker_process_cycle`), and keeps only the connections it has.
pub fn accepting_workers(main: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|worker| accepts(*worker)).collect()
}

/// Whether this worker process still accepts connections; `false` when it is gone.
pub fn accepts(worker: u32) -> bool {
    let title = std::fs::read(format!("/proc/{worker}/cmdline")).unwrap_or_default();
    let title = String::from_utf8_lossy(&title);
    title.starts_with("nginx: worker process") && !title.contains("is shutting down")
}

/// The file that marks a reload, read by nginx with the upstreams.
pub fn epoch_file(epoch: &str) -> String {
    format!("map $hostname $stead_epoch {{ default \"{epoch}\"; }}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_the_site_and_the_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("nginx/sites")).unwrap();
        let file = folder.path().join("nginx/sites/a.example.conf");
        std::fs::write(&file, "server {\n    server_name a.example *.b;\n    foo bar;\n}\n").unwrap();
        let said = format!(
            "2026/11/23 06:06:54 [emerg] 179#179: unknown directive \"foo\" in {}:3\n\
             nginx: configuration file /x/nginx.conf test failed",
            file.display()
        );
        assert_eq!(
            complaint(&said, folder.path()),
            "nginx refuses the configuration of the site `a.example`: unknown directive \"foo\"\n\
             nginx/sites/a.example.conf:3: foo bar;"
        );
    }

    #[test]
    fn words_about_no_file_stay_as_they_are() {
        let said = "nginx: [emerg] host not found in upstream \"nowhere\"";
        assert_eq!(complaint(said, Path::new("/x")), format!("nginx refuses the configuration: {said}"));
    }
}
