//! Files that are in memory alone: secrets, which never touch a disk.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::acting::RealIds;
use crate::sandbox::supervisor::caller::{Caller, own_path};
use crate::sandbox::supervisor::{Reply, Result};
use crate::sandbox::sys::memory;

/// A file that a RUN finds at a path, and can read.
pub(crate) struct MemoryFile {
    /// Where the RUN finds it: absolute, from its root, without `.`, `..` and symbolic links.
    pub path: PathBuf,
    /// A sealed `memfd`.
    pub content: OwnedFd,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl MemoryFile {
    /// Answers a call about its path.
    pub(super) fn answer(&self, caller: &Caller<'_>) -> Result<Reply> {
        match caller.call {
            Call::Open => self.open(caller, caller.word(1)),
            Call::Openat => self.open(caller, caller.word(2)),
            Call::Openat2 => {
                let mut flags = [0; 8];
                caller.bytes(caller.argument(2), &mut flags)?;
                self.open(caller, u64::from_ne_bytes(flags) as u32)
            }
            Call::Creat | Call::Chmod | Call::Fchmodat => Err(Errno::ROFS.into()),
            Call::Readlink | Call::Readlinkat => Err(Errno::INVAL.into()),
            Call::Access => self.access(caller, caller.word(1)),
            Call::Faccessat | Call::Faccessat2 => self.access(caller, caller.word(2)),
            Call::Getxattr | Call::Lgetxattr => Err(Errno::NODATA.into()),
            Call::Listxattr | Call::Llistxattr => Ok(Reply::Value(0)),
            _ => self.stat(caller),
        }
    }

    fn open(&self, caller: &Caller<'_>, flags: u32) -> Result<Reply> {
        let flags = OFlags::from_bits_retain(flags);
        if flags.contains(OFlags::CREATE | OFlags::EXCL) {
            return Err(Errno::EXIST.into());
        }
        if flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC) {
            return Err(Errno::ROFS.into());
        }
        if flags.contains(OFlags::DIRECTORY) {
            return Err(Errno::NOTDIR.into());
        }
        self.access(caller, libc::R_OK.cast_unsigned())?;
        // Opened anew, so that every reader starts at the beginning.
        let file = rustix::fs::open(
            own_path(&self.content),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let cloexec = flags.contains(OFlags::CLOEXEC);
        Ok(Reply::File { file, cloexec })
    }

    fn access(&self, caller: &Caller<'_>, wanted: u32) -> Result<Reply> {
        if wanted & libc::W_OK.cast_unsigned() != 0 {
            return Err(Errno::ROFS.into());
        }
        let ids = caller.status()?.ids;
        if self.permits(ids, wanted) {
            Ok(Reply::Value(0))
        } else {
            Err(Errno::ACCESS.into())
        }
    }

    fn permits(&self, ids: RealIds, wanted: u32) -> bool {
        let bits = match (ids.user == self.uid, ids.group == self.gid) {
            (true, _) => self.mode >> 6,
            (_, true) => self.mode >> 3,
            _ => self.mode,
        };
        // Root reads everything, and executes what anybody may.
        let bits = if ids.user == 0 {
            0o6 | u32::from(self.mode & 0o111 != 0)
        } else {
            bits
        };
        bits & wanted & 0o7 == wanted & 0o7
    }

    fn stat(&self, caller: &Caller<'_>) -> Result<Reply> {
        let content = self.content.as_fd();
        if caller.call == Call::Statx {
            let mut statx = memory::statx(content, c"", libc::AT_EMPTY_PATH, caller.word(3))?;
            statx.stx_mode = (libc::S_IFREG | self.mode & 0o7777) as u16;
            (statx.stx_uid, statx.stx_gid) = (self.uid, self.gid);
            caller.write(caller.argument(4), memory::statx_bytes(&statx))?;
        } else {
            let mut stat = memory::stat(content, c"", libc::AT_EMPTY_PATH)?;
            stat.st_mode = libc::S_IFREG | self.mode & 0o7777;
            (stat.st_uid, stat.st_gid) = (self.uid, self.gid);
            let place = if caller.call == Call::Newfstatat {
                2
            } else {
                1
            };
            caller.write(caller.argument(place), memory::stat_bytes(&stat))?;
        }
        Ok(Reply::Value(0))
    }
}
