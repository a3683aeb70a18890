//! Acting as another process's user: a supervisor without `CAP_SYS_PTRACE` may look at a process of its own ids only.

use std::os::fd::BorrowedFd;

use rustix::io::{Errno, Result};

use crate::sandbox::supervisor::procfs::read_small;
use crate::sandbox::sys::ids::{SAME, set_file_group, set_file_user, set_group_ids, set_user_ids};

/// Who a thread is towards the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RealIds {
    /// User id towards the file system.
    pub user: u32,
    /// Group id towards the file system.
    pub group: u32,
}

impl RealIds {
    /// Reads those of a thread.
    pub(super) fn of(proc: BorrowedFd<'_>, pid: u32) -> Result<Self> {
        Self::parse(&read_small(proc, &format!("{pid}/status"))?).ok_or(Errno::SRCH)
    }

    fn parse(text: &str) -> Option<Self> {
        // Real, effective, saved and file system id.
        let last = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_ascii_whitespace().nth(4)?.parse().ok()
        };
        Some(Self {
            user: last("Uid:")?,
            group: last("Gid:")?,
        })
    }

    /// Does something with these as this thread's real and file system ids; then takes root's back.
    pub(super) fn act<T>(self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.user == 0 && self.group == 0 {
            return work();
        }
        let taken = set_group_ids(self.group, SAME, SAME)
            .and_then(|()| set_user_ids(self.user, SAME, SAME));
        let result = taken.and_then(|()| {
            set_file_group(self.group);
            set_file_user(self.user);
            work()
        });
        // First the id towards the file system: its return to 0 brings back the capabilities that go with it.
        set_file_user(0);
        set_file_group(0);
        set_user_ids(0, SAME, SAME)?;
        set_group_ids(0, SAME, SAME)?;
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_towards_the_file_system_are_the_fourth() {
        let text = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        assert_eq!(RealIds::parse(text), Some(RealIds { user: 4, group: 8 }));
        assert_eq!(RealIds::parse("Uid:\t1\n"), None);
    }
}
