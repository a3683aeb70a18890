//! Deletes a tree of files, whatever its modes are.
//!
//! A laid out layer and the working directory of an overlay mount hold directories that their owner may not list.
//! Such a directory is made accessible and then deleted. No link is followed.

use std::ffi::CStr;
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
fn split(path: &Path) -> io::Result<(OwnedFd, std::ffi::CString)> {
    use std::os::unix::ffi::OsStrExt as _;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let name = std::ffi::CString::new(name.as_bytes())?;
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
/// # Errors
/// Those of the system.
pub fn remove_at(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return done,
    }
    let directory = match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?
        }
        opened => opened?,
    };
    if empty(&directory) == Err(Errno::ACCESS) {
        rustix::fs::fchmod(&directory, Mode::RWXU)?;
        empty(&directory)?;
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Deletes all that is in a directory.
fn empty(directory: &OwnedFd) -> rustix::io::Result<()> {
    loop {
        // What is deleted while a directory is listed may hide what follows it: it is listed until it is empty.
        let names = some_names(directory)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            match remove_at(directory.as_fd(), &name) {
                Err(Errno::NOENT) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Some names in a directory; none only where it is empty.
fn some_names(directory: &OwnedFd) -> rustix::io::Result<Vec<std::ffi::CString>> {
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
}
