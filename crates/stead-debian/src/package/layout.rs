//! Places in a runtime: the merged `/usr`, and what is left out.
//!
//! Pure text. A path or a link target that comes out of here stays below the tree's root, read as
//! the kernel reads it when the tree is the root of a process.

use std::collections::BTreeSet;
use stead_model::path::RelativePath;
use stead_model::tree::{Entry, Tree};

/// Folders of the root that are links into `usr` (`file-hierarchy(7)`, "Compatibility Symlinks").
pub const MERGED: [&str; 6] = ["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// What a runtime has no use for, by folder (in the merged layout): documents, translations, and
/// what belongs to a service manager, a package manager, a desktop or a shell at a terminal.
pub const LEFT_OUT: [&str; 63] = [
    // Documents and translations.
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/gtk-doc",
    "usr/share/help",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/reportbug",
    // Desktops and terminals.
    "etc/bash_completion.d",
    "etc/xdg/autostart",
    "usr/lib/mime",
    "usr/share/appdata",
    "usr/share/applications",
    "usr/share/apport",
    "usr/share/bash-completion",
    "usr/share/fish",
    "usr/share/icons",
    "usr/share/menu",
    "usr/share/metainfo",
    "usr/share/pixmaps",
    "usr/share/zsh",
    // The host's service manager, its init scripts and schedules.
    "etc/cron.d",
    "etc/cron.daily",
    "etc/cron.hourly",
    "etc/cron.monthly",
    "etc/cron.weekly",
    "etc/default",
    "etc/init",
    "etc/init.d",
    "etc/insserv.conf.d",
    "etc/logrotate.d",
    "etc/rc0.d",
    "etc/rc6.d",
    "etc/rcS.d",
    "etc/rsyslog.d",
    "etc/runit",
    "etc/sv",
    "etc/sysctl.d",
    "etc/systemd",
    "usr/lib/binfmt.d",
    "usr/lib/init",
    "usr/lib/lsb",
    "usr/lib/modprobe.d",
    "usr/lib/modules-load.d",
    "usr/lib/sysctl.d",
    "usr/lib/systemd",
    "usr/lib/sysusers.d",
    "usr/lib/tmpfiles.d",
    "usr/lib/udev",
    "usr/share/dbus-1",
    "usr/share/initramfs-tools",
    "usr/share/polkit-1",
    // The host's network, firewall, access and packages.
    "etc/NetworkManager",
    "etc/apparmor.d",
    "etc/apt",
    "etc/dhcp",
    "etc/dpkg",
    "etc/network",
    "etc/sudoers.d",
    "etc/ufw",
    "var/lib/dpkg",
];

/// The same place in the merged layout.
pub(crate) fn merged(path: &RelativePath) -> RelativePath {
    let first = path.as_str().split('/').next().unwrap_or_default();
    if MERGED.contains(&first) {
        format!("usr/{path}").parse().expect("a normal path below usr is one")
    } else {
        path.clone()
    }
}

/// Whether this is one of the root's own links into `usr`, which a runtime has anyway.
pub(crate) fn is_merged_link(path: &RelativePath) -> bool {
    MERGED.contains(&path.as_str())
}

/// Whether a runtime has no use for this place (in the merged layout).
pub(crate) fn is_left_out(place: &RelativePath) -> bool {
    let place = place.as_str();
    LEFT_OUT
        .iter()
        .any(|folder| place.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// The target of a link at `original` (before merging), for its place in the merged layout.
/// `None` if it leads out of the root, or cannot be written down.
pub(crate) fn link_target(original: &RelativePath, target: &str) -> Option<String> {
    if target.is_empty() || target.len() > 4095 || target.contains(['\0', '\n']) {
        return None;
    }
    let mut parts: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => original.as_str().split('/').collect::<Vec<_>>().split_last()?.1.to_vec(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    let moved = merged(original) != *original;
    if !moved || target.starts_with('/') {
        return Some(target.to_owned());
    }
    // The link moves one folder down: told from the root, it still leads to the same place.
    let same_folder = !target.contains('/') && target != "..";
    if same_folder { Some(target.to_owned()) } else { Some(format!("/{}", parts.join("/"))) }
}

/// Removes the folders that follow from what is in them.
pub(crate) fn drop_implied_folders(tree: &mut Tree) {
    let implied: BTreeSet<RelativePath> = tree.entries.keys().flat_map(ancestors).collect();
    tree.entries.retain(|path, entry| *entry != Entry::Folder || !implied.contains(path));
}

/// Every folder above a path, from the nearest.
pub(crate) fn ancestors(path: &RelativePath) -> impl Iterator<Item = RelativePath> + use<> {
    std::iter::successors(path.parent(), RelativePath::parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> RelativePath {
        text.parse().unwrap()
    }

    #[test]
    fn the_root_folders_move_into_usr() {
        assert_eq!(merged(&path("bin/dash")).as_str(), "usr/bin/dash");
        assert_eq!(merged(&path("lib64/ld.so")).as_str(), "usr/lib64/ld.so");
        assert_eq!(merged(&path("library/x")).as_str(), "library/x");
        assert_eq!(merged(&path("usr/bin/x")).as_str(), "usr/bin/x");
    }

    #[test]
    fn documents_are_left_out_and_names_alike_are_not() {
        assert!(is_left_out(&path("usr/share/doc/nginx/copyright")));
        assert!(is_left_out(&path("usr/share/doc")));
        assert!(!is_left_out(&path("usr/share/documents/x")));
        assert!(!is_left_out(&path("etc/nginx/mime.types")));
        assert!(
            LEFT_OUT.iter().all(|folder| merged(&path(folder)) == path(folder)),
            "the list is in the merged layout"
        );
    }

    #[test]
    fn links_stay_inside_and_lead_to_where_they_led() {
        assert_eq!(
            link_target(&path("usr/bin/elixir"), "../lib/elixir/bin/elixir").as_deref(),
            Some("../lib/elixir/bin/elixir")
        );
        assert_eq!(link_target(&path("lib64/ld.so"), "/lib/x/ld.so").as_deref(), Some("/lib/x/ld.so"));
        assert_eq!(link_target(&path("lib/x/liba.so"), "liba.so.1").as_deref(), Some("liba.so.1"));
        assert_eq!(
            link_target(&path("lib/x/liba.so"), "../../usr/lib/x/liba.so").as_deref(),
            Some("/usr/lib/x/liba.so")
        );
        for (place, target) in [
            ("usr/x", "../../etc/passwd"),
            ("x", ".."),
            ("usr/x", "/../etc/passwd"),
            ("a/b", "c/../../../d"),
            ("a", ""),
            ("a", "b\0"),
        ] {
            assert_eq!(link_target(&path(place), target), None, "{place} → {target}");
        }
    }

    proptest! {
        #[test]
        fn no_link_target_climbs_above_the_root(depth in 0_usize..4, target in "(/|\\.\\./|\\./|a/|usr/|lib/){0,8}(b|\\.\\.)?") {
            for top in ["usr", "lib", "opt"] {
                let place = path(&format!("{top}/{}x", "d/".repeat(depth)));
                let Some(kept) = link_target(&place, &target) else { continue };
                let place = merged(&place);
                let mut height = if kept.starts_with('/') { 0 } else { place.as_str().split('/').count() as i32 - 1 };
                for part in kept.split('/') {
                    height += match part { "" | "." => 0, ".." => -1, _ => 1 };
                    prop_assert!(height >= 0, "{place} → {kept}");
                }
            }
        }

        #[test]
        fn merging_twice_is_merging_once(text in "(bin|lib|usr|lib64|etc|a)(/(bin|lib|x)){0,3}") {
            let once = merged(&path(&text));
            prop_assert_eq!(merged(&once), once.clone());
        }
    }
}
