//! One file on disk as the image should have it: its owner from where the host holds it.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;

use super::chain::{Dir, READING};
use crate::entry::{Entry, EntryKind};
use crate::image_path::ImagePath;
use crate::layer::header;
use crate::owners::{ATTRIBUTE, CAPABILITIES, FileKey, OwnerEncoding, OwnerRecord, SideTable};
use crate::timestamp::Timestamp;

/// The attribute that holds a file's capabilities.
pub(super) const CAPABILITY: &CStr = c"security.capability";

/// Tells what files on disk stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looker<'t> {
    pub(super) encoding: OwnerEncoding,
    pub(super) table: &'t SideTable,
}

/// A file on disk.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) entry: Entry,
    /// A regular file, open.
    pub(super) content: Option<File>,
    /// Device and inode number of a file with several names.
    pub(super) link: Option<(u64, u64)>,
}

impl Looker<'_> {
    /// What `name` in `parent` is; none for a socket. `path` is what it is called.
    pub(super) fn look(
        &self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        path: &ImagePath,
        stat: &Stat,
    ) -> io::Result<Option<Seen>> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut seen = plain(path, stat);
        let (major, minor) = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        let recorded = self.encoding != OwnerEncoding::Native;
        let mut record = Ok(None);
        seen.entry.kind = match kind {
            FileType::Directory => {
                if recorded {
                    record = attribute(Dir::open(parent, name, READING)?.as_fd());
                }
                EntryKind::Directory
            }
            FileType::RegularFile => {
                let file = open_file(parent, name, stat)?;
                record = attribute(file.as_fd());
                seen.entry.xattrs.extend(self.capability(&file)?);
                seen.content = Some(file);
                EntryKind::File {
                    size: stat.st_size.unsigned_abs(),
                }
            }
            FileType::Symlink => {
                seen.entry.mode = 0o777;
                let target = rustix::fs::readlinkat(parent, name, Vec::new())?.into_bytes();
                EntryKind::Symlink { target }
            }
            FileType::Fifo => EntryKind::Fifo,
            FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileType::Socket | FileType::Unknown => return Ok(None),
        };
        let takes_none = !matches!(kind, FileType::Directory | FileType::RegularFile);
        if (takes_none && recorded) || record == Err(Errno::NOTSUP) {
            record = Ok(self.table.get(key_of(parent, name)?));
        }
        self.apply(&mut seen, record?.unwrap_or_default());
        Ok(Some(seen))
    }

    /// A file's capabilities as a layer holds them.
    fn capability(&self, file: &File) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let name = match self.encoding {
            OwnerEncoding::Complete => CAPABILITIES,
            _ => CAPABILITY,
        };
        let mut value = [0_u8; 64];
        match rustix::fs::fgetxattr(file, name, &mut value) {
            Ok(length) => Ok(header::capability(&value[..length])
                .map(|plain| (CAPABILITY.to_bytes().to_vec(), plain))),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::OVERFLOW) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn apply(&self, seen: &mut Seen, record: OwnerRecord) {
        if self.encoding != OwnerEncoding::Native {
            (seen.entry.uid, seen.entry.gid) = (record.uid, record.gid);
        }
        if let Some(mode) = record.mode {
            seen.entry.mode = mode;
        }
        if let (Some(device), EntryKind::File { size: 0 }) = (record.device, &seen.entry.kind) {
            let (major, minor) = (device.major, device.minor);
            seen.content = None;
            seen.entry.kind = if device.block {
                EntryKind::BlockDevice { major, minor }
            } else {
                EntryKind::CharDevice { major, minor }
            };
        }
    }
}

/// What the inode alone says.
fn plain(path: &ImagePath, stat: &Stat) -> Seen {
    let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
    Seen {
        entry: Entry {
            path: path.clone(),
            kind: EntryKind::Directory,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Timestamp {
                seconds: stat.st_mtime,
                nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
            xattrs: BTreeMap::new(),
        },
        content: None,
        link: (stat.st_nlink > 1 && !is_directory).then_some((stat.st_dev, stat.st_ino)),
    }
}

/// The record that a file or directory carries.
fn attribute(file: BorrowedFd<'_>) -> rustix::io::Result<Option<OwnerRecord>> {
    let mut value = [0_u8; 128];
    match rustix::fs::fgetxattr(file, ATTRIBUTE, &mut value) {
        Ok(length) => Ok(OwnerRecord::parse(&value[..length])),
        Err(Errno::NODATA | Errno::RANGE) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a regular file, even one that its owner may not read.
fn open_file(parent: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let mode = Mode::from_raw_mode(stat.st_mode);
            rustix::fs::chmodat(parent, name, mode | Mode::RUSR, AtFlags::empty())?;
            let opened = rustix::fs::openat(parent, name, flags, Mode::empty());
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
            opened
        }
        opened => opened,
    };
    Ok(File::from(opened?))
}

/// What the side table calls a file; an empty name means the open file itself.
pub(super) fn key_of(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<FileKey> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME;
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let found = rustix::fs::statx(parent, name, flags, wanted)?;
    let told = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
    let born = found.stx_btime;
    let nanos = born.tv_sec.saturating_mul(1_000_000_000);
    Ok(FileKey {
        inode: found.stx_ino,
        born: if told {
            nanos.saturating_add(born.tv_nsec.into())
        } else {
            0
        },
    })
}
