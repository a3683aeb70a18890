//! Calls that make names: `mkdir(2)`, `symlink(2)`, `mknod(2)`, `link(2)`; and who owns what is made.

use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, linkat, mkdirat, mknodat, openat, symlinkat,
};
use rustix::io::Errno;

use crate::owners::{Device, OwnerRecord, disk_mode};
use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::{Caller, LOOK, own_path};
use crate::sandbox::supervisor::identity::{Credentials, MKNOD};
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::permission::Seen;
use crate::sandbox::supervisor::paths::walk::Found;
use crate::sandbox::supervisor::{Reply, Result, records};

/// What is to be said of a new file.
pub(super) struct NewRecord {
    /// Its owner, and its mode where the disk has another.
    pub(super) record: OwnerRecord,
    /// Its permission bits.
    pub(super) meant: u32,
}

impl Server {
    /// Who owns what is made in a directory, and with which permissions: `mode` without the caller's mask.
    pub(super) fn new_record(
        &mut self,
        caller: &Caller<'_>,
        who: &Credentials,
        directory: &OwnedFd,
        (is_directory, mode): (bool, u32),
    ) -> Result<NewRecord> {
        let mut meant = mode & !self.masks.of(caller)?;
        let mut record = OwnerRecord::owner(who.user.file, who.group.file);
        let above = Seen::of(&self.keeper.table, directory)?;
        if above.permissions() & libc::S_ISGID != 0 {
            record.gid = above.record.gid;
            if is_directory {
                meant |= libc::S_ISGID;
            }
        }
        record.mode = (disk_mode(is_directory, meant) != meant).then_some(meant);
        Ok(NewRecord { record, meant })
    }

    /// Writes it down.
    pub(super) fn record_new(&mut self, object: &OwnedFd, new: &NewRecord) -> Result<()> {
        if new.record.is_plain() {
            return Ok(());
        }
        let mode = rustix::fs::fstat(object)?.st_mode;
        Ok(records::write(
            &mut self.keeper.table,
            object,
            mode,
            new.record,
        )?)
    }

    /// Writes it down for what was made in a directory.
    fn record_name(
        &mut self,
        directory: &OwnedFd,
        name: &std::ffi::CStr,
        new: &NewRecord,
    ) -> Result<()> {
        if new.record.is_plain() {
            return Ok(());
        }
        let name = without_slashes(name);
        let object = openat(directory, &name, LOOK | OFlags::NOFOLLOW, Mode::empty())?;
        self.record_new(&object, new)
    }

    /// The directory of a name that is to be made. What is there already is there, also among the kernel's files, where
    /// nothing is made.
    fn parent_of_new(
        &self,
        caller: &Caller<'_>,
        who: &Credentials,
        path: (i32, &std::ffi::CStr),
    ) -> Result<(OwnedFd, usize, std::ffi::CString)> {
        match self.parent(caller, who, path) {
            Err(error)
                if error == Errno::ACCESS.into()
                    && self.resolve(caller, who, path, false).is_ok() =>
            {
                Err(Errno::EXIST.into())
            }
            other => other,
        }
    }

    /// `mkdir`, `mkdirat`.
    pub(super) fn make_directory(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let first = if caller.call == Call::Mkdirat { 2 } else { 1 };
        let who = self.who();
        let (start, path) = caller.path()?;
        let (directory, tree, name) = self.parent_of_new(caller, &who, (start, &path))?;
        check_absent(&directory, &name)?;
        self.check_directory(&who, &directory, tree)?;
        let mode = caller.word(first) & 0o1777;
        let new = self.new_record(caller, &who, &directory, (true, mode))?;
        let on_disk = Mode::from_raw_mode(disk_mode(true, new.meant));
        mkdirat(&directory, &name, on_disk)?;
        self.record_name(&directory, &name, &new)?;
        Ok(Reply::Value(0))
    }

    /// `symlink`, `symlinkat`.
    pub(super) fn make_link(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let target = caller.string(caller.argument(0))?;
        let who = self.who();
        let (start, path) = caller.path()?;
        let (directory, tree, name) = self.parent_of_new(caller, &who, (start, &path))?;
        check_absent(&directory, &name)?;
        self.check_directory(&who, &directory, tree)?;
        let mut new = self.new_record(caller, &who, &directory, (false, 0o777))?;
        new.record.mode = None;
        symlinkat(&target, &directory, &name)?;
        self.record_name(&directory, &name, &new)?;
        Ok(Reply::Value(0))
    }

    /// `mknod`, `mknodat`: a device is an empty file with a record.
    pub(super) fn make_node(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let first = if caller.call == Call::Mknodat { 2 } else { 1 };
        let (mode, number) = (caller.word(first), u64::from(caller.word(first + 1)));
        let who = self.who();
        let (start, path) = caller.path()?;
        let (directory, tree, name) = self.parent_of_new(caller, &who, (start, &path))?;
        check_absent(&directory, &name)?;
        self.check_directory(&who, &directory, tree)?;
        let mut new = self.new_record(caller, &who, &directory, (false, mode & 0o7777))?;
        let kind = match mode & libc::S_IFMT {
            block @ (libc::S_IFCHR | libc::S_IFBLK) => {
                let block = block == libc::S_IFBLK;
                let device = Device {
                    block,
                    major: libc::major(number),
                    minor: libc::minor(number),
                };
                // A character device 0:0 marks a deleted file in an overlay.
                if !who.can(MKNOD) || !block && number == 0 {
                    return Err(Errno::PERM.into());
                }
                new.record.device = Some(device);
                FileType::RegularFile
            }
            libc::S_IFIFO => FileType::Fifo,
            libc::S_IFSOCK => FileType::Socket,
            0 | libc::S_IFREG => FileType::RegularFile,
            libc::S_IFDIR => return Err(Errno::PERM.into()),
            _ => return Err(Errno::INVAL.into()),
        };
        let on_disk = Mode::from_raw_mode(disk_mode(false, new.meant));
        mknodat(&directory, &name, kind, on_disk, 0)?;
        self.record_name(&directory, &name, &new)?;
        Ok(Reply::Value(0))
    }

    /// `link`, `linkat`.
    pub(super) fn link(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let at = caller.call == Call::Linkat;
        let flags = if at { caller.descriptor(4) } else { 0 };
        let follow = flags & libc::AT_SYMLINK_FOLLOW != 0;
        let who = self.who();
        let (start, path) = caller.path()?;
        let found = if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            self.opened(caller, start)?
        } else {
            self.resolve(caller, &who, (start, &path), follow)?
        };
        let (to_start, to) = caller.path_at(at.then_some(2), if at { 3 } else { 1 })?;
        let (directory, tree, name) = self.parent(caller, &who, (to_start, &to))?;
        let object = match &found {
            Found::File(object, own) if *own == tree => object,
            // A file without a name was made in some tree; the file system knows which.
            Found::Open(object) => object,
            _ => return Err(Errno::XDEV.into()),
        };
        check_absent(&directory, &name)?;
        self.check_directory(&who, &directory, tree)?;
        // By the descriptor: what was looked at is what gets the name.
        linkat(
            CWD,
            own_path(object),
            &directory,
            &name,
            AtFlags::SYMLINK_FOLLOW,
        )?;
        Ok(Reply::Value(0))
    }
}

/// A name without the slashes at its end.
pub(super) fn without_slashes(name: &std::ffi::CStr) -> std::ffi::CString {
    let bytes = name.to_bytes();
    let end = bytes.iter().rposition(|&byte| byte != b'/');
    std::ffi::CString::new(&bytes[..end.map_or(0, |at| at + 1)]).unwrap_or_default()
}

/// What is there already is there, whoever may write beside it: `mkdir -p` asks so.
fn check_absent(directory: &OwnedFd, name: &std::ffi::CStr) -> Result<()> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST.into()),
        Err(_) => Ok(()),
    }
}
