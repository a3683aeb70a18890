//! A directory that nothing opened through it can leave.
//!
//! Every open is relative to one open directory and refuses symbolic links on the way (`openat2` with
//! `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`; component by component with `O_NOFOLLOW` where a kernel or a seccomp
//! profile refuses `openat2`). Whoever swaps a directory for a link while a build runs gets an error, not a file from
//! elsewhere.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};

use crate::image_path::ImagePath;

/// An open directory and its path on the host, which is used for messages only.
#[derive(Debug)]
pub struct ConfinedDir {
    root: OwnedFd,
    path: PathBuf,
    no_openat2: AtomicBool,
    /// The last directory that was opened far below: the next one is mostly in it.
    last: Mutex<Option<(ImagePath, OwnedFd)>>,
}

impl ConfinedDir {
    /// Opens `path`, which may itself be a link to a directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self {
            root,
            path: path.to_owned(),
            no_openat2: AtomicBool::new(false),
            last: Mutex::default(),
        })
    }

    /// The directory's path on the host, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path on the host of something in it, for messages.
    pub fn host_path(&self, path: &ImagePath) -> PathBuf {
        self.path.join(OsStr::from_bytes(path.as_relative()))
    }

    /// What is at `path`, not following a link; none where nothing is or where a component is no directory.
    pub fn stat(&self, path: &ImagePath) -> io::Result<Option<Stat>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(Some(rustix::fs::fstat(&self.root)?));
        };
        let name = to_c(name)?;
        let found = if parent.is_root() {
            rustix::fs::statat(&self.root, &name, AtFlags::SYMLINK_NOFOLLOW)
        } else {
            match self.open_at(&parent, OFlags::DIRECTORY | OFlags::PATH) {
                Ok(directory) => rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW),
                Err(error) if is_absent(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        };
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if is_absent(&error.into()) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a directory for listing.
    pub fn open_directory(&self, path: &ImagePath) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::DIRECTORY | OFlags::RDONLY)
    }

    /// Opens a file for reading. Does not wait on a named pipe; the caller checks that it got a regular file.
    pub fn open_file(&self, path: &ImagePath) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW)
    }

    /// The target of the symbolic link at `path`.
    pub fn read_link(&self, path: &ImagePath) -> io::Result<Vec<u8>> {
        let parent = self.open_at(
            &path.parent().unwrap_or_default(),
            OFlags::DIRECTORY | OFlags::PATH,
        )?;
        let name = to_c(path.file_name().unwrap_or_default())?;
        Ok(rustix::fs::readlinkat(&parent, &name, Vec::new())?.into_bytes())
    }

    fn open_at(&self, path: &ImagePath, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if path.is_root() {
            return Ok(rustix::fs::openat(&self.root, c".", flags, Mode::empty())?);
        }
        if self.no_openat2.load(Ordering::Relaxed) {
            return self.open_by_component(path, flags);
        }
        let opened = if path.as_relative().len() > FAR {
            self.open_far(path, flags)
        } else {
            open_in_pieces(&self.root, path.as_relative(), flags)
        };
        match opened {
            Err(error) if is_refused(&error) => {
                self.no_openat2.store(true, Ordering::Relaxed);
                self.open_by_component(path, flags)
            }
            opened => opened,
        }
    }

    /// From the directory that was opened last, where the path leads through it.
    fn open_far(&self, path: &ImagePath, flags: OFlags) -> io::Result<OwnedFd> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let near = last.as_ref().and_then(|(from, directory)| {
            let rest = path.strip_prefix(from)?;
            (!rest.is_root()).then_some((directory, rest))
        });
        let opened = match near {
            Some((from, rest)) => open_in_pieces(from, rest.as_relative(), flags)?,
            None => open_in_pieces(&self.root, path.as_relative(), flags)?,
        };
        if flags.contains(OFlags::DIRECTORY) {
            *last = Some((path.clone(), opened.try_clone()?));
        }
        Ok(opened)
    }

    fn open_by_component(&self, path: &ImagePath, flags: OFlags) -> io::Result<OwnedFd> {
        let steps = OFlags::DIRECTORY | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut here: Option<OwnedFd> = None;
        let mut names = path.components().peekable();
        while let Some(name) = names.next() {
            let last = names.peek().is_none();
            let flags = if last {
                flags | OFlags::NOFOLLOW
            } else {
                steps
            };
            let name = to_c(name)?;
            let from = here.as_ref().unwrap_or(&self.root);
            here = Some(rustix::fs::openat(from, &name, flags, Mode::empty())?);
        }
        here.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Bytes of a path that are opened at a time; the kernel takes 4,095.
const PIECE: usize = 4000;

/// Opens in as many calls as a path needs that is longer than the kernel takes one.
fn open_in_pieces(start: &OwnedFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let open = |from: &OwnedFd, name: &[u8], flags| {
        let name = to_c(name)?;
        io::Result::Ok(rustix::fs::openat2(
            from,
            &name,
            flags,
            Mode::empty(),
            resolve,
        )?)
    };
    let (mut here, mut rest): (Option<OwnedFd>, _) = (None, path);
    while rest.len() > PIECE
        && let Some(end) = rest[..PIECE].iter().rposition(|byte| *byte == b'/')
    {
        let step = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        here = Some(open(here.as_ref().unwrap_or(start), &rest[..end], step)?);
        rest = &rest[end + 1..];
    }
    open(here.as_ref().unwrap_or(start), rest, flags)
}

/// A path of more bytes leads far down.
const FAR: usize = 512;

/// Whether an error says that the kernel has no `openat2`, or may not use it.
fn is_refused(error: &io::Error) -> bool {
    let code = error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error);
    matches!(
        code,
        Some(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM)
    )
}

/// Whether an error says that nothing is there.
fn is_absent(error: &io::Error) -> bool {
    let code = error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error);
    matches!(
        code,
        Some(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP)
    )
}

/// A file name as the kernel takes it; a NUL byte can be in no name.
pub(crate) fn to_c(name: &[u8]) -> io::Result<CString> {
    CString::new(name)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a name holds a NUL byte"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_is_followed() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("real")).unwrap();
        std::fs::write(home.path().join("real/f"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", home.path().join("out")).unwrap();
        std::os::unix::fs::symlink("real", home.path().join("in")).unwrap();
        for no_openat2 in [false, true] {
            let root = ConfinedDir::open(home.path()).unwrap();
            root.no_openat2.store(no_openat2, Ordering::Relaxed);
            assert!(root.open_file(&ImagePath::clean("real/f")).is_ok());
            assert!(root.open_file(&ImagePath::clean("in/f")).is_err());
            assert!(root.open_file(&ImagePath::clean("out/passwd")).is_err());
            assert_eq!(
                root.stat(&ImagePath::clean("out/passwd"))
                    .unwrap()
                    .map(|_| ()),
                None
            );
            assert_eq!(root.read_link(&ImagePath::clean("in")).unwrap(), b"real");
            assert!(root.stat(&ImagePath::clean("nothing/f")).unwrap().is_none());
        }
    }
}
