//! Stand-ins for descriptors that open nothing (`O_PATH`), which a supervisor can't hand over: an empty file in memory,
//! known by its inode.
//!
//! Directories need none: one that is open for reading does all that a process may do with a mere path to it.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;

use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use crate::sandbox::supervisor::Result;
use crate::sandbox::supervisor::paths::trees::{Key, key_of};
use crate::sandbox::supervisor::paths::walk::Found;

/// More than any RUN holds at once; beyond, the oldest mean nothing any more.
const MOST: usize = 512;

/// What they stand for.
#[derive(Default)]
pub(super) struct StandIns {
    known: HashMap<Key, (OwnedFd, usize)>,
    order: VecDeque<Key>,
}

impl StandIns {
    /// Makes one for a file of a tree.
    pub(super) fn make(&mut self, object: OwnedFd, tree: usize) -> Result<OwnedFd> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create(c"path", flags)?;
        let seals = rustix::fs::SealFlags::GROW | rustix::fs::SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        let key = key_of(&file)?;
        if self.order.len() >= MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        // An inode number that is used again means what it was made for last.
        self.order.retain(|one| *one != key);
        self.order.push_back(key);
        self.known.insert(key, (object, tree));
        Ok(file)
    }

    /// What an inode stands for.
    pub(super) fn behind(&self, key: Key) -> Option<Found> {
        let (object, tree) = self.known.get(&key)?;
        let object = object.try_clone().map_err(|_| Errno::MFILE).ok()?;
        Some(Found::File(object, *tree))
    }
}
