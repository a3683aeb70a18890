//! What a RUN sees: its root directory, and what is mounted in it, as a table.
//!
//! Nothing is mounted in truth. Where something is, the root has a stub that the kernel can't walk through (a directory
//! or file without permissions, which this process has no power to override), known by its inode. So whatever the kernel
//! says of a path, it never speaks of what a mount hides: it fails with `EACCES` or `ENOTDIR`, and the path is walked
//! name by name, over the table.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::owners::SideTable;
use crate::sandbox::supervisor::caller::{LOOK, own_path};
use crate::sandbox::supervisor::virtual_files::MemoryFile;
use crate::sandbox::supervisor::{Identity, Result};

/// What a supervisor of paths starts with.
pub(crate) struct Paths {
    /// Who the RUN starts as.
    pub identity: Identity,
    /// Records of the files that take no attributes.
    pub table: SideTable,
    /// What it sees; the first is its root, which has no stub.
    pub mounts: Vec<Mounted>,
    /// The number of the terminal that the command was given.
    pub terminal: Option<u32>,
}

/// Something at a place of the root.
pub(crate) struct Mounted {
    /// Where: absolute, without links.
    pub target: PathBuf,
    /// The file that stands for it there, on the host.
    pub stub: Option<PathBuf>,
    /// What.
    pub kind: Kind,
}

/// What a RUN sees at a place.
pub(crate) enum Kind {
    /// A directory or file of the host.
    Files {
        /// Its path.
        host: PathBuf,
        /// Whether writes are refused.
        read_only: bool,
    },
    /// `/proc`
    Proc,
    /// `/sys`
    Sys,
    /// A device file of the host.
    Device(PathBuf),
    /// `/dev/pts`: the terminals that the RUN has made. What is listed there is an empty directory of the host.
    Terminals(PathBuf),
    /// A file in memory alone.
    Memory(MemoryFile),
}

/// A device and inode number.
pub(super) type Key = (u64, u64);

/// One of them, open.
pub(super) struct Tree {
    /// Where the RUN sees it.
    pub(super) target: Vec<u8>,
    /// The directory that holds its stub, and the tree that is in.
    pub(super) above: Option<(OwnedFd, usize)>,
    /// The directory or file of the host.
    pub(super) top: OwnedFd,
    pub(super) top_key: Key,
    /// Its path; what lies below it is the tree's.
    pub(super) host: Vec<u8>,
    pub(super) kind: Kind,
}

impl Tree {
    pub(super) fn is_read_only(&self) -> bool {
        matches!(
            self.kind,
            Kind::Files {
                read_only: true,
                ..
            }
        )
    }
}

/// The table.
pub(super) struct Trees {
    all: Vec<Tree>,
    stubs: HashMap<Key, usize>,
}

/// Where a directory that a process has open lies.
pub(super) enum Place {
    /// In a tree of files, by its number; the path below its top.
    Tree(usize, Vec<u8>),
    /// In the kernel's own files: the path, which is the same for the host and the RUN.
    Kernel(Vec<u8>),
    /// Nowhere that the RUN sees.
    Elsewhere,
}

impl Trees {
    /// Opens what is seen.
    pub(super) fn open(mounts: Vec<Mounted>) -> std::io::Result<Self> {
        let mut trees = Self {
            all: Vec::new(),
            stubs: HashMap::new(),
        };
        for mounted in mounts {
            trees.add(mounted)?;
        }
        Ok(trees)
    }

    fn add(&mut self, mounted: Mounted) -> std::io::Result<()> {
        let host = match &mounted.kind {
            Kind::Files { host, .. } | Kind::Device(host) | Kind::Terminals(host) => {
                host.canonicalize()?
            }
            Kind::Proc => PathBuf::from("/proc"),
            Kind::Sys => PathBuf::from("/sys"),
            Kind::Memory(_) => PathBuf::new(),
        };
        let top = match &mounted.kind {
            Kind::Memory(file) => file.content.try_clone()?,
            _ => rustix::fs::open(&host, LOOK, Mode::empty())?,
        };
        let above = match &mounted.stub {
            Some(stub) => Some(self.directory_of(stub)?),
            None => None,
        };
        if let Some(stub) = &mounted.stub {
            let found = rustix::fs::lstat(stub)?;
            self.stubs
                .insert((found.st_dev, found.st_ino), self.all.len());
        }
        self.all.push(Tree {
            target: mounted.target.as_os_str().as_bytes().to_vec(),
            above,
            top_key: key_of(&top)?,
            top,
            host: host.as_os_str().as_bytes().to_vec(),
            kind: mounted.kind,
        });
        Ok(())
    }

    fn directory_of(&self, stub: &Path) -> std::io::Result<(OwnedFd, usize)> {
        let parent = stub.parent().unwrap_or(stub).canonicalize()?;
        let Place::Tree(tree, _) = self.place_of_path(parent.as_os_str().as_bytes()) else {
            return Err(Errno::XDEV.into());
        };
        Ok((rustix::fs::open(&parent, LOOK, Mode::empty())?, tree))
    }

    pub(super) fn get(&self, number: usize) -> &Tree {
        &self.all[number]
    }

    /// All of them, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Tree> {
        self.all.iter()
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.all[0].top.as_fd()
    }

    /// The tree that an inode stands for, if it is a stub.
    pub(super) fn behind(&self, key: Key) -> Option<usize> {
        self.stubs.get(&key).copied()
    }

    /// Where something that this process has open lies. Its path is the kernel's own word for where it is now, so that
    /// what has been moved away, or was never below one of the trees, is not taken for what it isn't.
    pub(super) fn place_of(&self, object: impl AsFd) -> Result<Place> {
        let path = rustix::fs::readlink(own_path(object), Vec::new())?;
        Ok(self.place_of_path(path.as_bytes()))
    }

    fn place_of_path(&self, path: &[u8]) -> Place {
        let below = |top: &[u8]| {
            let rest = path.strip_prefix(top)?;
            (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
        };
        let found = self.all.iter().enumerate().filter_map(|(number, tree)| {
            let files = matches!(tree.kind, Kind::Files { .. } | Kind::Terminals(_));
            Some((
                tree.host.len(),
                number,
                below(&tree.host).filter(|_| files)?,
            ))
        });
        if let Some((_, number, rest)) = found.max_by_key(|(length, ..)| *length) {
            return Place::Tree(number, rest.to_vec());
        }
        if below(b"/proc").is_some() || below(b"/sys").is_some() {
            return Place::Kernel(path.to_vec());
        }
        Place::Elsewhere
    }

    /// The path by which the RUN knows a place.
    pub(super) fn visible(&self, tree: usize, below: &[u8]) -> Vec<u8> {
        let target = &self.all[tree].target;
        match (target.as_slice(), below) {
            (b"/", b"") => b"/".to_vec(),
            (b"/", rest) => rest.to_vec(),
            (target, rest) => [target, rest].concat(),
        }
    }

    /// What the RUN calls a path of the host; none for one that it can't see.
    pub(super) fn visible_path(&self, host: &[u8]) -> Option<Vec<u8>> {
        match self.place_of_path(host) {
            Place::Tree(tree, rest) => Some(self.visible(tree, &rest)),
            _ => None,
        }
    }

    /// A text of the kernel's with the paths that the RUN knows.
    pub(super) fn translate(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let Some(at) = line.iter().position(|&byte| byte == b'/') else {
                out.extend_from_slice(line);
                continue;
            };
            let (start, path) = line.split_at(at);
            let path = path.strip_suffix(b"\n").unwrap_or(path);
            out.extend_from_slice(start);
            match self.visible_path(path) {
                Some(seen) => out.extend(seen),
                None => out.extend_from_slice(path),
            }
            if line.ends_with(b"\n") {
                out.push(b'\n');
            }
        }
        out
    }
}

/// The inode of something open.
pub(super) fn key_of(object: impl AsFd) -> rustix::io::Result<Key> {
    let found = rustix::fs::fstat(object)?;
    Ok((found.st_dev, found.st_ino))
}

/// Opens something again that is open to be looked at.
pub(super) fn reopen(object: impl AsFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path: CString = own_path(object);
    let flags = flags.difference(OFlags::NOFOLLOW | OFlags::CREATE | OFlags::EXCL);
    rustix::fs::open(
        path,
        flags | OFlags::CLOEXEC | OFlags::NOCTTY,
        Mode::empty(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root, and a directory that is mounted in it.
    fn trees(home: &Path) -> Trees {
        for path in ["root/run/stub", "cache/x"] {
            std::fs::create_dir_all(home.join(path)).unwrap();
        }
        let files = |host: &str| Kind::Files {
            host: home.join(host),
            read_only: false,
        };
        let mounts = vec![
            Mounted {
                target: PathBuf::from("/"),
                stub: None,
                kind: files("root"),
            },
            Mounted {
                target: PathBuf::from("/run/stub"),
                stub: Some(home.join("root/run/stub")),
                kind: files("cache"),
            },
        ];
        Trees::open(mounts).unwrap()
    }

    #[test]
    fn places_are_what_the_run_calls_them() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let trees = trees(&home);
        for (path, expected) in [
            ("root", Some("/")),
            ("root/run", Some("/run")),
            ("cache", Some("/run/stub")),
            ("cache/x/y", Some("/run/stub/x/y")),
            ("rooted", None),
            ("", None),
        ] {
            let host = home.join(path);
            let host = host.as_os_str().as_bytes();
            let host = host.strip_suffix(b"/").unwrap_or(host);
            let found = trees.visible_path(host);
            let found = found.map(|path| String::from_utf8(path).unwrap());
            assert_eq!(found.as_deref(), expected, "{path}");
        }
        let stub = std::fs::metadata(home.join("root/run/stub")).unwrap();
        let key = std::os::unix::fs::MetadataExt::ino(&stub);
        assert_eq!(trees.behind((trees.get(0).top_key.0, key)), Some(1));
        let text = format!(
            "1-2 r {}/root/bin/sh\n3-4 rw [heap]\n5 /other\n",
            home.display()
        );
        let expected = b"1-2 r /bin/sh\n3-4 rw [heap]\n5 /other\n";
        assert_eq!(trees.translate(text.as_bytes()), expected);
    }

    #[test]
    fn what_was_moved_out_is_nowhere() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let trees = trees(&home);
        let directory = std::fs::File::open(home.join("root/run")).unwrap();
        assert!(matches!(
            trees.place_of(&directory).unwrap(),
            Place::Tree(0, _)
        ));
        std::fs::rename(home.join("root/run"), home.join("outside")).unwrap();
        assert!(matches!(
            trees.place_of(&directory).unwrap(),
            Place::Elsewhere
        ));
    }
}
