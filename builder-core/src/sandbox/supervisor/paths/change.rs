//! Calls that change what belongs to a file: `chmod(2)`, `chown(2)`, `utimensat(2)`, `truncate(2)`.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chownat};
use rustix::io::Errno;

use crate::owners::{CAPABILITIES, OwnerRecord, disk_mode};
use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::{Caller, own_path};
use crate::sandbox::supervisor::identity::Credentials;
use crate::sandbox::supervisor::ownership::may_change;
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::permission::{SET_IDS, Seen, WRITE, may, owns};
use crate::sandbox::supervisor::paths::trees::reopen;
use crate::sandbox::supervisor::paths::walk::Found;
use crate::sandbox::supervisor::{Reply, Result, records};

/// Leaves an id as it is.
const SAME: u32 = u32::MAX;
/// `UTIME_NOW`, `UTIME_OMIT`
const NOW: i64 = 0x3fff_ffff;

impl Server {
    /// What a call that may name a descriptor alone is about.
    fn changed(&self, caller: &Caller<'_>, flags: i32, path: usize) -> Result<Found> {
        match caller.call {
            Call::Fchmod | Call::Fchown => self.opened(caller, caller.descriptor(0)),
            _ => self.target(caller, flags, path),
        }
    }

    /// `chmod`, `fchmod`, `fchmodat`, `fchmodat2`.
    pub(super) fn change_mode(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let (path, mode, flags) = match caller.call {
            Call::Chmod | Call::Fchmod => (0, 1, 0),
            Call::Fchmodat => (1, 2, 0),
            _ => (1, 2, caller.descriptor(3)),
        };
        let found = self.changed(caller, flags, path)?;
        let mut mode = caller.word(mode) & 0o7777;
        let Some((seen, tree)) = self.seen(&found)? else {
            return no_file_of_ours(&found);
        };
        if seen.kind() == libc::S_IFLNK {
            return Err(Errno::OPNOTSUPP.into());
        }
        self.check_changeable(&found, tree)?;
        let who = self.who();
        if !owns(&who, &seen) {
            return Err(Errno::PERM.into());
        }
        if !seen.is_directory() && !who.in_group(seen.record.gid) && !who.can(SET_IDS) {
            mode &= !libc::S_ISGID;
        }
        let object = self.object(&found).try_clone().map_err(|_| Errno::MFILE)?;
        self.set_mode(&object, &seen, mode)?;
        Ok(Reply::Value(0))
    }

    /// Gives a file its mode on the disk, and the record of what was meant.
    fn set_mode(&mut self, object: &OwnedFd, seen: &Seen, mode: u32) -> Result<()> {
        let on_disk = disk_mode(seen.is_directory(), mode);
        rustix::fs::chmod(own_path(object), Mode::from_raw_mode(on_disk))?;
        let record = OwnerRecord {
            mode: (on_disk != mode).then_some(mode),
            ..seen.record
        };
        if record != seen.record {
            records::write(&mut self.keeper.table, object, seen.stat.st_mode, record)?;
        }
        Ok(())
    }

    fn check_changeable(&self, found: &Found, tree: usize) -> Result<()> {
        match found {
            Found::Memory(_) => Err(Errno::ROFS.into()),
            _ => self.check_writable(tree),
        }
    }

    /// `chown`, `lchown`, `fchown`, `fchownat`.
    pub(super) fn change_owner(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let (path, first, flags) = match caller.call {
            Call::Fchownat => (1, 2, caller.descriptor(4)),
            Call::Lchown => (0, 1, libc::AT_SYMLINK_NOFOLLOW),
            _ => (0, 1, 0),
        };
        let found = self.changed(caller, flags, path)?;
        let (uid, gid) = (caller.word(first), caller.word(first + 1));
        let Some((seen, tree)) = self.seen(&found)? else {
            // Terminals and pipes belong to who uses them.
            return Ok(Reply::Value(0));
        };
        self.check_changeable(&found, tree)?;
        let who = self.who();
        if !may_change(&who, seen.record, uid, gid) {
            return Err(Errno::PERM.into());
        }
        let object = self.object(&found).try_clone().map_err(|_| Errno::MFILE)?;
        self.touch(&object)?;
        if !seen.is_directory() {
            drop_capabilities(&object);
        }
        let mut record = seen.record;
        if uid != SAME {
            record.uid = uid;
        }
        if gid != SAME {
            record.gid = gid;
        }
        // A change of owner takes these off (chown(2)).
        if let Some(mode) = record.mode.filter(|_| !seen.is_directory()) {
            let executable = mode & libc::S_IXGRP != 0;
            let kept = mode & !libc::S_ISUID & !if executable { libc::S_ISGID } else { 0 };
            record.mode = (disk_mode(false, kept) != kept).then_some(kept);
        }
        if record != seen.record {
            records::write(&mut self.keeper.table, &object, seen.stat.st_mode, record)?;
        }
        Ok(Reply::Value(0))
    }

    /// Sets the time of change, as a change of owner does.
    fn touch(&self, object: &OwnedFd) -> Result<()> {
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.group));
        let flags = AtFlags::EMPTY_PATH;
        Ok(chownat(object, c"", Some(user), Some(group), flags)?)
    }

    /// `utime`, `utimes`, `futimesat`, `utimensat`.
    pub(super) fn change_times(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let (found, place) = match caller.call {
            Call::Utimensat if caller.argument(1) == 0 => {
                (self.opened(caller, caller.descriptor(0))?, 2)
            }
            Call::Utimensat => (self.target(caller, caller.descriptor(3), 1)?, 2),
            Call::Futimesat if caller.argument(1) == 0 => {
                (self.opened(caller, caller.descriptor(0))?, 2)
            }
            Call::Futimesat => (self.target(caller, 0, 1)?, 2),
            _ => (self.target(caller, 0, 0)?, 1),
        };
        let times = given_times(caller, place)?;
        let Some((seen, tree)) = self.seen(&found)? else {
            return no_file_of_ours(&found);
        };
        self.check_changeable(&found, tree)?;
        let who = self.who();
        check_times(&who, &seen, &times)?;
        let object = self.object(&found);
        rustix::fs::utimensat(object, c"", &times, AtFlags::EMPTY_PATH)?;
        Ok(Reply::Value(0))
    }

    /// `truncate`.
    pub(super) fn truncate(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let found = self.target(caller, 0, 0)?;
        let Some((seen, tree)) = self.seen(&found)? else {
            return Err(Errno::INVAL.into());
        };
        if seen.is_directory() {
            return Err(Errno::ISDIR.into());
        }
        self.check_changeable(&found, tree)?;
        if !may(&self.who(), &seen, WRITE) {
            return Err(Errno::ACCESS.into());
        }
        let file = reopen(
            self.object(&found).as_fd(),
            OFlags::WRONLY | OFlags::NONBLOCK,
        )?;
        rustix::fs::ftruncate(&file, caller.argument(1))?;
        Ok(Reply::Value(0))
    }
}

/// Takes a file's capabilities away, as every change of its owner or bytes does. Most have none.
pub(super) fn drop_capabilities(object: &OwnedFd) {
    let _ = rustix::fs::removexattr(own_path(object), CAPABILITIES);
}

/// Changes of what lies in no tree: a pipe or socket of the RUN's own takes them without effect, the machine's files
/// don't.
fn no_file_of_ours(found: &Found) -> Result<Reply> {
    match found {
        Found::Open(_) => Ok(Reply::Value(0)),
        _ => Err(Errno::PERM.into()),
    }
}

/// Whether the kernel would let somebody set these times: any for the owner, the current ones for who may write.
fn check_times(who: &Credentials, seen: &Seen, times: &Timestamps) -> Result<()> {
    let both = [times.last_access, times.last_modification];
    let now = both.iter().all(|time| time.tv_nsec == NOW);
    if owns(who, seen) || now && may(who, seen, WRITE) {
        return Ok(());
    }
    Err(if now { Errno::ACCESS } else { Errno::PERM }.into())
}

/// The times that a call gives: access and modification.
fn given_times(caller: &Caller<'_>, place: usize) -> Result<Timestamps> {
    let pair = |access, modification| Timestamps {
        last_access: access,
        last_modification: modification,
    };
    let time = |tv_sec: i64, tv_nsec: i64| Timespec { tv_sec, tv_nsec };
    let address = caller.argument(place);
    if address == 0 {
        return Ok(pair(time(0, NOW), time(0, NOW)));
    }
    let mut bytes = [0; 32];
    let length = if caller.call == Call::Utime { 16 } else { 32 };
    caller.bytes(address, &mut bytes[..length])?;
    let (words, _) = bytes.as_chunks();
    let word = |index: usize| i64::from_ne_bytes(words[index]);
    Ok(match caller.call {
        Call::Utime => pair(time(word(0), 0), time(word(1), 0)),
        // Seconds and microseconds.
        Call::Utimes | Call::Futimesat => {
            if [word(1), word(3)]
                .iter()
                .any(|micros| !(0..1_000_000).contains(micros))
            {
                return Err(Errno::INVAL.into());
            }
            pair(time(word(0), word(1) * 1000), time(word(2), word(3) * 1000))
        }
        _ => pair(time(word(0), word(1)), time(word(2), word(3))),
    })
}
