//! How nginx is led to the instances of apps, and how it is known that it went there.
//!
//! The upstream of an app is a small file in `/run/stead`, which nginx reads at a reload. Each reload
//! is marked, and counts only when nginx answers with the mark: an old worker's answer is never taken
//! for a new one's. Decides nothing; only how long to wait.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use stead_host::{nginx, systemd};
use stead_model::hash::Hash;
use stead_model::name::{Name, Port, UnitName};
use stead_model::{layout, upstream};

/// How long nginx may take to answer with a new configuration.
const NGINX_DEADLINE: Duration = Duration::from_secs(10);
/// Time between two looks at something that is expected within moments.
pub(crate) const BEAT: Duration = Duration::from_millis(10);

/// nginx does not serve what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file of `/run/stead` cannot be written.
    #[error("cannot write into `{}`", layout::UPSTREAMS)]
    Write(#[from] io::Error),
    /// nginx cannot be signalled.
    #[error(transparent)]
    Signal(#[from] stead_host::run::RunError),
    /// It answers with something else.
    #[error("within 10 s: nginx still answers with configuration {configuration} ({epoch})")]
    Other {
        /// The first digits of what it answers with.
        configuration: String,
        /// The mark that it answers with.
        epoch: String,
    },
    /// Workers with the files of before go on to accept.
    #[error("within 10 s: worker processes of nginx still answer from the files of before")]
    OldWorkers,
    /// It does not answer.
    #[error("within 10 s: nginx does not answer")]
    Silent,
}

/// Writes a small file of `/run/stead` by rename.
pub(crate) fn place(path: &Path, content: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.new"));
    fs::File::create(&temporary)?.write_all(content.as_bytes())?;
    fs::rename(&temporary, path)
}

fn upstream_file(app: &Name) -> PathBuf {
    Path::new(layout::UPSTREAMS).join(format!("{app}.conf"))
}

/// Leads to the instance of an app, as of the next reload; `old` is the one that it replaces.
pub(crate) fn lead(app: &Name, port: Port, old: Option<Port>) -> io::Result<()> {
    place(&upstream_file(app), &upstream::text(app, port, old))
}

/// Leads nowhere any more, as of the next reload.
pub(crate) fn forget(app: &Name) -> io::Result<()> {
    match fs::remove_file(upstream_file(app)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Takes the replaced instance on this port out of the app's upstream, as of the next reload; `false`: it is not there.
pub(crate) fn leave_old(app: &Name, old: Port) -> io::Result<bool> {
    let path = upstream_file(app);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(false) };
    let without = text.replace(&upstream::backup(old), "");
    if without == text {
        return Ok(false);
    }
    place(&path, &without).map(|()| true)
}

/// Marks the next reload or start of nginx.
pub(crate) fn mark(epoch: &str) -> io::Result<()> {
    place(&Path::new(layout::UPSTREAMS).join("epoch.conf"), &nginx::epoch_file(epoch))
}

/// Makes nginx read its files again under this mark, and waits until every visitor who comes now is answered
/// from them: it answers with the mark, and no worker of before accepts a connection any more. (nginx lets the
/// old ones accept for 100 ms beside the new ones, `ngx_master_process_cycle`: a probe could meet one of them.)
pub(crate) fn reload(unit: &UnitName, configuration: &Hash, epoch: &str) -> Result<(), Error> {
    mark(epoch)?;
    let main = systemd::states(&[unit])?.get(unit).map_or(0, |state| state.main_pid);
    let old = nginx::accepting_workers(main);
    systemd::hang_up(unit)?;
    await_served(|served| served.configuration == *configuration && served.epoch == epoch)?;
    let end = Instant::now() + NGINX_DEADLINE;
    while old.iter().any(|worker| nginx::accepts(*worker)) {
        if Instant::now() >= end {
            return Err(Error::OldWorkers);
        }
        sleep(BEAT);
    }
    Ok(())
}

/// Waits until nginx answers with this configuration, and only with it.
pub(crate) fn await_configuration(configuration: &Hash) -> Result<(), Error> {
    // Two instances may answer for a moment: it counts when only one kind of answer comes.
    await_served(|served| {
        served.configuration == *configuration && (0..3).all(|_| nginx::served().is_some_and(|again| again == *served))
    })
}

fn await_served(is_it: impl Fn(&nginx::Served) -> bool) -> Result<(), Error> {
    let end = Instant::now() + NGINX_DEADLINE;
    let mut last = None;
    while Instant::now() < end {
        if let Some(served) = nginx::served() {
            if is_it(&served) {
                return Ok(());
            }
            last = Some(served);
        }
        sleep(BEAT);
    }
    Err(match last {
        Some(served) => Error::Other { configuration: served.configuration.short(), epoch: served.epoch },
        None => Error::Silent,
    })
}
