//! Packages made for a test, well formed or not.

/// One entry of a package's data.
pub(crate) struct Item<'a> {
    pub(crate) path: &'a str,
    pub(crate) kind: tar::EntryType,
    pub(crate) mode: u32,
    pub(crate) content: &'a [u8],
    pub(crate) link: &'a str,
}

impl<'a> Item<'a> {
    pub(crate) fn file(path: &'a str, mode: u32, content: &'a [u8]) -> Self {
        Self { path, kind: tar::EntryType::Regular, mode, content, link: "" }
    }

    pub(crate) fn folder(path: &'a str) -> Self {
        Self { path, kind: tar::EntryType::Directory, mode: 0o755, content: b"", link: "" }
    }

    pub(crate) fn symlink(path: &'a str, link: &'a str) -> Self {
        Self { path, kind: tar::EntryType::Symlink, mode: 0o777, content: b"", link }
    }

    pub(crate) fn of_kind(path: &'a str, kind: tar::EntryType, link: &'a str) -> Self {
        Self { path, kind, mode: 0o644, content: b"", link }
    }
}

/// The `data.tar` of these entries, paths written as they are.
pub(crate) fn data(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in items {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..item.path.len()].copy_from_slice(item.path.as_bytes());
        old.linkname[..item.link.len()].copy_from_slice(item.link.as_bytes());
        header.set_entry_type(item.kind);
        header.set_mode(item.mode);
        header.set_size(item.content.len() as u64);
        header.set_cksum();
        builder.append(&header, item.content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A `.deb` of these members.
pub(crate) fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ar::Builder::new(Vec::new());
    for (name, content) in members {
        builder.append(&ar::Header::new(name.as_bytes().to_vec(), content.len() as u64), *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A whole package, its data compressed with xz: `tool` 1 for amd64.
pub(crate) fn package(items: &[Item<'_>]) -> Vec<u8> {
    let control = data(&[Item::file("./control", 0o644, b"Package: tool\nVersion: 1\nArchitecture: amd64\n")]);
    archive(&[("debian-binary", b"2.0\n"), ("control.tar.xz", &xz(&control)), ("data.tar.xz", &xz(&data(items)))])
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    liblzma::encode_all(bytes, 1).unwrap()
}
