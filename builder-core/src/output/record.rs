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

/// Remembers a complete output.
///
/// # Errors
/// Those of writing to the store.
pub fn remember(store: &Store, path: &Path) -> Result<()> {
    let Some((absolute, look)) = look(path) else {
        return Ok(());
    };
    let bytes = absolute.as_os_str().as_bytes();
    let mut record = store.temporary_file()?;
    let written = record
        .write_all(look.as_bytes())
        .and_then(|()| record.write_all(b"\n"));
    if written.and_then(|()| record.write_all(bytes)).is_ok() {
        store.keep_sidecar(Sidecar::Output(Digest::of(bytes)), record)?;
    }
    Ok(())
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
                if look.as_bytes() == &bytes[..newline] && path.parent() == Some(&directory) =>
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

/// The absolute path of a regular file, and what tells whether it is the same later.
fn look(path: &Path) -> Option<(PathBuf, String)> {
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
    Some((
        absolute,
        format!(
            "{}:{}:{}:{seconds}.{nanos}",
            found.dev(),
            found.ino(),
            found.len()
        ),
    ))
}
