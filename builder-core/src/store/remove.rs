//! Deletes a tree of files, whatever its modes are.
//!
//! A laid out layer and the working directory of an overlay mount hold directories that their owner may not list.
//! Such a directory is made accessible and then deleted. No link is followed.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// Deletes what is at `path`, and all below it if that is a directory. A path where nothing is is no error.
///
/// # Errors
/// Those of the system, where a file belongs to somebody else or is busy.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let done = match rustix::fs::lstat(path) {
        Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() => {
            let (parent, name) = split(path)?;
            remove_at(parent.as_fd(), &name)
        }
        Ok(_) => rustix::fs::unlink(path),
        Err(error) => Err(error),
    };
    match done {
        Err(Errno::NOENT) => Ok(()),
        done => Ok(done?),
    }
}

/// The directory that holds `path`, and its name there.
fn split(path: &Path) -> io::Result<(OwnedFd, CString)> {
    use std::os::unix::ffi::OsStrExt as _;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let name = CString::new(name.as_bytes())?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok((rustix::fs::open(parent, DIRECTORY, Mode::empty())?, name))
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Deletes `name` in an open directory, and all below it.
///
/// However deep the tree is, one directory is open at a time besides `parent`, and time grows with the number of its
/// files.
///
/// # Errors
/// Those of the system; `ESTALE` where somebody moves the tree meanwhile.
pub fn remove_at(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    if delete(parent, name)? == Kind::File {
        return Ok(());
    }
    let mut here = Level::open(parent, name)?;
    let mut above: Vec<Above> = Vec::new();
    loop {
        if let Some(name) = here.next_name()? {
            match delete(here.directory.as_fd(), &name) {
                Err(Errno::NOENT) | Ok(Kind::File) => {}
                Err(error) => return Err(error),
                Ok(Kind::Directory) => {
                    let below = Level::open(here.directory.as_fd(), &name)?;
                    above.push(here.leave(above.len()));
                    here = below;
                }
            }
            continue;
        }
        let Some(back) = above.pop() else {
            return rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
        };
        let emptied = here.name;
        here = Level::return_to(&here.directory, back)?;
        rustix::fs::unlinkat(&here.directory, &emptied, AtFlags::REMOVEDIR)?;
    }
}

/// What a name turned out to be.
#[derive(PartialEq, Eq)]
enum Kind {
    /// No directory: it is gone.
    File,
    /// A directory: it is still there.
    Directory,
}

/// Deletes what is no directory. In a directory that may not be written to by its owner, after making that possible.
fn delete(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Kind> {
    let unlink = || match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => Ok(Kind::Directory),
        done => done.map(|()| Kind::File),
    };
    match unlink() {
        Err(Errno::ACCESS) => {
            rustix::fs::fchmod(parent, Mode::RWXU)?;
            unlink()
        }
        other => other,
    }
}

/// From this depth on a directory is listed anew when the way leads back to it, so that the names that are still to be
/// deleted take no memory on each level.
const DEEP: usize = 256;

/// A directory that is being emptied.
struct Level {
    directory: OwnedFd,
    name: CString,
    /// Names that were listed and not deleted yet.
    names: Vec<CString>,
}

/// What is remembered of a directory while one in it is emptied.
struct Above {
    name: CString,
    names: Vec<CString>,
    /// Device and inode number, by which it is known again.
    identity: (u64, u64),
}

impl Level {
    fn open(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Self> {
        let directory = match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
            Err(Errno::ACCESS) => {
                rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
                rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?
            }
            opened => opened?,
        };
        Ok(Self {
            directory,
            name: name.to_owned(),
            names: Vec::new(),
        })
    }

    /// A name in it; none only where it is empty.
    fn next_name(&mut self) -> rustix::io::Result<Option<CString>> {
        if self.names.is_empty() {
            // What is deleted while a directory is listed may hide what follows it: it is listed until it is empty.
            self.names = some_names(&self.directory)?;
        }
        Ok(self.names.pop())
    }

    fn leave(self, depth: usize) -> Above {
        let identity = identity(&self.directory).unwrap_or_default();
        Above {
            name: self.name,
            names: if depth < DEEP { self.names } else { Vec::new() },
            identity,
        }
    }

    /// Goes back to the directory above, which must be the one that was left.
    fn return_to(below: &OwnedFd, above: Above) -> rustix::io::Result<Self> {
        let open = || rustix::fs::openat(below, c"..", DIRECTORY, Mode::empty());
        let directory = match open() {
            // The directory below has no right to be searched.
            Err(Errno::ACCESS) => {
                rustix::fs::fchmod(below, Mode::RWXU)?;
                open()?
            }
            opened => opened?,
        };
        if identity(&directory)? != above.identity {
            return Err(Errno::STALE);
        }
        Ok(Self {
            directory,
            name: above.name,
            names: above.names,
        })
    }
}

fn identity(directory: &OwnedFd) -> rustix::io::Result<(u64, u64)> {
    let found = rustix::fs::fstat(directory)?;
    Ok((found.st_dev, found.st_ino))
}

/// Some names in a directory; none only where it is empty.
fn some_names(directory: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    rustix::fs::seek(directory, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 8 * 1024];
    let mut entries = rustix::fs::RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
        if entries.is_buffer_empty() && !names.is_empty() {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn deletes_whatever_the_modes_and_follows_nothing() {
        let home = tempfile::tempdir().unwrap();
        let tree = home.path().join("tree");
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::write(home.path().join("kept"), "").unwrap();
        std::os::unix::fs::symlink(home.path(), tree.join("a/out")).unwrap();
        for number in 0..1000 {
            fs::write(
                tree.join(format!("a/b/a-file-with-a-long-name-{number}")),
                "",
            )
            .unwrap();
        }
        for (path, mode) in [("a/b/c", 0), ("a/b", 0o500), ("a", 0)] {
            fs::set_permissions(tree.join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && home.path().join("kept").exists());
        remove_tree(&tree).unwrap();
    }

    /// A RUN can make a directory as deep as it likes; a store that can't delete it would be lost.
    #[test]
    fn deletes_what_is_deeper_than_any_stack() {
        let home = tempfile::tempdir().unwrap();
        let tree = home.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut here = rustix::fs::open(&tree, DIRECTORY, Mode::empty()).unwrap();
        for level in 0..3_000 {
            rustix::fs::mkdirat(&here, c"d", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&here, c"e", Mode::empty()).unwrap();
            let below = rustix::fs::openat(&here, c"d", DIRECTORY, Mode::empty()).unwrap();
            if level % 3 == 0 {
                rustix::fs::fchmod(&here, Mode::empty()).unwrap();
            }
            here = below;
        }
        // An open directory down there makes the kernel look at all that was deleted, at each level again.
        drop(here);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
