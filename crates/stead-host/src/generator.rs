//! The systemd generator: what hands the active generation's units to systemd.
//!
//! A short POSIX script, because it runs at every boot and must be the least that can fail: it
//! needs no agent, no network, and nothing of a generation but its folder. At boot, when nothing
//! is active, it makes the confirmed generation the active one, and has an activation taken up that
//! the machine went down in. It copies the host's lists of users to where services look for them. It
//! never fails a boot: it ends with 0 whatever it finds.

use crate::users;
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
unfinished={unfinished}
if [ -L "$unfinished" ] && {{ ! [ -e "$active" ] || [ -e "{recovering}" ]; }}; then
    # Nothing is active: the machine went down in the middle of an activation. Taking it up makes something active, and
    # has systemd read all units again: this one has to stay known until it has ended.
    mkdir -p "{run}" && : > "{recovering}"
    unit=stead-recovery-$(readlink "$unfinished").service
    mkdir -p "$out/multi-user.target.wants"
    cat > "$out/$unit" <<END
[Unit]
Description=Stead takes up the activation that was interrupted
After=multi-user.target network-online.target
StartLimitIntervalSec=0
[Service]
Type=oneshot
ExecStart=$(readlink "$unfinished/agent") agent recover $(readlink "$unfinished")
Restart=on-failure
RestartSec=10
END
    ln -sf "../$unit" "$out/multi-user.target.wants/$unit"
fi
if ! [ -e "$active" ] && [ -e "{confirmed}" ]; then
    mkdir -p "{run}/instances" "{run}/upstreams" "{run}/sockets" "{run}/draining"
    cp -R "{confirmed}/run/." "{run}/" 2>/dev/null
    ln -sfn "$(readlink "{confirmed}")" "$active"
    # journald starts after this.
    if [ -f "{confirmed}/journald.conf" ]; then
        mkdir -p "{journald_folder}" && cp "{confirmed}/journald.conf" "{journald}"
    fi
fi
generation=$(readlink "$active" 2>/dev/null)
if [ -n "$generation" ]; then
    # Services know the host's users by these copies; a rename each, because they read them at any time.
    mkdir -p "{names}/.new"
    cp {lists} "{names}/.new/" && mv -f "{names}/.new"/* "{names}/"
fi 2>/dev/null
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
        unfinished = layout::UNFINISHED,
        recovering = layout::RECOVERING,
        confirmed = layout::CONFIRMED,
        run = layout::RUN,
        draining = layout::DRAINING,
        journald = layout::JOURNALD,
        journald_folder = layout::JOURNALD.rsplit_once('/').map_or("/", |(folder, _)| folder),
        names = layout::NAMES,
        lists = users::LISTS.map(|list| format!("/etc/{list}")).join(" "),
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

    /// Runs the script with all its places below a folder, and returns what it handed to systemd.
    fn generate(root: &Path) -> Vec<String> {
        generate_and_read(root, "").0
    }

    /// Like [`generate`], with the text of one of those files.
    fn generate_and_read(root: &Path, file: &str) -> (Vec<String>, String) {
        let below = |place: &str| root.join(place.trim_start_matches('/')).display().to_string();
        let script =
            [layout::RUN, layout::STATE].iter().fold(script(), |script, place| script.replace(place, &below(place)));
        let out = root.join("out");
        fs::create_dir_all(&out).unwrap();
        let status = std::process::Command::new("sh").args(["-c", &script, "generator"]).arg(&out).status().unwrap();
        assert!(status.success());
        let mut names: Vec<String> =
            fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let text = fs::read_to_string(out.join(file)).unwrap_or_default();
        fs::remove_dir_all(&out).unwrap();
        (names, text)
    }

    fn generation(root: &Path, name: &str, units: &[&str]) -> std::path::PathBuf {
        let folder = root.join(layout::GENERATIONS.trim_start_matches('/')).join(name);
        fs::create_dir_all(&folder).unwrap();
        for unit in units {
            fs::create_dir_all(folder.join("units/multi-user.target.wants")).unwrap();
            fs::write(folder.join("units").join(unit), "").unwrap();
            std::os::unix::fs::symlink(format!("../{unit}"), folder.join("units/multi-user.target.wants").join(unit))
                .unwrap();
        }
        folder
    }

    #[test]
    fn at_boot_the_confirmed_generation_becomes_active_and_an_empty_active_one_stays() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(at(layout::RUN)).unwrap();
        assert_eq!(generate(place.path()), [""; 0], "nothing of Stead's yet");

        let full = generation(place.path(), "full", &["stead-a.service"]);
        std::os::unix::fs::symlink(&full, at(layout::CONFIRMED)).unwrap();
        assert_eq!(generate(place.path()), ["multi-user.target.wants", "stead-a.service"]);
        assert_eq!(fs::read_link(at(layout::ACTIVE)).unwrap(), full);

        let empty = generation(place.path(), "empty", &[]);
        fs::remove_file(at(layout::ACTIVE)).unwrap();
        std::os::unix::fs::symlink(&empty, at(layout::ACTIVE)).unwrap();
        assert_eq!(generate(place.path()), [""; 0]);
        assert_eq!(fs::read_link(at(layout::ACTIVE)).unwrap(), empty, "an empty generation is not a missing one");
    }

    #[test]
    fn at_boot_an_unfinished_activation_is_taken_up_by_its_own_agent() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(at(layout::RUN)).unwrap();
        let full = generation(place.path(), "full", &["stead-a.service"]);
        std::os::unix::fs::symlink(&full, at(layout::CONFIRMED)).unwrap();
        fs::create_dir_all(at(layout::ACTIVATIONS).join("20260102T030405Z-1a2b")).unwrap();
        let link = |to: &str, path: &Path| std::os::unix::fs::symlink(to, path).unwrap();
        link("/agents/x/stead", &at(layout::ACTIVATIONS).join("20260102T030405Z-1a2b/agent"));
        link("20260102T030405Z-1a2b", &at(layout::UNFINISHED));

        let unit = "stead-recovery-20260102T030405Z-1a2b.service";
        let (names, text) = generate_and_read(place.path(), unit);
        assert_eq!(names, ["multi-user.target.wants", "stead-a.service", unit]);
        assert!(text.contains("\nExecStart=/agents/x/stead agent recover 20260102T030405Z-1a2b\n"), "{text}");
        assert_eq!(generate_and_read(place.path(), unit), (names, text), "it stays known while it works");
        fs::remove_file(at(layout::UNFINISHED)).unwrap();
        fs::remove_file(at(layout::RECOVERING)).unwrap();
        let without = ["multi-user.target.wants", "stead-a.service"];
        assert_eq!(generate(place.path()), without, "it has ended");
        link("20260102T030405Z-1a2b", &at(layout::UNFINISHED));
        assert_eq!(generate(place.path()), without, "another one is under way, and the machine did not go down");
    }

    #[test]
    fn services_find_the_lists_of_users_as_soon_as_something_is_active() {
        let place = tempfile::tempdir().unwrap();
        let names = place.path().join(layout::NAMES.trim_start_matches('/'));
        fs::create_dir_all(place.path().join("run/stead")).unwrap();
        generate(place.path());
        assert!(!names.exists(), "nothing of Stead's yet");
        let full = generation(place.path(), "full", &["stead-a.service"]);
        std::os::unix::fs::symlink(&full, place.path().join(layout::ACTIVE.trim_start_matches('/'))).unwrap();
        for _ in 0..2 {
            generate(place.path());
            for list in users::LISTS {
                let (copy, own) = (names.join(list), Path::new("/etc").join(list));
                assert_eq!(fs::read(copy).unwrap(), fs::read(own).unwrap(), "{list}");
            }
        }
    }

    #[test]
    fn units_that_drain_stay_known_when_nothing_is_active() {
        let place = tempfile::tempdir().unwrap();
        let draining = place.path().join(layout::DRAINING.trim_start_matches('/'));
        fs::create_dir_all(&draining).unwrap();
        let old = generation(place.path(), "old", &["stead-b.service"]);
        std::os::unix::fs::symlink(old.join("units/stead-b.service"), draining.join("stead-b.service")).unwrap();
        assert_eq!(generate(place.path()), ["stead-b.service"]);
    }

    #[test]
    fn the_script_is_posix_shell() {
        let output = std::process::Command::new("sh").args(["-n", "-c", &script()]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
