//! `chown(2)` and its relatives: the kernel does all but the ids, which are recorded.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Gid, Uid, chownat};
use rustix::io::Errno;

use crate::owners::OwnerRecord;
use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::identity::{CHOWN, Credentials};
use crate::sandbox::supervisor::owners::Keeper;
use crate::sandbox::supervisor::records;
use crate::sandbox::supervisor::{Reply, Result};

/// Leaves an id as it is.
const SAME: u32 = u32::MAX;

impl Keeper {
    /// Changes the owner of an object.
    pub(super) fn chown(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let Target {
            object,
            path,
            uid,
            gid,
        } = target(caller)?;
        let stat = records::look(&object)?;
        let old = records::read(&self.table, &object, &stat).unwrap_or_default();
        let credentials = self.processes.of(caller.proc, caller.pid());
        if !may_change(&credentials, old, uid, gid) {
            return Err(Errno::PERM.into());
        }
        let in_table = !records::takes_attributes(stat.st_mode);
        let before = if in_table {
            Some(records::key(&object)?)
        } else {
            None
        };
        touch(&object, uid != SAME, gid != SAME)?;
        let new = OwnerRecord {
            uid: if uid == SAME { old.uid } else { uid },
            gid: if gid == SAME { old.gid } else { gid },
            ..old
        };
        if let Some((directory, path)) = path
            && before.is_some_and(|before| records::key(&object) != Ok(before))
            && is_at(caller, directory, &path, &object)
        {
            self.renew(caller, (directory, &path), &stat, new)?;
        } else if new != old {
            records::write(&mut self.table, &object, stat.st_mode, new)?;
        }
        Ok(Reply::Value(0))
    }
}

/// What a call changes, and how.
struct Target {
    object: OwnedFd,
    /// How it was reached, where that isn't through a descriptor.
    path: Option<(i32, CString)>,
    uid: u32,
    gid: u32,
}

fn target(caller: &Caller<'_>) -> Result<Target> {
    if caller.call == Call::Fchown {
        return Ok(Target {
            object: caller.opened(caller.descriptor(0))?,
            path: None,
            uid: caller.word(1),
            gid: caller.word(2),
        });
    }
    let at = caller.call == Call::Fchownat;
    let flags = match caller.call {
        Call::Fchownat => caller.descriptor(4),
        Call::Lchown => libc::AT_SYMLINK_NOFOLLOW,
        _ => 0,
    };
    if flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::INVAL.into());
    }
    let (directory, path) = caller.path()?;
    let first = if at { 2 } else { 1 };
    let (uid, gid) = (caller.word(first), caller.word(first + 1));
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    let (object, path) = if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
        (caller.opened(directory)?, None)
    } else {
        (
            caller.object(directory, &path, follow)?,
            Some((directory, path)),
        )
    };
    Ok(Target {
        object,
        path,
        uid,
        gid,
    })
}

/// Whether an object is what a path names, and not what a symbolic link leads to.
fn is_at(caller: &Caller<'_>, directory: i32, path: &CStr, object: &OwnedFd) -> bool {
    let Ok(named) = caller.object(directory, path, false) else {
        return false;
    };
    let named = records::key(&named);
    named.is_ok() && named == records::key(object)
}

/// Whether the kernel would let somebody change an owner.
pub(super) fn may_change(credentials: &Credentials, old: OwnerRecord, uid: u32, gid: u32) -> bool {
    let owns = credentials.user.file == old.uid;
    credentials.can(CHOWN)
        || (uid == SAME || owns && uid == old.uid)
            && (gid == SAME || owns && (gid == old.gid || credentials.in_group(gid)))
}

/// Changes the real owner to the one that there is. The kernel copies the file up, takes off what a change of owner
/// takes off, sets the time of change, and fails where it would.
pub(super) fn touch(object: &OwnedFd, user: bool, group: bool) -> rustix::io::Result<()> {
    let (user, group) = (user.then_some(Uid::ROOT), group.then_some(Gid::ROOT));
    chownat(object, c"", user, group, AtFlags::EMPTY_PATH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::supervisor::Identity;

    #[test]
    fn owners_change_as_the_kernel_lets_them() {
        let identity = |uid| Identity {
            uid,
            gid: 100,
            groups: vec![7],
        };
        let file = OwnerRecord::owner(5, 100);
        for (who, uid, gid, expected) in [
            (0, 9, 9, true),
            (5, SAME, SAME, true),
            (5, 5, SAME, true),
            (5, 6, SAME, false),
            (5, SAME, 7, true),
            (5, SAME, 8, false),
            (5, 5, 100, true),
            (6, SAME, 100, false),
            (6, SAME, SAME, true),
        ] {
            let credentials = Credentials::new(&identity(who));
            assert_eq!(
                may_change(&credentials, file, uid, gid),
                expected,
                "{who} {uid} {gid}"
            );
        }
    }
}
