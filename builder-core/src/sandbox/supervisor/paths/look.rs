//! Calls that look: `stat(2)` and its relatives, `access(2)`, `readlink(2)`, `statfs(2)`.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::Access;
use rustix::io::Errno;

use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::{Caller, own_path};
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::permission::{Seen, may};
use crate::sandbox::supervisor::paths::trees::Kind;
use crate::sandbox::supervisor::paths::walk::Found;
use crate::sandbox::supervisor::{Reply, Result};
use crate::sandbox::sys::memory;

impl Server {
    /// What a call is about that names a directory, a path and flags, at these arguments.
    pub(super) fn target(&self, caller: &Caller<'_>, flags: i32, path: usize) -> Result<Found> {
        let empty = flags & libc::AT_EMPTY_PATH != 0;
        // Since Linux 6.11 no path at all is an empty one.
        if empty && caller.argument(path) == 0 {
            return self.opened(caller, caller.descriptor(0));
        }
        let (directory, path) = caller.path()?;
        if path.is_empty() && empty {
            return self.opened(caller, directory);
        }
        let who = self.who();
        let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
        self.resolve(caller, &who, (directory, &path), follow)
    }

    /// What a descriptor of the caller's is open at.
    pub(super) fn opened(&self, caller: &Caller<'_>, descriptor: i32) -> Result<Found> {
        let here = self.here(caller.opened(descriptor)?)?;
        self.end_of(caller, here)
    }

    /// `stat`, `lstat`, `fstat`, `newfstatat`, `statx`.
    pub(super) fn stat(&self, caller: &Caller<'_>) -> Result<Reply> {
        let (found, place) = match caller.call {
            Call::Fstat => (self.opened(caller, caller.descriptor(0))?, 1),
            Call::Newfstatat => (self.target(caller, caller.descriptor(3), 1)?, 2),
            Call::Statx => (self.target(caller, caller.descriptor(2), 1)?, 4),
            Call::Lstat => (self.target(caller, libc::AT_SYMLINK_NOFOLLOW, 0)?, 1),
            _ => (self.target(caller, 0, 0)?, 1),
        };
        if caller.call == Call::Statx {
            self.write_statx(caller, &found, place)?;
        } else {
            self.write_stat(caller, &found, place)?;
        }
        Ok(Reply::Value(0))
    }

    fn write_stat(&self, caller: &Caller<'_>, found: &Found, place: usize) -> Result<()> {
        let stat = match self.seen(found)? {
            Some((seen, tree)) => shown(&seen, tree),
            None => {
                let object = self.object(found);
                let mut stat = memory::stat(object.as_fd(), c"", libc::AT_EMPTY_PATH)?;
                (stat.st_uid, stat.st_gid) = self.ids_of_foreign(stat.st_uid, stat.st_gid);
                stat
            }
        };
        Ok(caller.write(caller.argument(place), memory::stat_bytes(&stat))?)
    }

    fn write_statx(&self, caller: &Caller<'_>, found: &Found, place: usize) -> Result<()> {
        let object = self.object(found);
        let sync = caller.descriptor(2) & (libc::AT_STATX_FORCE_SYNC | libc::AT_STATX_DONT_SYNC);
        let flags = libc::AT_EMPTY_PATH | sync;
        let mut statx = memory::statx(object.as_fd(), c"", flags, caller.word(3))?;
        if let Some((seen, tree)) = self.seen(found)? {
            let shown = shown(&seen, tree);
            (statx.stx_uid, statx.stx_gid) = (shown.st_uid, shown.st_gid);
            statx.stx_mode = shown.st_mode as u16;
            if let Some(device) = seen.record.device {
                (statx.stx_rdev_major, statx.stx_rdev_minor) = (device.major, device.minor);
            }
            statx.stx_dev_major = libc::major(shown.st_dev);
            statx.stx_dev_minor = libc::minor(shown.st_dev);
        } else {
            (statx.stx_uid, statx.stx_gid) = self.ids_of_foreign(statx.stx_uid, statx.stx_gid);
        }
        Ok(caller.write(caller.argument(place), memory::statx_bytes(&statx))?)
    }

    /// A file of a tree as the RUN sees it, and its tree; none for another file.
    pub(super) fn seen(&self, found: &Found) -> Result<Option<(Seen, usize)>> {
        match found {
            Found::File(object, tree) => Ok(Some((Seen::of(&self.keeper.table, object)?, *tree))),
            Found::Memory(tree) => {
                let one = self.trees.get(*tree);
                let Kind::Memory(file) = &one.kind else {
                    return Err(Errno::NOENT.into());
                };
                let mut seen = Seen::of(&self.keeper.table, &one.top)?;
                (seen.record.uid, seen.record.gid) = (file.uid, file.gid);
                seen.record.mode = Some(file.mode & 0o7777);
                Ok(Some((seen, *tree)))
            }
            Found::Kernel(..) | Found::Open(_) => Ok(None),
        }
    }

    /// The owner that is shown of a file that is none of a tree's: the host's user is root, as it is the only one.
    fn ids_of_foreign(&self, uid: u32, gid: u32) -> (u32, u32) {
        let own = |id: u32, own: u32| if id == own { 0 } else { id };
        (own(uid, self.user), own(gid, self.group))
    }

    /// The object that was found, open to be looked at.
    pub(super) fn object<'a>(&'a self, found: &'a Found) -> &'a OwnedFd {
        match found {
            Found::File(object, _) | Found::Kernel(object, _) | Found::Open(object) => object,
            Found::Memory(tree) => &self.trees.get(*tree).top,
        }
    }

    /// `access`, `faccessat`, `faccessat2`.
    pub(super) fn access(&self, caller: &Caller<'_>) -> Result<Reply> {
        let (first, flags) = match caller.call {
            Call::Access => (1, 0),
            Call::Faccessat => (2, 0),
            _ => (2, caller.descriptor(3)),
        };
        let wanted = caller.word(first);
        if wanted & !7 != 0 {
            return Err(Errno::INVAL.into());
        }
        let found = self.target(caller, flags, first - 1)?;
        let mut who = self.who();
        if flags & libc::AT_EACCESS == 0 {
            who = std::rc::Rc::new(who.as_real());
        }
        match self.seen(&found)? {
            Some((seen, tree)) => {
                if wanted & 2 != 0 {
                    self.check_writable(tree)?;
                }
                if !may(&who, &seen, wanted) {
                    return Err(Errno::ACCESS.into());
                }
            }
            None => {
                let wanted = Access::from_bits_truncate(wanted);
                let path = own_path(self.object(&found));
                let flags = rustix::fs::AtFlags::empty();
                rustix::fs::accessat(rustix::fs::CWD, path, wanted, flags)?;
            }
        }
        Ok(Reply::Value(0))
    }

    /// `readlink`, `readlinkat`.
    pub(super) fn read_link(&self, caller: &Caller<'_>) -> Result<Reply> {
        let first = if caller.call == Call::Readlinkat {
            2
        } else {
            1
        };
        if caller.descriptor(first + 1) <= 0 {
            return Err(Errno::INVAL.into());
        }
        let flags = if caller.call == Call::Readlinkat {
            libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH
        } else {
            libc::AT_SYMLINK_NOFOLLOW
        };
        let found = self.target(caller, flags, first - 1)?;
        let mut target = match &found {
            Found::File(object, _) => match rustix::fs::readlinkat(object, c"", Vec::new()) {
                Err(Errno::NOENT) => return Err(Errno::INVAL.into()),
                other => other?.into_bytes(),
            },
            Found::Kernel(object, path) => self.kernel_link(caller, object, path)?,
            Found::Open(_) | Found::Memory(_) => return Err(Errno::INVAL.into()),
        };
        target.truncate(caller.word(first + 1) as usize);
        caller.write(caller.argument(first), &target)?;
        Ok(Reply::Value(i64::try_from(target.len()).unwrap_or(0)))
    }

    /// `statfs`.
    pub(super) fn statfs(&self, caller: &Caller<'_>) -> Result<Reply> {
        let found = self.target(caller, 0, 0)?;
        let statfs = memory::statfs(self.object(&found).as_fd())?;
        caller.write(caller.argument(1), memory::statfs_bytes(&statfs))?;
        Ok(Reply::Value(0))
    }
}

/// Minor numbers of the devices that mounts are shown to lie on.
const MOUNTED: u32 = 0x8_0000;

/// What `stat(2)` says of a file.
fn shown(seen: &Seen, tree: usize) -> libc::stat {
    let mut stat = seen.stat;
    (stat.st_uid, stat.st_gid) = (seen.record.uid, seen.record.gid);
    stat.st_mode = seen.mode();
    if let Some(device) = seen.record.device {
        stat.st_rdev = libc::makedev(device.major, device.minor);
    }
    stat.st_dev = device_of(stat.st_dev, tree);
    stat
}

/// The device that files of a tree are shown to lie on.
pub(super) fn device_of(real: u64, tree: usize) -> u64 {
    if tree == 0 {
        return real;
    }
    // What is mounted is another file system, as programs see that stay on one.
    libc::makedev(0, MOUNTED.saturating_add(tree as u32))
}
