//! Files with a record in the side table that an overlay copies up: the copy is another inode, with another record.
//!
//! An overlay shows such a copy with the number of the original while it remembers that, and with its own afterwards;
//! whoever reads the upper layer always sees its own. So the copy is made anew: a file that was never anything else.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, openat};
use rustix::io::Errno;

use crate::owners::OwnerRecord;
use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::{Caller, own_path};
use crate::sandbox::supervisor::owners::Keeper;
use crate::sandbox::supervisor::ownership::touch;
use crate::sandbox::supervisor::{Reply, Result, records};

/// `RENAME_EXCHANGE`
const EXCHANGE: u32 = 2;
/// What the new file is called until it takes the old one's place.
const INTERIM: &CStr = c".rbuild-interim";

impl Keeper {
    /// `rename`, `link`, `utimensat` and their relatives: copies the file up first, and takes its record along.
    pub(super) fn copy_up(&mut self, caller: &Caller<'_>) -> Reply {
        if self.table.is_empty() {
            return Reply::Continue;
        }
        let (directory, path) = caller.call.path_arguments().unwrap_or((None, 0));
        // Whatever fails here, the kernel will fail at too.
        let _ = self.carry(caller, directory, path);
        if caller.call == Call::Renameat2 && caller.word(4) & EXCHANGE != 0 {
            let _ = self.carry(caller, Some(2), 3);
        }
        Reply::Continue
    }

    fn carry(&mut self, caller: &Caller<'_>, directory: Option<usize>, path: usize) -> Result<()> {
        let (directory, path) = caller.path_at(directory, path)?;
        // A link may be asked for the file that a symbolic link leads to.
        if caller.call == Call::Linkat && caller.descriptor(4) & libc::AT_SYMLINK_FOLLOW != 0 {
            return Ok(());
        }
        let object = caller.object(directory, &path, false)?;
        let stat = records::look(&object)?;
        if records::takes_attributes(stat.st_mode) {
            return Ok(());
        }
        let Some(record) = records::read(&self.table, &object, &stat) else {
            return Ok(());
        };
        let before = records::key(&object)?;
        touch(&object, true, true)?;
        if records::key(&object)? != before {
            self.renew(caller, (directory, &path), &stat, record)?;
        }
        Ok(())
    }

    /// Makes a copied file anew, with its record.
    pub(super) fn renew(
        &mut self,
        caller: &Caller<'_>,
        path: (i32, &CStr),
        stat: &libc::stat,
        record: OwnerRecord,
    ) -> Result<()> {
        let (directory, name) = caller.parent(path.0, path.1)?;
        let times = records::look(&directory)?;
        // What a supervisor left that was ended in between.
        match rustix::fs::unlinkat(&directory, INTERIM, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        make_alike(&directory, &name, stat)?;
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let object = openat(&directory, INTERIM, look, Mode::empty())?;
        records::write(&mut self.table, &object, stat.st_mode, record)?;
        rustix::fs::renameat(&directory, INTERIM, &directory, &name)?;
        // To all appearances nothing happened in the directory.
        Ok(rustix::fs::utimensat(
            rustix::fs::CWD,
            own_path(&directory),
            &times_of(&times),
            AtFlags::empty(),
        )?)
    }
}

fn make_alike(directory: &OwnedFd, name: &CString, stat: &libc::stat) -> rustix::io::Result<()> {
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFLNK => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
            rustix::fs::symlinkat(target, directory, INTERIM)?;
            None
        }
        libc::S_IFIFO => Some(FileType::Fifo),
        libc::S_IFSOCK => Some(FileType::Socket),
        _ => return Err(Errno::OPNOTSUPP),
    };
    if let Some(kind) = kind {
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::mknodat(directory, INTERIM, kind, mode, 0)?;
    }
    rustix::fs::utimensat(
        directory,
        INTERIM,
        &times_of(stat),
        AtFlags::SYMLINK_NOFOLLOW,
    )
}

fn times_of(stat: &libc::stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
