//! Locks between processes: advisory `flock` on files in the store's `locks` folder.
//!
//! The kernel drops a lock when its process ends, however it ends; so nothing is ever left locked. Lock files are
//! never deleted: a deleted one would let two processes hold "the same" lock on two files.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::error::{Error, Result};
use crate::interrupt::Interrupt;

/// So often is a lock tried that somebody waits for, and an interrupt heard.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(25);

/// A held lock; dropped, it is free.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Many at once.
    Shared,
    /// One alone.
    Exclusive,
}

impl Lock {
    /// Waits until `path` can be locked.
    pub fn wait(path: &Path, mode: Mode) -> Result<Self> {
        let file = open(path)?;
        let operation = match mode {
            Mode::Shared => FlockOperation::LockShared,
            Mode::Exclusive => FlockOperation::LockExclusive,
        };
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Self { file }),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::io("lock", path)(error.into())),
            }
        }
    }

    /// Waits until `path` can be locked, or until somebody stops the work: none then. `waits` is called once, where it is
    /// not free at once.
    pub fn wait_until(
        path: &Path,
        mode: Mode,
        interrupt: &Interrupt,
        waits: &mut dyn FnMut(),
    ) -> Result<Option<Self>> {
        let mut told = false;
        loop {
            if let Some(lock) = Self::try_now(path, mode)? {
                return Ok(Some(lock));
            }
            if !std::mem::replace(&mut told, true) {
                waits();
            }
            if interrupt.is_set() {
                return Ok(None);
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// Lets others share a lock that was exclusive. The kernel may give it to somebody else in between.
    pub fn share(&self, path: &Path) -> Result<()> {
        loop {
            match flock(&self.file, FlockOperation::LockShared) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::io("lock", path)(error.into())),
            }
        }
    }

    /// Locks `path` now; none where another process holds it.
    pub fn try_now(path: &Path, mode: Mode) -> Result<Option<Self>> {
        let file = open(path)?;
        Ok(try_lock(&file, path, mode)?.then_some(Self { file }))
    }
}

/// Locks an open file now; false where another process holds it. The lock lives as long as the file is open.
pub(super) fn try_lock(file: &File, path: &Path, mode: Mode) -> Result<bool> {
    let operation = match mode {
        Mode::Shared => FlockOperation::NonBlockingLockShared,
        Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(Error::io("lock", path)(error.into())),
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(Error::io("open", path))
}
