//! Open directories from a root down to where one works: nothing reached through them lies outside the root.
//!
//! Each directory is opened below its parent and no link is followed, so a link that stands where a directory should
//! be is an error and never a way out. A directory that its owner may not list or enter is made accessible for as long
//! as it is open, and gets its mode back then.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::descent::Descent;
use crate::confined::to_c;
use crate::image_path::ImagePath;

/// Rights of the owner that listing and looking take.
pub(super) const READING: Mode = Mode::RUSR.union(Mode::XUSR);
/// Rights of the owner that making and deleting take.
pub(super) const WRITING: Mode = Mode::RWXU;

/// An open directory.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    /// The mode that it gets back when it is closed.
    restore: Option<Mode>,
}

impl Dir {
    /// Opens `name` in `parent` with the rights of the owner that are needed; fails where it is no directory.
    pub(super) fn open(
        parent: BorrowedFd<'_>,
        name: &CStr,
        needed: Mode,
    ) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Err(Errno::ACCESS) => {
                let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let mode = Mode::from_raw_mode(stat.st_mode);
                rustix::fs::chmodat(parent, name, mode | WRITING, AtFlags::empty())?;
                Ok(Self {
                    fd: rustix::fs::openat(parent, name, flags, Mode::empty())?,
                    restore: Some(mode),
                })
            }
            Err(error) => Err(error),
            Ok(fd) => {
                let mode = Mode::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
                let lacking = !mode.contains(needed) && !rustix::process::geteuid().is_root();
                if lacking {
                    rustix::fs::fchmod(&fd, mode | WRITING)?;
                }
                Ok(Self {
                    fd,
                    restore: lacking.then_some(mode),
                })
            }
        }
    }

    /// Opens a root directory by its path.
    pub(super) fn open_root(path: &Path, needed: Mode) -> io::Result<Self> {
        let here = rustix::fs::open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        match Self::open(here.as_fd(), c".", needed) {
            // Not even its `.` can be reached.
            Err(Errno::ACCESS) => {
                let mode = Mode::from_raw_mode(rustix::fs::fstat(&here)?.st_mode);
                rustix::fs::chmod(path, mode | WRITING)?;
                let mut opened = Self::open(here.as_fd(), c".", needed)?;
                opened.restore = Some(mode);
                Ok(opened)
            }
            opened => Ok(opened?),
        }
    }

    /// Whether it gets another mode when it is closed.
    pub(super) fn restores_mode(&self) -> bool {
        self.restore.is_some()
    }

    /// Leaves the mode as it is now.
    pub(super) fn keep_mode(&mut self) {
        self.restore = None;
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if let Some(mode) = self.restore {
            // It worked a moment ago the other way round.
            let _ = rustix::fs::fchmod(&self.fd, mode);
        }
    }
}

/// The directories from a root to the one in use.
#[derive(Debug)]
pub(super) struct Chain {
    path: PathBuf,
    root: Dir,
    /// Those below the root, each with the length of its path.
    links: Descent<usize>,
    here: Vec<u8>,
    needed: Mode,
}

impl Chain {
    /// Starts at `root`.
    pub(super) fn new(root: &Path, needed: Mode) -> io::Result<Self> {
        Ok(Self {
            path: root.to_owned(),
            root: Dir::open_root(root, needed)?,
            links: Descent::new(needed),
            here: Vec::new(),
            needed,
        })
    }

    /// The root's path, for messages.
    pub(super) fn root(&self) -> &Path {
        &self.path
    }

    /// Goes to a directory. Fails where one on the way is missing, or is no directory.
    pub(super) fn enter(&mut self, directory: &ImagePath) -> io::Result<&mut Dir> {
        self.go(directory, false)
    }

    /// Goes to a directory, and makes those that are missing on the way.
    pub(super) fn make(&mut self, directory: &ImagePath) -> io::Result<&mut Dir> {
        self.go(directory, true)
    }

    fn go(&mut self, directory: &ImagePath, make: bool) -> io::Result<&mut Dir> {
        let wanted = directory.as_relative();
        self.leave(|here| !is_at_or_above(here, wanted))?;
        while self.here.len() < wanted.len() {
            let start = self.here.len() + usize::from(!self.here.is_empty());
            let end = wanted[start..]
                .iter()
                .position(|byte| *byte == b'/')
                .map_or(wanted.len(), |length| start + length);
            let name = to_c(&wanted[start..end])?;
            let opened = self.step(&name, make)?;
            self.here.extend_from_slice(&wanted[self.here.len()..end]);
            self.links.push(opened, end)?;
        }
        Ok(match self.links.last() {
            Some((last, _)) => last,
            None => &mut self.root,
        })
    }

    fn step(&mut self, name: &CStr, make: bool) -> rustix::io::Result<Dir> {
        let from = self.links.last().map_or(&self.root, |(last, _)| &*last);
        match Dir::open(from.as_fd(), name, self.needed) {
            Err(Errno::NOENT) if make => {
                rustix::fs::mkdirat(from, name, Mode::RWXU)?;
                Dir::open(from.as_fd(), name, self.needed)
            }
            opened => opened,
        }
    }

    /// Goes to the directory that holds `path`; gives it with the path's name in it.
    pub(super) fn enter_parent(&mut self, path: &ImagePath) -> io::Result<(&mut Dir, CString)> {
        let name = to_c(path.file_name().unwrap_or(b"."))?;
        Ok((self.enter(&path.parent().unwrap_or_default())?, name))
    }

    /// Closes `path` and what is open below it: it is about to be another file, or has its final mode.
    pub(super) fn forget(&mut self, path: &ImagePath) -> io::Result<()> {
        let gone = path.as_relative();
        self.leave(|here| is_at_or_above(gone, here))
    }

    /// Closes the directories whose mode was changed to open them, and what is open below them.
    pub(super) fn rest(&mut self) -> io::Result<()> {
        let changed = self.links.iter().find(|(_, restores)| *restores);
        let first = changed.map(|(end, _)| *end);
        match first {
            Some(first) => self.leave(|here| here.len() >= first),
            None => Ok(()),
        }
    }

    fn leave(&mut self, unwanted: impl Fn(&[u8]) -> bool) -> io::Result<()> {
        while self.links.len() > 0 && unwanted(&self.here) {
            self.links.pop()?;
            let end = self.links.last().map_or(0, |(_, end)| *end);
            self.here.truncate(end);
        }
        Ok(())
    }
}

/// Whether `above` is `path` or a directory above it.
fn is_at_or_above(above: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Whether an error says that something on the way is no directory.
pub(super) fn is_no_directory(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::NOTDIR | Errno::LOOP))
}
