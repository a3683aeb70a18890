//! Open directories one below the other, however many: of those that are deep only the last is open.
//!
//! The way back up from there is `..`, which must lead to the directory that was left: nobody moves the tree meanwhile.

use std::os::fd::AsFd as _;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::chain::{Dir, WRITING};

/// So many are open at a time, besides the last.
const OPEN: usize = 128;

/// Directories from a root down, each with what somebody remembers of it.
#[derive(Debug)]
pub(super) struct Descent<T> {
    levels: Vec<Level<T>>,
    needed: Mode,
}

#[derive(Debug)]
struct Level<T> {
    /// None for one that is deep, and not the last.
    directory: Option<Dir>,
    /// Device and inode number of one that is closed.
    identity: (u64, u64),
    of: T,
}

impl<T> Descent<T> {
    /// One without directories. Those that are opened again have these rights of the owner.
    pub(super) fn new(needed: Mode) -> Self {
        Self {
            levels: Vec::new(),
            needed,
        }
    }

    /// Goes into a directory of the last one.
    pub(super) fn push(&mut self, directory: Dir, of: T) -> rustix::io::Result<()> {
        let deep = self.levels.len() > OPEN;
        if let Some(last) = self.levels.last_mut().filter(|_| deep)
            && let Some(left) = last.directory.take()
        {
            last.identity = identity(&left)?;
        }
        self.levels.push(Level {
            directory: Some(directory),
            identity: (0, 0),
            of,
        });
        Ok(())
    }

    /// Goes back up.
    pub(super) fn pop(&mut self) -> rustix::io::Result<Option<T>> {
        let Some(gone) = self.levels.pop() else {
            return Ok(None);
        };
        if let (Some(last), Some(below)) = (self.levels.last_mut(), &gone.directory)
            && last.directory.is_none()
        {
            let directory = above(below, self.needed)?;
            if identity(&directory)? != last.identity {
                return Err(Errno::STALE);
            }
            last.directory = Some(directory);
        }
        Ok(Some(gone.of))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.levels.len()
    }

    /// The last one, with what is remembered of it.
    pub(super) fn last(&mut self) -> Option<(&mut Dir, &mut T)> {
        let last = self.levels.last_mut()?;
        Some((last.directory.as_mut()?, &mut last.of))
    }

    /// What is remembered of each, and whether it gets another mode when it is closed.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&T, bool)> {
        let restores = |level: &Level<T>| level.directory.as_ref().is_some_and(Dir::restores_mode);
        self.levels
            .iter()
            .map(move |level| (&level.of, restores(level)))
    }
}

/// The directory above one, which may not be one that its owner can search.
fn above(below: &Dir, needed: Mode) -> rustix::io::Result<Dir> {
    match Dir::open(below.as_fd(), c"..", needed) {
        Err(Errno::ACCESS) => {
            let mode = Mode::from_raw_mode(rustix::fs::fstat(below)?.st_mode);
            rustix::fs::fchmod(below, mode | WRITING)?;
            let opened = Dir::open(below.as_fd(), c"..", needed);
            rustix::fs::fchmod(below, mode)?;
            opened
        }
        opened => opened,
    }
}

fn identity(directory: &Dir) -> rustix::io::Result<(u64, u64)> {
    let found = rustix::fs::fstat(directory)?;
    Ok((found.st_dev, found.st_ino))
}
