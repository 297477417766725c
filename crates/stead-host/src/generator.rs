//! The systemd generator: what hands the active generation's units to systemd.
//!
//! A short POSIX script, because it runs at every boot and must be the least that can fail: it
//! needs no agent, no network, and nothing of a generation but its folder. At boot, when nothing
//! is active, it makes the confirmed generation the active one. It never fails a boot: it ends
//! with 0 whatever it finds.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use stead_model::layout;

/// The script, as it is installed.
pub fn script() -> String {
    format!(
        r#"#!/bin/sh
# Stead's generator, see systemd.generator(7). Links the units of the active generation, and of
# instances that still drain. When nothing is active (at boot), the confirmed generation becomes it.
out=$1
active={active}
if ! [ -e "$active" ] && [ -e "{confirmed}" ]; then
    mkdir -p "{run}/instances" "{run}/upstreams" "{run}/sockets" "{run}/draining"
    cp -R "{confirmed}/run/." "{run}/" 2>/dev/null
    ln -sfn "$(readlink "{confirmed}")" "$active"
fi
generation=$(readlink "$active" 2>/dev/null)
# Two calls of ln for each folder, however many units there are: this runs at every reload of systemd.
for folder in "{draining}" "$generation/units"; do
    set --
    for unit in "$folder"/*; do
        if [ -L "$unit" ] || [ -f "$unit" ]; then
            set -- "$@" "$unit"
        elif [ -d "$unit" ]; then
            mkdir -p "$out/${{unit##*/}}"
            cp -P "$unit"/* "$out/${{unit##*/}}/"
        fi
    done
    [ $# = 0 ] || ln -sf -t "$out" "$@"
done
exit 0
"#,
        active = layout::ACTIVE,
        confirmed = layout::CONFIRMED,
        run = layout::RUN,
        draining = layout::DRAINING,
    )
}

/// Installs the script when it is missing or different; tells whether it wrote. Durable: the file
/// and its folder are synchronised before this returns.
///
/// # Errors
/// When it cannot be written.
pub fn install() -> io::Result<bool> {
    install_at(Path::new(layout::GENERATOR))
}

fn install_at(path: &Path) -> io::Result<bool> {
    let wanted = script();
    if fs::read_to_string(path).is_ok_and(|found| found == wanted) {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    // A name that starts with a dot: systemd does not run hidden files of this folder.
    let temporary = folder.join(".stead.new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(wanted.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(folder)?.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_installed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("generators/stead");
        assert!(install_at(&path).unwrap());
        assert!(!install_at(&path).unwrap());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[test]
    fn the_script_is_posix_shell() {
        let output = std::process::Command::new("sh").args(["-n", "-c", &script()]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
