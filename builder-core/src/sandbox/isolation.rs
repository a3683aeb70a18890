//! What the engines have in common inside the helper: a root is made, a child enters it, a supervisor answers for the
//! kernel, and everything is taken away again.

use std::path::PathBuf;

use super::filter::Policy;
use super::spec::Failure;
use super::supervisor::Duty;
use crate::owners::SideTable;

/// A way to isolate a process.
pub(super) trait Isolation {
    /// Makes the root and what is mounted in it; in the process that will supervise.
    fn prepare(&mut self) -> Result<(), Failure>;

    /// Moves a new child into the root, and puts up the walls that hold for it and all that comes of it.
    fn enter(&self) -> Result<(), Failure>;

    /// What the command may not call, and which calls the supervisor answers.
    fn policy(&self) -> Policy;

    /// What the supervisor answers with, given the owners known so far, and the number of the command's terminal.
    fn duty(&mut self, table: SideTable, terminal: Option<u32>) -> Result<Option<Duty>, Failure>;

    /// Whether the kernel knows all user ids, so that a process can really be another user.
    fn has_all_ids(&self) -> bool;

    /// Whether the processes have a namespace of their own, which ends with its first process.
    fn has_own_processes(&self) -> bool;

    /// Takes away what [`Isolation::prepare`] put into the root; the paths of what was made there and is somewhere else by
    /// now.
    fn finish(&mut self) -> Vec<PathBuf>;
}
