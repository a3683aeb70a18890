//! The duty of ids and owners: which part answers which call.

use crate::owners::SideTable;
use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::identity::Identity;
use crate::sandbox::supervisor::processes::Processes;
use crate::sandbox::supervisor::{Reply, Result};

/// What a supervisor of owners starts with.
pub(crate) struct Owners {
    /// Who the RUN starts as.
    pub identity: Identity,
    /// Records of the files that take no attributes.
    pub table: SideTable,
    /// Ids are real: only devices are recorded and shown.
    pub native: bool,
}

/// Keeps ids and records while a RUN runs.
pub(super) struct Keeper {
    /// Who is who.
    pub processes: Processes,
    /// Records of the files that take no attributes.
    pub table: SideTable,
    /// Ids are real.
    pub native: bool,
    chrooted: bool,
}

impl Keeper {
    /// Starts to keep them.
    pub(super) fn new(owners: Owners) -> Self {
        Self {
            processes: Processes::new(&owners.identity),
            table: owners.table,
            native: owners.native,
            // Without notice of chroot, every caller's root is looked at.
            chrooted: owners.native,
        }
    }

    /// Records of the files that take no attributes.
    pub(super) fn table(&self) -> &SideTable {
        &self.table
    }

    /// Answers a call.
    pub(super) fn answer(&mut self, mut caller: Caller<'_>) -> Result<Reply> {
        caller.chrooted = self.chrooted;
        let caller = &caller;
        match caller.call {
            Call::Stat | Call::Lstat | Call::Fstat | Call::Newfstatat => self.stat(caller),
            Call::Statx => self.statx(caller),
            Call::Chown | Call::Lchown | Call::Fchown | Call::Fchownat => self.chown(caller),
            Call::Open | Call::Openat | Call::Openat2 | Call::Creat => self.open(caller),
            Call::Mkdir | Call::Mkdirat => self.make_directory(caller),
            Call::Symlink | Call::Symlinkat => self.make_link(caller),
            Call::Mknod | Call::Mknodat => self.make_node(caller),
            Call::Bind => self.bind(caller),
            Call::Rename
            | Call::Renameat
            | Call::Renameat2
            | Call::Link
            | Call::Linkat
            | Call::Utimensat => Ok(self.copy_up(caller)),
            Call::Execve | Call::Execveat => Ok(self.execute(caller)),
            Call::Chroot => {
                self.chrooted = true;
                Ok(Reply::Continue)
            }
            Call::ExitGroup => {
                self.processes.exit(caller.proc, caller.pid());
                Ok(Reply::Continue)
            }
            Call::Prctl | Call::Capset => self.note_power(caller),
            Call::Getuid
            | Call::Geteuid
            | Call::Getgid
            | Call::Getegid
            | Call::Getresuid
            | Call::Getresgid
            | Call::Getgroups => self.tell_ids(caller),
            Call::Setuid
            | Call::Setgid
            | Call::Setreuid
            | Call::Setregid
            | Call::Setresuid
            | Call::Setresgid
            | Call::Setfsuid
            | Call::Setfsgid
            | Call::Setgroups => self.set_ids(caller),
            Call::Readlink
            | Call::Readlinkat
            | Call::Access
            | Call::Faccessat
            | Call::Faccessat2 => Ok(Reply::Continue),
            _ => Self::attributes(caller),
        }
    }
}
