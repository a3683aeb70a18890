//! An image's root file system: as one tar (`type=tar`) or as files (`type=local`).
//!
//! Both are the merged tree of the layers, walked once in path order. A tar keeps owners; files on the host belong to
//! whoever builds, as buildx leaves them, and devices are left out there. A directory is made beside its destination
//! and renamed; into one that is there already it is moved file by file when it is complete.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::image::view::View;
use crate::image_path::ImagePath;
use crate::interrupt::Interrupt;
use crate::layer::header;
use crate::output::{Bundle, Problem, whole_file};
use crate::store::{Store, remove_tree};
use crate::timestamp::Timestamp;
use crate::tree::{FileId, Node, Tree};

/// Visits everything in path order; a directory before and after its content.
fn walk(tree: &dyn Tree, visit: &mut dyn FnMut(&Node, bool) -> Result<()>) -> Result<()> {
    let mut above: Vec<Node> = Vec::new();
    let mut levels = vec![tree.list(&ImagePath::root())?];
    while let Some(listing) = levels.last_mut() {
        let Some(node) = listing.next().transpose()? else {
            levels.pop();
            above.pop().map_or(Ok(()), |left| visit(&left, true))?;
            continue;
        };
        visit(&node, false)?;
        if node.entry.is_directory() {
            levels.push(tree.list(&node.entry.path)?);
            above.push(node);
        }
    }
    Ok(())
}

/// The first names of files that have several.
#[derive(Default)]
struct Links(BTreeMap<FileId, ImagePath>);

impl Links {
    /// The first name, where this is a further one.
    fn first(&mut self, node: &Node) -> Option<ImagePath> {
        let link = node.link?;
        let first = self
            .0
            .entry(link)
            .or_insert_with(|| node.entry.path.clone());
        (*first != node.entry.path).then(|| first.clone())
    }
}

/// Writes the tar and returns its size in bytes.
pub(super) fn write_tar(
    store: &Store,
    bundle: &Bundle<'_>,
    file: &mut File,
    interrupt: &Interrupt,
) -> Result<u64> {
    let view = View::new(store, &bundle.image.layers, "the image")
        .with_replacements(Some(bundle.replacements));
    let mut out = BufWriter::with_capacity(256 * 1024, file);
    let mut links = Links::default();
    let mut written = 0;
    let mut head = Vec::new();
    walk(&view, &mut |node, after| {
        interrupt.check()?;
        if after {
            return Ok(());
        }
        let mut entry = node.entry.clone();
        if let Some(target) = links.first(node) {
            entry.kind = EntryKind::HardLink { target };
        }
        let epoch = bundle.epoch;
        entry.mtime = Timestamp::from_seconds(entry.mtime.seconds).clamp_to(epoch);
        head.clear();
        header::write(&entry, &mut head)?;
        out.write_all(&head).map_err(Problem::writing)?;
        written += head.len() as u64;
        let size = entry.size();
        if size > 0 {
            let copied = io::copy(&mut *view.open(&mut node.clone())?, &mut out)
                .map_err(Problem::writing)?;
            check_size(&entry, copied)?;
            let padding = header::padding(size);
            out.write_all(&[0; header::UNIT][..padding])
                .map_err(Problem::writing)?;
            written += size + padding as u64;
        }
        Ok(())
    })?;
    out.write_all(&[0; header::END])
        .and_then(|()| out.flush())
        .map_err(Problem::writing)?;
    Ok(written + header::END as u64)
}

fn check_size(entry: &Entry, copied: u64) -> Result<()> {
    if copied == entry.size() {
        return Ok(());
    }
    let message = format!(
        "`{}` has {copied} bytes in its layer, its index says {}",
        entry.path,
        entry.size()
    );
    Err(Error::new(ErrorKind::Store, message)
        .with_help("the store is damaged: build the image again"))
}

/// Writes the files and returns how many bytes they hold.
pub(super) fn write_directory(
    store: &Store,
    bundle: &Bundle<'_>,
    to: &Path,
    interrupt: &Interrupt,
) -> Result<u64> {
    let view = View::new(store, &bundle.image.layers, "the image")
        .with_replacements(Some(bundle.replacements));
    let partial = Partial(whole_file::hidden_name(to));
    std::fs::create_dir(&partial.0).map_err(Problem::at("create", &partial.0))?;
    let mut links = Links::default();
    let mut bytes = 0;
    walk(&view, &mut |node, after| {
        interrupt.check()?;
        let path = partial
            .0
            .join(std::ffi::OsStr::from_bytes(node.entry.path.as_relative()));
        if path.as_os_str().len() > LONGEST_HERE {
            return Err(too_long(&node.entry.path));
        }
        let mtime = node.entry.mtime.clamp_to(bundle.epoch);
        if after {
            let mode = Permissions::from_mode(node.entry.mode);
            std::fs::set_permissions(&path, mode).map_err(Problem::at("write", &path))?;
            return set_time(&path, mtime);
        }
        if let Some(first) = links.first(node) {
            let first = partial
                .0
                .join(std::ffi::OsStr::from_bytes(first.as_relative()));
            std::fs::hard_link(&first, &path).map_err(Problem::at("link", &path))?;
            return Ok(());
        }
        bytes += put(&view, node, &path)?;
        if node.entry.is_directory() {
            Ok(())
        } else {
            set_time(&path, mtime)
        }
    })?;
    settle(&partial.0, to)?;
    Ok(bytes)
}

/// No longer path can be given to the system: Linux's `PATH_MAX`, less the byte that ends it.
const LONGEST_HERE: usize = 4095;

/// The error for a path that nobody could open.
fn too_long(path: &ImagePath) -> Error {
    let message = format!(
        "`{}` is too long to be a file here: no path may have more than {LONGEST_HERE} bytes",
        path.shortened()
    );
    Error::new(ErrorKind::Output, message).with_help("write a tar instead: `type=tar`")
}

/// A directory that is removed unless it got its name.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // An image may hold directories that their owner can't write to.
        let _ = remove_tree(&self.0);
    }
}

/// Makes one file. Everything is new below a directory of our own, so no link of the image is ever followed.
fn put(view: &View<'_>, node: &Node, path: &Path) -> Result<u64> {
    let entry = &node.entry;
    match &entry.kind {
        EntryKind::Directory => std::fs::create_dir(path).map_err(Problem::at("create", path))?,
        EntryKind::Symlink { target } => {
            symlink(std::ffi::OsStr::from_bytes(target), path)
                .map_err(Problem::at("create", path))?;
        }
        EntryKind::Fifo => {
            let mode = rustix::fs::Mode::from_raw_mode(entry.mode & 0o777);
            rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                .map_err(|error| Problem::at("create", path)(error.into()))?;
        }
        EntryKind::File { .. } => {
            let options = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .clone();
            let mut file = options.open(path).map_err(Problem::at("create", path))?;
            let copied = io::copy(&mut *view.open(&mut node.clone())?, &mut file)
                .map_err(Problem::at("write", path))?;
            check_size(entry, copied)?;
            file.set_permissions(Permissions::from_mode(entry.mode))
                .map_err(Problem::at("write", path))?;
            return Ok(copied);
        }
        EntryKind::CharDevice { .. }
        | EntryKind::BlockDevice { .. }
        | EntryKind::Socket
        | EntryKind::HardLink { .. } => {}
    }
    Ok(0)
}

fn set_time(path: &Path, mtime: Timestamp) -> Result<()> {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: mtime.nanos.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    match rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
        // A device was left out.
        Err(rustix::io::Errno::NOENT) | Ok(()) => Ok(()),
        Err(error) => Err(Problem::at("write", path)(error.into()).into()),
    }
}

/// Gives the complete tree its name, or moves it into the directory that has the name already.
fn settle(from: &Path, to: &Path) -> Result<()> {
    match std::fs::rename(from, to) {
        Ok(()) => Ok(()),
        Err(error) if to.is_dir() && error.raw_os_error().is_some() => move_into(from, to),
        Err(error) => Err(Problem::at("write", to)(error).into()),
    }
}

fn move_into(from: &Path, to: &Path) -> Result<()> {
    let mut open = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = open.pop() {
        for entry in std::fs::read_dir(&from).map_err(Problem::at("read", &from))? {
            let entry = entry.map_err(Problem::at("read", &from))?;
            let target = to.join(entry.file_name());
            let both = entry.file_type().is_ok_and(|kind| kind.is_dir())
                && target.symlink_metadata().is_ok_and(|found| found.is_dir());
            if both {
                open.push((entry.path(), target));
            } else {
                std::fs::rename(entry.path(), &target).map_err(Problem::at("write", &target))?;
            }
        }
    }
    Ok(())
}
