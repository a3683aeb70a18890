//! `execve(2)`: what a program that sets ids makes of its caller.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::{Caller, own_path};
use crate::sandbox::supervisor::identity::Credentials;
use crate::sandbox::supervisor::owners::Keeper;
use crate::sandbox::supervisor::records;
use crate::sandbox::supervisor::{Reply, Result};

impl Keeper {
    /// Changes the caller's ids and power as the kernel would; the kernel executes the program.
    pub(super) fn execute(&mut self, caller: &Caller<'_>) -> Reply {
        // Where there is no such program, the kernel says so.
        if let Ok(Some((user, group))) = self.ids_of_program(caller) {
            let mut credentials = Credentials::clone(&self.processes.of(caller.proc, caller.pid()));
            credentials.execute(user, group);
            self.processes
                .change(caller.proc, caller.pid(), credentials);
        }
        Reply::Continue
    }

    /// The ids that a program sets; none where it is no program.
    fn ids_of_program(&self, caller: &Caller<'_>) -> Result<Option<(Option<u32>, Option<u32>)>> {
        let object = program(caller)?;
        let stat = records::look(&object)?;
        let mode = stat.st_mode;
        if mode & libc::S_IFMT != libc::S_IFREG || mode & 0o111 == 0 {
            return Ok(None);
        }
        // Without the right to execute, the bit of the group means something else.
        let by_user = mode & libc::S_ISUID != 0;
        let by_group = mode & libc::S_ISGID != 0 && mode & libc::S_IXGRP != 0;
        if !by_user && !by_group || is_script(&object)? || caller.status()?.no_new_privileges {
            return Ok(Some((None, None)));
        }
        let owner = records::read(&self.table, &object, &stat).unwrap_or_default();
        Ok(Some((
            by_user.then_some(owner.uid),
            by_group.then_some(owner.gid),
        )))
    }
}

fn program(caller: &Caller<'_>) -> Result<OwnedFd> {
    let (directory, path) = caller.path()?;
    let flags = if caller.call == Call::Execveat {
        caller.descriptor(4)
    } else {
        0
    };
    if path.is_empty() {
        return if flags & libc::AT_EMPTY_PATH == 0 {
            Err(Errno::NOENT.into())
        } else {
            Ok(caller.opened(directory)?)
        };
    }
    caller.object(directory, &path, flags & libc::AT_SYMLINK_NOFOLLOW == 0)
}

/// Whether it is a script: those set no ids.
fn is_script(object: &OwnedFd) -> Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(own_path(object), flags, Mode::empty())?;
    let mut start = [0; 2];
    Ok(rustix::io::read(file, &mut start)? == 2 && &start == b"#!")
}
