//! `stat(2)` and its relatives: the kernel's answer with the recorded owner and device.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::owners::{Device, OwnerRecord};
use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::owners::Keeper;
use crate::sandbox::supervisor::records;
use crate::sandbox::supervisor::{Reply, Result};
use crate::sandbox::sys::memory;

impl Keeper {
    /// `stat`, `lstat`, `fstat`, `newfstatat`.
    pub(super) fn stat(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let (object, place) = match caller.call {
            Call::Fstat => (caller.opened(caller.descriptor(0))?, 1),
            Call::Newfstatat => (target(caller, caller.descriptor(3))?, 2),
            call => {
                let (directory, path) = caller.path()?;
                (caller.object(directory, &path, call == Call::Stat)?, 1)
            }
        };
        let mut stat = records::look(&object)?;
        let record = self.shown(&object, &stat);
        if record.is_none() && self.native {
            return Ok(Reply::Continue);
        }
        if let Some(record) = record {
            (stat.st_uid, stat.st_gid) = self.owner(record, stat.st_uid, stat.st_gid);
            if let Some(device) = record.device {
                stat.st_mode = device_mode(device, stat.st_mode);
                stat.st_rdev = libc::makedev(device.major, device.minor);
            }
        }
        caller.write(caller.argument(place), memory::stat_bytes(&stat))?;
        Ok(Reply::Value(0))
    }

    /// `statx`.
    pub(super) fn statx(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let flags = caller.descriptor(2);
        let object = target(caller, flags)?;
        let record = self.shown(&object, &records::look(&object)?);
        if record.is_none() && self.native {
            return Ok(Reply::Continue);
        }
        let flags = flags & !libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
        let mut statx = memory::statx(object.as_fd(), c"", flags, caller.word(3))?;
        if let Some(record) = record {
            (statx.stx_uid, statx.stx_gid) = self.owner(record, statx.stx_uid, statx.stx_gid);
            if let Some(device) = record.device {
                statx.stx_mode = device_mode(device, u32::from(statx.stx_mode)) as u16;
                (statx.stx_rdev_major, statx.stx_rdev_minor) = (device.major, device.minor);
            }
        }
        caller.write(caller.argument(4), memory::statx_bytes(&statx))?;
        Ok(Reply::Value(0))
    }

    /// The record that an object is shown with.
    fn shown(&self, object: &OwnedFd, stat: &libc::stat) -> Option<OwnerRecord> {
        if !self.native {
            return records::read(&self.table, object, stat);
        }
        // Only an empty regular file may stand for a device.
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG || stat.st_size != 0 {
            return None;
        }
        records::read_any(&self.table, object, stat).filter(|record| record.device.is_some())
    }

    /// The ids that are shown for the real ones: those of other users are not ours.
    fn owner(&self, record: OwnerRecord, uid: u32, gid: u32) -> (u32, u32) {
        if self.native {
            return (uid, gid);
        }
        (
            if uid == 0 { record.uid } else { uid },
            if gid == 0 { record.gid } else { gid },
        )
    }
}

/// The object that `newfstatat` or `statx` is about.
fn target(caller: &Caller<'_>, flags: i32) -> Result<OwnedFd> {
    let empty = flags & libc::AT_EMPTY_PATH != 0;
    // Since Linux 6.11 no path at all is an empty one.
    if empty && caller.argument(1) == 0 {
        return Ok(caller.opened(caller.descriptor(0))?);
    }
    let (directory, path) = caller.path()?;
    if path.is_empty() {
        return if empty {
            Ok(caller.opened(directory)?)
        } else {
            Err(Errno::NOENT.into())
        };
    }
    caller.object(directory, &path, flags & libc::AT_SYMLINK_NOFOLLOW == 0)
}

/// The mode of the device that a file of this mode stands for.
fn device_mode(device: Device, mode: u32) -> u32 {
    let kind = if device.block {
        libc::S_IFBLK
    } else {
        libc::S_IFCHR
    };
    kind | mode & 0o7777
}
