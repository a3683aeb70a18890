//! The masks of new files (`umask(2)`), without asking `/proc` for each.

use std::collections::HashMap;

use crate::sandbox::supervisor::Result;
use crate::sandbox::supervisor::caller::Caller;

/// The mask that a RUN starts with.
const INITIAL: u32 = 0o022;
/// More threads than make files at a time.
const MOST: usize = 4096;

/// What is known of the masks of threads.
#[derive(Default)]
pub(super) struct Masks {
    /// Whether any process has ever set another mask than the initial one.
    changed: bool,
    /// What was read of threads since the last time that one set its mask, which its relatives may share.
    known: HashMap<u32, u32>,
}

impl Masks {
    /// `umask`: the kernel sets it.
    pub(super) fn set(&mut self, caller: &Caller<'_>) {
        self.changed |= caller.word(0) & 0o777 != INITIAL;
        self.known.clear();
    }

    /// The mask of a caller.
    pub(super) fn of(&mut self, caller: &Caller<'_>) -> Result<u32> {
        if !self.changed {
            return Ok(INITIAL);
        }
        if let Some(mask) = self.known.get(&caller.pid()) {
            return Ok(*mask);
        }
        let mask = caller.status()?.umask;
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(caller.pid(), mask);
        Ok(mask)
    }
}
