//! Which files of the host rbuild wrote, so that one build's output in a context is not the next one's input.
//!
//! A small file in the store for each output: its path, and what it looked like when it was complete. A file that was
//! changed since is the user's, and is copied like any other.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::Result;
use crate::image_path::ImagePath;
use crate::store::{Sidecar, Store};

/// Remembers a complete output, and what is in it: the digest of everything that decides its bytes.
///
/// # Errors
/// Those of writing to the store.
pub fn remember(store: &Store, path: &Path, content: &Digest) -> Result<()> {
    let Some((absolute, look)) = look(path) else {
        return Ok(());
    };
    let bytes = absolute.as_os_str().as_bytes();
    let mut record = store.temporary_file()?;
    let first = format!("{} {content} {}\n", look.file, look.changed);
    let written = record.write_all(first.as_bytes());
    if written.and_then(|()| record.write_all(bytes)).is_ok() {
        store.keep_sidecar(Sidecar::Output(Digest::of(bytes)), record)?;
    }
    Ok(())
}

/// The length in bytes of an output that holds `content` already: rbuild wrote it, and nobody touched it since.
pub fn holds(store: &Store, path: &Path, content: &Digest) -> Option<u64> {
    let (absolute, look) = look(path)?;
    let bytes = absolute.as_os_str().as_bytes();
    let record = store.sidecar_path(Sidecar::Output(Digest::of(bytes)));
    let text = std::fs::read(record).ok()?;
    let first = format!("{} {content} {}\n", look.file, look.changed);
    let same = text.strip_prefix(first.as_bytes()) == Some(bytes);
    same.then_some(look.length)
}

/// The files directly in `directory` that rbuild wrote and nobody changed since. Records of files that are gone are
/// dropped.
pub fn outputs_in(store: &Store, directory: &Path) -> Vec<ImagePath> {
    let Ok(directory) = directory.canonicalize() else {
        return Vec::new();
    };
    let records = store.sidecar_path(Sidecar::Output(Digest::of(b"")));
    let Some(records) = records
        .parent()
        .and_then(|folder| std::fs::read_dir(folder).ok())
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for record in records.flatten() {
        let Ok(bytes) = std::fs::read(record.path()) else {
            continue;
        };
        let Some(newline) = bytes.iter().position(|byte| *byte == b'\n') else {
            continue;
        };
        let path = PathBuf::from(OsStr::from_bytes(&bytes[newline + 1..]));
        match look(&path) {
            Some((_, look))
                if bytes[..newline].split(|byte| *byte == b' ').next()
                    == Some(look.file.as_bytes())
                    && path.parent() == Some(&directory) =>
            {
                let name = path.file_name().unwrap_or_default();
                found.push(ImagePath::root().child(name.as_bytes()));
            }
            Some(_) => {}
            None => {
                let _ = std::fs::remove_file(record.path());
            }
        }
    }
    found.sort();
    found
}

/// What tells whether a file is the same later.
struct Look {
    /// Device, inode, length, and the time of its bytes.
    file: String,
    /// The time of the inode, in nanoseconds.
    changed: i128,
    length: u64,
}

/// The absolute path of a regular file, and what it looks like.
fn look(path: &Path) -> Option<(PathBuf, Look)> {
    let found = path
        .symlink_metadata()
        .ok()
        .filter(std::fs::Metadata::is_file)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let absolute = parent.canonicalize().ok()?.join(path.file_name()?);
    let (seconds, nanos) = (found.mtime(), found.mtime_nsec());
    let (device, inode, length) = (found.dev(), found.ino(), found.len());
    let look = Look {
        file: format!("{device}:{inode}:{length}:{seconds}.{nanos}"),
        changed: i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec()),
        length,
    };
    Some((absolute, look))
}
