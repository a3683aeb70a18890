//! The files that make the store an OCI image layout: `oci-layout` and `index.json` with its tags.
//!
//! Follows the OCI image specification, "Image Layout". One entry a tag, with the full reference in
//! `io.containerd.image.name` and the tag in `org.opencontainers.image.ref.name`. Entries and fields of other tools
//! are kept as they are.

use std::io::{self, Write as _};
use std::path::Path;

use super::Store;
use super::error::{Error, Result};
use super::lock::{Lock, Mode};
use crate::oci::descriptor::{Descriptor, IMAGE_NAME, REF_NAME};
use crate::oci::{ImageIndex, json};

/// The content of `oci-layout`.
pub const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes `oci-layout` and an empty `index.json` where they are missing; refuses another version.
pub(super) fn prepare(store: &Store) -> Result<()> {
    let path = store.root().join("oci-layout");
    match std::fs::read(&path) {
        Ok(bytes) => check_version(&path, &bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write(store, &path, LAYOUT)?;
        }
        Err(error) => return Err(Error::io("read", &path)(error)),
    }
    let index = index_path(store);
    if !index.try_exists().map_err(Error::io("read", &index))? {
        change(store, |_| Ok(()))?;
    }
    Ok(())
}

/// Any version 1 is read: the specification promises that they are alike.
fn check_version(path: &Path, bytes: &[u8]) -> Result<()> {
    let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let version = document["imageLayoutVersion"].as_str().unwrap_or_default();
    if version.starts_with("1.") {
        Ok(())
    } else {
        Err(Error::NotALayout {
            path: path.to_owned(),
        })
    }
}

fn index_path(store: &Store) -> std::path::PathBuf {
    store.root().join("index.json")
}

/// Reads `index.json`; a missing, empty or damaged one has no tags.
pub(super) fn read(store: &Store) -> Result<ImageIndex> {
    let path = index_path(store);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    if bytes.is_empty() {
        return Ok(ImageIndex::new(Vec::new()));
    }
    let read = ImageIndex::from_bytes(&format!("`{}`", path.display()), &bytes);
    read.or_else(|_| {
        // Tags can be given again. What stood there is kept for who wants to read it.
        if !store.keeps_damage {
            let aside = path.with_extension("json.damaged");
            std::fs::rename(&path, aside).map_err(Error::io("rename", &path))?;
        }
        store.note_damage(&path);
        Ok(ImageIndex::new(Vec::new()))
    })
}

/// Reads, changes and replaces `index.json`, alone among all processes.
pub(super) fn change(
    store: &Store,
    edit: impl FnOnce(&mut ImageIndex) -> Result<()>,
) -> Result<()> {
    let _alone = Lock::wait(&store.lock_path("index"), Mode::Exclusive)?;
    let mut index = read(store)?;
    edit(&mut index)?;
    let bytes = json::to_bytes("the index of the store", &index)?;
    write(store, &index_path(store), &bytes)
}

/// Replaces a small file as a whole.
fn write(store: &Store, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = store.temporary_file()?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.rename(path)?;
    Ok(())
}

/// The reference that an entry of `index.json` has: the full one, or what another tool wrote as its name.
pub(super) fn reference(entry: &Descriptor) -> Option<&str> {
    entry
        .annotation(IMAGE_NAME)
        .or_else(|| entry.annotation(REF_NAME))
}

/// `descriptor` as an entry of `index.json`.
pub(super) fn entry(descriptor: &Descriptor, full_reference: &str, tag: &str) -> Descriptor {
    descriptor
        .clone()
        .with_annotation(IMAGE_NAME, full_reference)
        .with_annotation(REF_NAME, tag)
}
