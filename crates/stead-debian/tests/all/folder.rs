//! Objects in a folder: what the tests of this crate share.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use stead_debian::package::Objects;
use stead_model::hash::Hash;
use stead_model::tree::Object;

/// Objects by hash and executable bit, one file each.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn place(&self, object: Object) -> PathBuf {
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
