//! Acting as another process's user: a supervisor without `CAP_SYS_PTRACE` may look at a process of its own ids only.

use rustix::io::Result;

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
