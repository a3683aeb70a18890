//! Owner, mode and time of a file on disk, as its entry says.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::look::key_of;
use crate::entry::Entry;
use crate::layer::header;
use crate::owners::{ATTRIBUTE, OwnerEncoding, OwnerRecord, SideTable, disk_mode};
use crate::timestamp::Timestamp;

/// A file's capabilities as a layer holds them.
pub(super) fn capability_of(entry: &Entry) -> Option<Vec<u8>> {
    header::capability(entry.xattrs.get(header::CAPABILITY)?)
}

/// Gives an open file or directory its owner, mode and time.
pub(super) fn set_metadata(
    file: &impl AsFd,
    entry: &Entry,
    encoding: OwnerEncoding,
    table: &mut SideTable,
) -> io::Result<()> {
    let file = file.as_fd();
    match encoding {
        OwnerEncoding::Native => rustix::fs::fchown(
            file,
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
        )?,
        OwnerEncoding::Recorded | OwnerEncoding::Complete => {
            let record = record_of(entry, encoding);
            // A directory may have been there before, with another owner.
            if entry.is_directory() || !record.is_plain() {
                write_record(file, record, table)?;
            }
        }
    }
    rustix::fs::fchmod(file, mode_of(entry, encoding))?;
    Ok(rustix::fs::futimens(file, &times(entry.mtime))?)
}

/// The permission bits of an entry on the disk.
pub(super) fn mode_of(entry: &Entry, encoding: OwnerEncoding) -> Mode {
    let mode = entry.mode & 0o7777;
    Mode::from_raw_mode(match encoding {
        OwnerEncoding::Complete => disk_mode(entry.is_directory(), mode),
        _ => mode,
    })
}

/// What is recorded of an entry where owners are.
pub(super) fn record_of(entry: &Entry, encoding: OwnerEncoding) -> OwnerRecord {
    let meant = entry.mode & 0o7777;
    let differs = mode_of(entry, encoding).as_raw_mode() != meant;
    OwnerRecord {
        // A link has no mode of its own.
        mode: (differs && !entry.is_symlink()).then_some(meant),
        ..OwnerRecord::owner(entry.uid, entry.gid)
    }
}

/// Records an owner at a file, or in the table where the file system has no attributes.
pub(super) fn write_record(
    file: BorrowedFd<'_>,
    record: OwnerRecord,
    table: &mut SideTable,
) -> io::Result<()> {
    let written = if record.is_plain() {
        match rustix::fs::fremovexattr(file, ATTRIBUTE) {
            Err(Errno::NODATA) => Ok(()),
            removed => removed,
        }
    } else {
        let text = record.to_text();
        rustix::fs::fsetxattr(file, ATTRIBUTE, text.as_bytes(), XattrFlags::empty())
    };
    match written {
        Err(Errno::NOTSUP) => {
            table.insert(key_of(file, c"")?, record);
            Ok(())
        }
        written => Ok(written?),
    }
}

/// An entry's time, for the system.
pub(super) fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: mtime.nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
