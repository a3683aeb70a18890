//! Trees on a disk: written from the members of a tar, read as the entries of an image. The oracle of what RUN does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, lchown};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lgetxattr, lsetxattr, mknodat};
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use crate::archive::Member;
use crate::flatten::{Entry, Files};
use crate::tarball::hex;
use crate::world::{set_mode, set_mtime};

/// Writes members below a root, with owners, modes, attributes and times: for root only.
pub fn write(root: &Path, members: &[Member]) {
    for member in members {
        let path = root.join(std::ffi::OsStr::from_bytes(&member.name));
        let link = std::ffi::OsStr::from_bytes(&member.link);
        match member.kind {
            EntryType::Directory => fs::create_dir_all(&path).unwrap(),
            EntryType::Symlink => std::os::unix::fs::symlink(link, &path).unwrap(),
            EntryType::Link => {
                fs::hard_link(root.join(link), &path).unwrap();
                continue;
            }
            EntryType::Fifo => {
                mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
            }
            _ => fs::write(&path, &member.content).unwrap(),
        }
        let id = |id: u64| Some(u32::try_from(id).unwrap());
        lchown(&path, id(member.uid), id(member.gid)).unwrap();
        for (name, value) in &member.xattrs {
            lsetxattr(&path, name, value.as_bytes(), XattrFlags::empty()).unwrap();
        }
        if member.kind != EntryType::Symlink {
            set_mode(&path, member.mode);
        }
    }
    for member in members {
        let path = root.join(std::ffi::OsStr::from_bytes(&member.name));
        set_mtime(&path, i64::try_from(member.mtime).unwrap());
    }
}

/// What is below a root, as an image would have it. Hard links point to the first path in order.
pub fn read(root: &Path) -> Files {
    let mut files = Files::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                todo.push(path.clone());
            }
            let inside = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
            files.insert([b"/", inside].concat(), entry_of(&path));
        }
    }
    let mut first: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    for (name, entry) in &mut files {
        let path = root.join(std::ffi::OsStr::from_bytes(&name[1..]));
        let found = path.symlink_metadata().unwrap();
        if entry.kind != "dir" && found.nlink() > 1 {
            let one = first
                .entry((found.dev(), found.ino()))
                .or_insert_with(|| name.clone());
            entry.hardlink_of = (&*one != name).then(|| one.clone());
        }
    }
    files
}

fn entry_of(path: &Path) -> Entry {
    let found = path.symlink_metadata().unwrap();
    let kind = found.file_type();
    let kind = match () {
        () if kind.is_dir() => "dir",
        () if kind.is_symlink() => "symlink",
        () if kind.is_fifo() => "fifo",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () if kind.is_socket() => "socket",
        () => "file",
    };
    let (mut content, mut link) = (Vec::new(), Vec::new());
    match kind {
        "file" => content = fs::read(path).unwrap(),
        "symlink" => link = fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec(),
        _ => {}
    }
    let mut value = [0; 64];
    let name = "security.capability";
    let length = lgetxattr(path, name, &mut value[..]).unwrap_or(0);
    let device = matches!(kind, "char" | "block").then(|| {
        let number = found.rdev();
        (rustix::fs::major(number), rustix::fs::minor(number))
    });
    Entry {
        kind,
        mode: found.mode() & 0o7777,
        uid: found.uid().into(),
        gid: found.gid().into(),
        size: if kind == "file" { found.size() } else { 0 },
        sha256: if kind == "file" {
            hex(&Sha256::digest(&content))
        } else {
            String::new()
        },
        content,
        link,
        hardlink_of: None,
        xattrs: (length > 0)
            .then(|| (name.to_owned(), value[..length].to_vec()))
            .into_iter()
            .collect(),
        mtime: found.mtime(),
        device,
        implicit: false,
    }
}

/// One line for each way in which a tree isn't as the oracle's. `but` names paths whose content and size may differ.
pub fn differences(got: &Files, wanted: &Files, but: impl Fn(&str) -> bool) -> Vec<String> {
    let mut out = Vec::new();
    let all: std::collections::BTreeSet<_> = got.keys().chain(wanted.keys()).collect();
    for path in all {
        let name = crate::names::from_bytes(path);
        let (got, wanted) = match (got.get(path), wanted.get(path)) {
            (Some(got), Some(wanted)) => (got, wanted),
            (None, _) => {
                out.push(format!("{name}: missing"));
                continue;
            }
            (_, None) => {
                out.push(format!("{name}: not expected"));
                continue;
            }
        };
        let shown = |one: &Entry| {
            let mode = if one.kind == "symlink" { 0 } else { one.mode };
            let content = if but(&name) { "" } else { &one.sha256 };
            format!(
                "{} {mode:04o} {}:{} {} {:?} {:?} {:?} {}",
                one.kind,
                one.uid,
                one.gid,
                crate::names::from_bytes(&one.link),
                one.device,
                one.hardlink_of.as_deref().map(crate::names::from_bytes),
                one.xattrs,
                content.get(..8).unwrap_or_default(),
            )
        };
        let (got_line, wanted_line) = (shown(got), shown(wanted));
        if got_line != wanted_line {
            let text = |one: &Entry| {
                let text = String::from_utf8_lossy(&one.content).into_owned();
                if one.content.len() < 4000 && got.content != wanted.content {
                    text
                } else {
                    String::new()
                }
            };
            out.push(format!(
                "{name}: {got_line}, expected {wanted_line}\n{}--\n{}",
                text(got),
                text(wanted)
            ));
        }
    }
    out
}
