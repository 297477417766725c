//! What the tests of this crate share: objects in a folder, and a tree made real.

use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use stead_debian::package::Objects;
use stead_model::hash::Hash;
use stead_model::tree::{Entry, Object, Tree};

/// Objects by hash and executable bit, one file each.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    fn place(&self, object: Object) -> PathBuf {
        self.0.join(format!("{}{}", object.hash, if object.executable { ".x" } else { "" }))
    }
}

impl Objects for Folder {
    fn put(&mut self, executable: bool, content: &mut dyn Read) -> std::io::Result<Object> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        let object = Object { hash: Hash::of(&bytes), size: bytes.len() as u64, executable };
        std::fs::write(self.place(object), &bytes)?;
        std::fs::set_permissions(
            self.place(object),
            std::fs::Permissions::from_mode(if executable { 0o555 } else { 0o444 }),
        )?;
        Ok(object)
    }

    fn read(&self, object: Object) -> std::io::Result<Vec<u8>> {
        std::fs::read(self.place(object))
    }
}

/// Makes the tree in `root`, by hard links.
pub(crate) fn realise(tree: &Tree, objects: &Folder, root: &Path) {
    for (path, entry) in &tree.entries {
        let place = root.join(path.as_str());
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        match entry {
            Entry::File(object) => std::fs::hard_link(objects.place(*object), &place).unwrap(),
            Entry::Link(target) => symlink(target, &place).unwrap(),
            Entry::Folder => std::fs::create_dir_all(&place).unwrap(),
        }
    }
}
