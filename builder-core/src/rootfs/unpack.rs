//! A layer's entries to files below a root.
//!
//! Files are written as they come, in whatever order the layer has them. Directories get their modes and times, and
//! hard links are made, when all files are there and the layer's index says what the whole is. What is in the way of an
//! entry is deleted, never written through.

use std::ffi::CStr;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::chain::{Chain, Dir, WRITING, is_no_directory};
use super::look::{CAPABILITY, key_of};
use super::metadata::{capability_of, mode_of, record_of, set_metadata, times, write_record};
use super::trouble;
use crate::confined::to_c;
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;
use crate::layer::{self, Record, makes_something};
use crate::owners::{CAPABILITIES, Device, OwnerEncoding, SideTable};
use crate::store::remove_at;

/// Bytes of a file written at a time.
const BUFFER: usize = 256 * 1024;

/// Writes entries below a root.
#[derive(Debug)]
pub(super) struct Unpacker<'a> {
    pub(super) chain: Chain,
    encoding: OwnerEncoding,
    pub(super) table: &'a mut SideTable,
    /// Capabilities that somebody else has to set.
    pub(super) capabilities: Vec<(ImagePath, Vec<u8>)>,
    buffer: Vec<u8>,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(
        root: &Path,
        encoding: OwnerEncoding,
        table: &'a mut SideTable,
    ) -> Result<Self> {
        let chain = Chain::new(root, WRITING);
        Ok(Self {
            chain: chain.map_err(trouble("open", root, &ImagePath::root()))?,
            encoding,
            table,
            capabilities: Vec::new(),
            buffer: vec![0; BUFFER],
        })
    }

    /// The error for a refusal at a path; the layer's fault where something on the way is no directory.
    pub(super) fn fail(&self, path: &ImagePath, error: io::Error) -> Error {
        if is_no_directory(&error) {
            below_other(path)
        } else {
            trouble("write", self.chain.root(), path)(error)
        }
    }

    /// Makes what a record says, but for hard links and what directories have.
    pub(super) fn put(&mut self, record: &Record, content: &mut dyn Read) -> Result<()> {
        let entry = &record.entry;
        let path = &entry.path;
        let linked = matches!(entry.kind, EntryKind::HardLink { .. });
        if !makes_something(record) || linked || path.is_root() {
            return Ok(());
        }
        if let EntryKind::File { .. } = entry.kind {
            return self.put_file(entry, content);
        }
        self.put_other(entry)
            .map_err(|error| self.fail(path, error))
    }

    fn put_file(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let made = self.create(&entry.path);
        let mut file = made.map_err(|error| self.fail(&entry.path, error))?;
        let mut left = entry.size();
        while left > 0 {
            let taken = match content.read(&mut self.buffer) {
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(&entry.path, error)),
            };
            if taken == 0 {
                return Err(unreadable(&entry.path, io::ErrorKind::UnexpectedEof.into()));
            }
            let written = file.write_all(&self.buffer[..taken]);
            written.map_err(|error| self.fail(&entry.path, error))?;
            left = left.saturating_sub(taken as u64);
        }
        let (encoding, path) = (self.encoding, &entry.path);
        let set = set_metadata(&file, entry, encoding, self.table);
        set.map_err(|error| self.fail(path, error))?;
        if let Some(plain) = capability_of(entry) {
            let name = match encoding {
                OwnerEncoding::Recorded => {
                    self.capabilities.push((path.clone(), plain));
                    return Ok(());
                }
                OwnerEncoding::Native => CAPABILITY,
                OwnerEncoding::Complete => CAPABILITIES,
            };
            let set = rustix::fs::fsetxattr(&file, name, &plain, XattrFlags::empty());
            // Its time is the inode's own affair, so this may come last.
            set.map_err(trouble("set the capabilities of", self.chain.root(), path))?;
        }
        Ok(())
    }

    /// A new, empty file that its owner may write.
    fn create(&mut self, path: &ImagePath) -> io::Result<std::fs::File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.make(path, |parent, name| {
            rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        Ok(fd.into())
    }

    /// Calls `make` with the place of `path`; where something is in the way, deletes it and calls again.
    fn make<T>(
        &mut self,
        path: &ImagePath,
        make: impl Fn(BorrowedFd<'_>, &CStr) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        let (parent, name) = self.place(path)?;
        match make(parent, &name) {
            Err(Errno::EXIST) => {}
            made => return Ok(made?),
        }
        self.chain.forget(path)?;
        let (parent, name) = self.place(path)?;
        remove_at(parent, &name)?;
        Ok(make(parent, &name)?)
    }

    /// The directory that holds `path`, made if it is missing, and the path's name.
    fn place(&mut self, path: &ImagePath) -> io::Result<(BorrowedFd<'_>, std::ffi::CString)> {
        let name = to_c(path.file_name().unwrap_or(b"."))?;
        let parent: &Dir = self.chain.make(&path.parent().unwrap_or_default())?;
        Ok((parent.as_fd(), name))
    }

    /// Makes everything that has no bytes.
    fn put_other(&mut self, entry: &Entry) -> io::Result<()> {
        let path = &entry.path;
        match &entry.kind {
            EntryKind::Directory => return self.put_directory(path),
            EntryKind::Symlink { target } => {
                let target = to_c(target)?;
                self.make(path, |parent, name| {
                    rustix::fs::symlinkat(&target, parent, name)
                })?;
            }
            EntryKind::Fifo => {
                self.node(path, FileType::Fifo, 0)?;
            }
            EntryKind::CharDevice { major, minor } => {
                return self.put_device(entry, FileType::CharacterDevice, (*major, *minor));
            }
            EntryKind::BlockDevice { major, minor } => {
                return self.put_device(entry, FileType::BlockDevice, (*major, *minor));
            }
            EntryKind::File { .. } | EntryKind::HardLink { .. } | EntryKind::Socket => {
                return Ok(());
            }
        }
        self.set_by_name(entry)
    }

    fn put_directory(&mut self, path: &ImagePath) -> io::Result<()> {
        let (parent, name) = self.place(path)?;
        match rustix::fs::mkdirat(parent, &name, Mode::RWXU) {
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(parent, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode).is_dir() {
                    return Ok(());
                }
                remove_at(parent, &name)?;
                Ok(rustix::fs::mkdirat(parent, &name, Mode::RWXU)?)
            }
            made => Ok(made?),
        }
    }

    fn node(&mut self, path: &ImagePath, kind: FileType, device: u64) -> io::Result<()> {
        self.make(path, |parent, name| {
            rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)
        })
    }

    /// A device; where it can't be made, or would hide a name in an overlay mount, a file with a record.
    fn put_device(
        &mut self,
        entry: &Entry,
        kind: FileType,
        (major, minor): (u32, u32),
    ) -> io::Result<()> {
        let block = kind == FileType::BlockDevice;
        let hides = !block && (major, minor) == (0, 0);
        if self.encoding == OwnerEncoding::Native && !hides {
            match self.node(&entry.path, kind, rustix::fs::makedev(major, minor)) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                made => {
                    made?;
                    return self.set_by_name(entry);
                }
            }
        }
        let file = self.create(&entry.path)?;
        let mut record = record_of(entry, self.encoding);
        record.device = Some(Device {
            block,
            major,
            minor,
        });
        write_record(file.as_fd(), record, self.table)?;
        if self.encoding == OwnerEncoding::Native {
            rustix::fs::fchown(
                &file,
                Some(Uid::from_raw(entry.uid)),
                Some(Gid::from_raw(entry.gid)),
            )?;
        }
        rustix::fs::fchmod(&file, mode_of(entry, self.encoding))?;
        Ok(rustix::fs::futimens(&file, &times(entry.mtime))?)
    }

    /// Owner, mode and time of what can't be opened.
    fn set_by_name(&mut self, entry: &Entry) -> io::Result<()> {
        let encoding = self.encoding;
        let name = to_c(entry.path.file_name().unwrap_or_default())?;
        let parent = self.chain.make(&entry.path.parent().unwrap_or_default())?;
        match encoding {
            OwnerEncoding::Native => rustix::fs::chownat(
                &*parent,
                &name,
                Some(Uid::from_raw(entry.uid)),
                Some(Gid::from_raw(entry.gid)),
                AtFlags::SYMLINK_NOFOLLOW,
            )?,
            OwnerEncoding::Recorded | OwnerEncoding::Complete => {
                let record = record_of(entry, encoding);
                if !record.is_plain() {
                    self.table.insert(key_of(parent.as_fd(), &name)?, record);
                }
            }
        }
        if !entry.is_symlink() {
            rustix::fs::chmodat(&*parent, &name, mode_of(entry, encoding), AtFlags::empty())?;
        }
        let times = times(entry.mtime);
        Ok(rustix::fs::utimensat(
            &*parent,
            &name,
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// Makes `path` another name of `target`; `targets` is a chain of its own.
    pub(super) fn link(
        &mut self,
        path: &ImagePath,
        target: &ImagePath,
        targets: &mut Chain,
    ) -> io::Result<()> {
        let (from, old) = targets.enter_parent(target)?;
        let from = &*from;
        let made = self.make(path, |parent, name| {
            rustix::fs::linkat(from, &old, parent, name, AtFlags::empty())
        });
        targets.rest()?;
        made
    }

    /// Hides a name of the layers below in an overlay mount.
    pub(super) fn hide(&mut self, path: &ImagePath) -> io::Result<()> {
        self.make(path, |parent, name| {
            rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)
        })
    }

    /// Sets a file's time again.
    pub(super) fn set_time(&mut self, entry: &Entry) -> io::Result<()> {
        let (parent, name) = self.chain.enter_parent(&entry.path)?;
        let times = times(entry.mtime);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::utimensat(&*parent, &name, &times, flags)?)
    }

    /// Gives a directory what it has, when nothing more is made in it.
    pub(super) fn close(&mut self, entry: &Entry) -> io::Result<()> {
        let encoding = self.encoding;
        let directory = self.chain.enter(&entry.path)?;
        directory.keep_mode();
        set_metadata(directory, entry, encoding, self.table)?;
        self.chain.forget(&entry.path)
    }

    /// Deletes `path`, and all below it. What isn't there is no error.
    pub(super) fn delete(&mut self, path: &ImagePath) -> io::Result<()> {
        self.chain.forget(path)?;
        let (parent, name) = match self.chain.enter_parent(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_no_directory(&error) => {
                return Ok(());
            }
            entered => entered?,
        };
        match remove_at(parent.as_fd(), &name) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes what is at a directory's place and is none.
    pub(super) fn make_way(&mut self, path: &ImagePath) -> io::Result<()> {
        match self.chain.enter(path) {
            Err(error) if is_no_directory(&error) => self.delete(path),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes all that is in a directory, which may be missing.
    pub(super) fn empty(&mut self, path: &ImagePath) -> io::Result<()> {
        let directory = match self.chain.enter(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_no_directory(&error) => {
                return Ok(());
            }
            entered => entered?,
        };
        let mut buffer = vec![std::mem::MaybeUninit::uninit(); 32 * 1024];
        let names = super::walk::Names::read(directory, &mut buffer)?;
        for name in (0..).map_while(|number| names.get(number)) {
            remove_at(directory.as_fd(), name)?;
        }
        Ok(())
    }
}

/// The error for an entry below something that is no directory.
fn below_other(path: &ImagePath) -> Error {
    let message = format!(
        "a layer has `{path}` below a symbolic link or a file, where a directory should be"
    );
    Error::new(ErrorKind::BaseImage, message)
        .with_help("have the image made again, with the directories named in that layer")
}

/// The error for bytes that the layer should have and doesn't give.
fn unreadable(path: &ImagePath, error: io::Error) -> Error {
    match error.downcast::<layer::Error>() {
        Ok(own) => own.into(),
        Err(error) => {
            let message = format!("cannot read the content of `{path}` in a layer");
            Error::new(ErrorKind::BaseImage, message).with_source(error)
        }
    }
}
