//! Reads and writes the record of an open object: in an attribute where it takes one, else in the side table.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::XattrFlags;
use rustix::io::{Errno, Result};

use crate::owners::{ATTRIBUTE, FileKey, OwnerRecord, SideTable};
use crate::sandbox::supervisor::caller::own_path;
use crate::sandbox::sys::memory;

/// Longest text of a record: four numbers of ten digits, a letter, and what divides them.
const LONGEST: usize = 64;

/// What an object is and who owns it really.
pub(super) fn look(object: &OwnedFd) -> Result<libc::stat> {
    memory::stat(object.as_fd(), c"", libc::AT_EMPTY_PATH)
}

/// Whether a file of this mode takes user attributes.
pub(super) fn takes_attributes(mode: u32) -> bool {
    matches!(mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR)
}

/// The record of an object, if it has one that counts: real owners other than the one user are not ours.
pub(super) fn read(table: &SideTable, object: &OwnedFd, stat: &libc::stat) -> Option<OwnerRecord> {
    if stat.st_uid != 0 && stat.st_gid != 0 {
        return None;
    }
    read_any(table, object, stat)
}

/// The record of an object, whoever owns it.
pub(super) fn read_any(
    table: &SideTable,
    object: &OwnedFd,
    stat: &libc::stat,
) -> Option<OwnerRecord> {
    if takes_attributes(stat.st_mode) {
        let mut text = [0; LONGEST];
        match rustix::fs::getxattr(own_path(object), ATTRIBUTE, &mut text[..]) {
            Ok(length) => return OwnerRecord::parse(&text[..length]),
            Err(Errno::OPNOTSUPP) => {}
            Err(_) => return None,
        }
    }
    if table.is_empty() {
        return None;
    }
    table.get(key(object).ok()?)
}

/// Records an owner; root's ordinary file needs no record.
pub(super) fn write(
    table: &mut SideTable,
    object: &OwnedFd,
    mode: u32,
    record: OwnerRecord,
) -> Result<()> {
    if takes_attributes(mode) {
        let path = own_path(object);
        let result = if record.is_plain() {
            match rustix::fs::removexattr(&path, ATTRIBUTE) {
                Err(Errno::NODATA) => Ok(()),
                other => other,
            }
        } else {
            rustix::fs::setxattr(
                &path,
                ATTRIBUTE,
                record.to_text().as_bytes(),
                XattrFlags::empty(),
            )
        };
        if result != Err(Errno::OPNOTSUPP) {
            return result;
        }
    }
    let key = key(object)?;
    if !record.is_plain() || table.get(key).is_some() {
        table.insert(key, record);
    }
    Ok(())
}

/// Names an object in the side table.
pub(super) fn key(object: &OwnedFd) -> Result<FileKey> {
    let wanted = libc::STATX_INO | libc::STATX_BTIME;
    let found = memory::statx(object.as_fd(), c"", libc::AT_EMPTY_PATH, wanted)?;
    let born = if found.stx_mask & libc::STATX_BTIME == 0 {
        0
    } else {
        found.stx_btime.tv_sec * 1_000_000_000 + i64::from(found.stx_btime.tv_nsec)
    };
    Ok(FileKey {
        inode: found.stx_ino,
        born,
    })
}
