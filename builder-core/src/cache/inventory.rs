//! What the cache holds, thing by thing: what it is, how large, and when it was used last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::shared::Record;
use super::{Cache, Entry, Key, STEPS};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::owners::OwnerEncoding;
use crate::store::roots::bytes_of;
use crate::store::{Marked, Sidecar, Store};

/// The folder of the root of the last RUN that failed and was kept.
pub(crate) const FAILED: &str = "failed";

/// One thing that the cache holds.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// What it is about, for people.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// When it was used last.
    pub used: SystemTime,
    pub(super) paths: Vec<PathBuf>,
}

/// The kinds of things that the cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemKind {
    /// A step's result: its entry and its blobs.
    Step,
    /// A layer laid out as a directory.
    Root,
    /// The directory of cache mounts of one name.
    Mount,
    /// A blob that no tag and no step reaches.
    Blob,
    /// The uncompressed copy of a layer.
    Spool,
    /// The root of a RUN that failed, kept to be looked at.
    Failed,
    /// What is known of a layer, a file list or an image, beside the results themselves.
    Note,
}

impl ItemKind {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Root => "root",
            Self::Mount => "mount",
            Self::Blob => "blob",
            Self::Spool => "spool",
            Self::Failed => "failed",
            Self::Note => "note",
        }
    }
}

/// The folders of the cache with what is known beside the results.
const NOTES: &[&str] = &[
    "recent",
    "listings",
    "contexts",
    "selections",
    "images",
    "urls",
];

/// Everything that may be deleted, the least recently used first.
///
/// # Errors
/// Those of reading the store.
pub fn list(store: &Store) -> Result<Vec<Item>> {
    let tagged = store.tagged()?;
    let mut items = Vec::new();
    let mut owned = steps(store, &tagged, &mut items)?;
    shared_mounts(store, &tagged, &mut owned, &mut items)?;
    blobs(store, &tagged, &owned, &mut items)?;
    for root in store.roots()? {
        let mark = root.path.join("chain");
        let name = root
            .diff_id
            .map_or_else(|| "?".to_owned(), |id| id.to_string());
        let bytes = size_of_root(&root.path);
        items.push(item(ItemKind::Root, name, bytes, &mark, vec![root.path]));
    }
    mounts(store, &mut items);
    failed(store, &mut items);
    spools(store, &mut items);
    notes(store, &tagged, &owned, &mut items)?;
    items.sort_by(|one, other| (one.used, &one.name).cmp(&(other.used, &other.name)));
    Ok(items)
}

/// The blobs and layers that steps and exported mounts have: what no name reaches and these do is of use.
///
/// # Errors
/// Those of reading the store.
pub fn owned(store: &Store) -> Result<Marked> {
    let (nothing, mut items) = (Marked::default(), Vec::new());
    let mut owned = steps(store, &nothing, &mut items)?;
    shared_mounts(store, &nothing, &mut owned, &mut items)?;
    Ok(owned)
}

fn item(kind: ItemKind, name: String, bytes: u64, used: &Path, paths: Vec<PathBuf>) -> Item {
    let used = std::fs::metadata(used).and_then(|found| found.modified());
    Item {
        kind,
        name,
        bytes,
        used: used.unwrap_or(SystemTime::UNIX_EPOCH),
        paths,
    }
}

/// The steps; a blob that several have belongs to the one that was used last. Gives the owned blobs.
fn steps(store: &Store, tagged: &Marked, items: &mut Vec<Item>) -> Result<Marked> {
    let cache = Cache::new(store);
    let mut found: Vec<(SystemTime, PathBuf, Entry)> = Vec::new();
    for path in files(&store.root().join("cache").join(STEPS))? {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let digest = format!("sha256:{name}").parse::<Digest>();
        let Ok(digest) = digest else {
            continue;
        };
        let Some(entry) = cache.read(&digest) else {
            // Damaged, or of another version of rbuild: nobody will find it.
            let (name, lock) = (format!("{STEPS} {name}"), path.with_extension("lock"));
            let bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
            let paths = vec![lock, path.clone()];
            items.push(item(ItemKind::Note, name, bytes, &path, paths));
            continue;
        };
        let used = std::fs::metadata(&path).and_then(|found| found.modified());
        found.push((used.unwrap_or(SystemTime::UNIX_EPOCH), path, entry));
    }
    found.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
    let mut owned = Marked::default();
    for (used, path, entry) in found {
        let (mut bytes, mut paths) = (0, vec![path.with_extension("lock"), path]);
        let mut sidecars = Vec::new();
        for blob in &entry.blobs {
            owned.diff_ids.insert(blob.diff_id.0);
            let digest = blob.descriptor.digest;
            if owned.blobs.insert(digest) && !tagged.blobs.contains(&digest) {
                bytes += store.blob_size(&digest)?.unwrap_or(0);
                paths.push(store.blob_path(&digest));
                let (blocks, origin) = (Sidecar::Blocks(digest), Sidecar::Origin(digest));
                sidecars.extend([blocks, origin]);
            }
            if !tagged.diff_ids.contains(&blob.diff_id.0) {
                sidecars.extend([Sidecar::Index(blob.diff_id), Sidecar::Kept(blob.diff_id)]);
            }
        }
        for sidecar in sidecars {
            let path = store.sidecar_path(sidecar);
            bytes += std::fs::metadata(&path).map_or(0, |found| found.len());
            paths.push(path);
        }
        let parts = entry.key.parts();
        let command = parts.get("command").or(parts.get("destination"));
        let instruction = parts.get("instruction").cloned().unwrap_or_default();
        let command = command.map_or("", |text| text.rsplit('\0').next().unwrap_or_default());
        items.push(Item {
            kind: ItemKind::Step,
            name: format!("{instruction} {command}").trim().to_owned(),
            bytes,
            used,
            paths,
        });
    }
    Ok(owned)
}

fn blobs(store: &Store, tagged: &Marked, owned: &Marked, items: &mut Vec<Item>) -> Result<()> {
    let mut paths = files(&store.root().join("blobs/sha256"))?;
    paths.extend(files(&store.root().join("blobs/sha512"))?);
    for path in paths {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let Some(digest) = Digest::from_hex(name) else {
            continue;
        };
        if tagged.blobs.contains(&digest) || owned.blobs.contains(&digest) {
            continue;
        }
        let bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
        let name = digest.to_string();
        items.push(item(ItemKind::Blob, name, bytes, &path.clone(), vec![path]));
    }
    Ok(())
}

/// Cache mounts that were exported to this store as a shared cache, with their layers.
fn shared_mounts(
    store: &Store,
    tagged: &Marked,
    owned: &mut Marked,
    items: &mut Vec<Item>,
) -> Result<()> {
    for path in files(&store.root().join("cache/shared-mounts"))? {
        let record = std::fs::read(&path).ok();
        let record = record.and_then(|text| serde_json::from_slice::<Record>(&text).ok());
        let (mut bytes, mut paths, mut name) = (0, vec![path.clone()], String::new());
        if let Some(Record::Mount { key, layers }) = record {
            name = name_of_mount(&key);
            for blob in layers {
                let digest = blob.descriptor.digest;
                if owned.blobs.insert(digest) && !tagged.blobs.contains(&digest) {
                    bytes += store.blob_size(&digest)?.unwrap_or(0);
                    paths.push(store.blob_path(&digest));
                }
            }
        }
        items.push(item(ItemKind::Mount, name, bytes, &path, paths));
    }
    Ok(())
}

/// A cache mount's id, and what else tells it from others.
fn name_of_mount(key: &Key) -> String {
    let (mut id, mut rest) = (String::new(), Vec::new());
    for (name, value) in key.parts() {
        match name.as_str() {
            "cache mount" => id.clone_from(value),
            "platform" => rest.push(value.clone()),
            _ => rest.push(format!("{name} {value}")),
        }
    }
    format!("{id} ({})", rest.join(", "))
}

fn mounts(store: &Store, items: &mut Vec<Item>) {
    let mut names: BTreeMap<PathBuf, String> = BTreeMap::new();
    for encoding in OwnerEncoding::ALL.map(OwnerEncoding::name) {
        let folder = store.root().join("cache/mounts").join(encoding);
        for found in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = found.path();
            let name = std::fs::read_to_string(path.join("id")).unwrap_or_default();
            names.insert(path, name);
        }
    }
    for (path, name) in names {
        let bytes = bytes_of(&path);
        items.push(item(
            ItemKind::Mount,
            name,
            bytes,
            &path.join("used"),
            vec![path],
        ));
    }
}

fn failed(store: &Store, items: &mut Vec<Item>) {
    let path = store.root().join(FAILED);
    if path.is_dir() {
        let (name, bytes) = ("the last RUN that failed".to_owned(), bytes_of(&path));
        items.push(item(
            ItemKind::Failed,
            name,
            bytes,
            &path,
            vec![path.clone()],
        ));
    }
}

fn spools(store: &Store, items: &mut Vec<Item>) {
    for path in files(&store.root().join("layers")).unwrap_or_default() {
        if path.extension().is_some_and(|extension| extension == "tar") {
            let bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            items.push(item(
                ItemKind::Spool,
                name,
                bytes,
                &path.clone(),
                vec![path],
            ));
        }
    }
}

/// Lists, selections and indexes. Each can be made again, at a price; so they are as old as their last use.
fn notes(store: &Store, tagged: &Marked, owned: &Marked, items: &mut Vec<Item>) -> Result<()> {
    let mut note = |path: PathBuf, name: String| {
        let bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
        items.push(item(ItemKind::Note, name, bytes, &path.clone(), vec![path]));
    };
    for folder in NOTES {
        for path in files(&store.root().join("cache").join(folder))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{folder} {name}");
            note(path, name);
        }
    }
    for path in files(&store.root().join("layers"))? {
        let digest = path.file_stem().and_then(|stem| stem.to_str());
        let digest = digest.and_then(Digest::from_hex);
        let kind = path.extension().and_then(|kind| kind.to_str());
        let (Some(digest), Some(kind)) = (digest, kind) else {
            continue;
        };
        let wanted = match kind {
            "index" | "kept" => {
                tagged.diff_ids.contains(&digest) || owned.diff_ids.contains(&digest)
            }
            "blocks" | "origin" => tagged.blobs.contains(&digest) || owned.blobs.contains(&digest),
            _ => true,
        };
        if !wanted {
            let name = format!("{kind} {digest}");
            note(path, name);
        }
    }
    Ok(())
}

/// The size of a laid out layer: as it was counted once, beside it.
fn size_of_root(path: &Path) -> u64 {
    let size = path.join("size");
    let known = std::fs::read_to_string(&size).ok();
    known
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_else(|| {
            let bytes = bytes_of(path);
            // It is counted again where it can't be kept.
            let _ = std::fs::write(size, bytes.to_string());
            bytes
        })
}

/// The files in a folder; none where there is no folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| trouble("list", folder, error))?,
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

pub(super) fn trouble(verb: &str, path: &Path, error: std::io::Error) -> Error {
    let message = format!("cannot {verb} `{}`", path.display());
    Error::new(ErrorKind::Store, message).with_source(error)
}
