//! A check of the whole store: everything in it is read, and what is not as it was written is told, or taken away.
//!
//! All that is taken away can be made or fetched again, but for a name whose image is gone.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::{Cache, STEPS};
use crate::confined::ConfinedDir;
use crate::digest::{DiffId, Digest};
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Interrupt;
use crate::layer::{LayerIndex, Mark, read_through};
use crate::oci::{Descriptor, ImageIndex, ImageManifest};
use crate::owners::SideTable;
use crate::store::{Root, Sidecar, Store};

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file or the folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, in the order of the check; with a repair it is gone.
    pub problems: Vec<Problem>,
    /// How many files and laid out layers were read.
    pub checked: u64,
}

/// Documents larger than this are none: 16 MiB.
const DOCUMENT_LIMIT: u64 = 16 << 20;

/// Reads everything in a store. With `repair`, what is wrong is taken away; nobody else may use the store meanwhile.
///
/// # Errors
/// [`ErrorKind::Store`] where the store can't be read, or is in use and is to be repaired.
pub fn check(store: &Store, repair: bool, interrupt: &Interrupt) -> Result<Report> {
    let _lock = if repair {
        store.lock_alone(false)?
    } else {
        store.lock_for_use()?
    };
    let mut check = Check {
        store: if repair {
            store.clone()
        } else {
            store.for_looking()
        },
        repair,
        interrupt,
        report: Report::default(),
    };
    check.blobs()?;
    check.names()?;
    check.sidecars()?;
    check.steps()?;
    check.roots()?;
    Ok(check.report)
}

struct Check<'a> {
    store: Store,
    repair: bool,
    interrupt: &'a Interrupt,
    report: Report,
}

impl Check<'_> {
    fn found(&mut self, path: &Path, what: impl Into<String>) {
        self.report.problems.push(Problem {
            path: path.to_owned(),
            what: what.into(),
        });
    }

    /// Tells of a file, and takes it away where that is asked for.
    fn broken(&mut self, path: &Path, what: impl Into<String>) -> Result<()> {
        self.found(path, what);
        if self.repair {
            std::fs::remove_file(path).map_err(|error| trouble("delete", path, error))?;
        }
        Ok(())
    }

    /// Tells of what the rooms that read it gave up.
    fn given_up(&mut self, what: &str) {
        for path in self.store.take_damage() {
            self.found(&path, what);
        }
    }

    /// Every blob, against the digest that it is named after.
    fn blobs(&mut self) -> Result<()> {
        for folder in ["blobs/sha256", "blobs/sha512"] {
            for path in files(&self.store.root().join(folder))? {
                self.interrupt.check()?;
                self.report.checked += 1;
                let name = path.file_name().and_then(|name| name.to_str());
                let Some(digest) = name.and_then(Digest::from_hex) else {
                    self.broken(&path, "its name is no digest")?;
                    continue;
                };
                let size = std::fs::metadata(&path).map_or(0, |found| found.len());
                if !self.is_whole(&digest, size)? {
                    self.broken(&path, "its bytes are not those of its digest")?;
                }
            }
        }
        Ok(())
    }

    fn is_whole(&self, digest: &Digest, size: u64) -> Result<bool> {
        let media_type = crate::oci::MediaType::Manifest;
        let blob = Descriptor::new(media_type, *digest, size);
        let mut reader = self.store.open_blob(&blob)?;
        let mut buffer = vec![0; 128 * 1024];
        loop {
            self.interrupt.check()?;
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(reader.verify_rest().is_ok()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(false),
            }
        }
    }

    /// `index.json`, and what its names lead to. Layers may be elsewhere.
    fn names(&mut self) -> Result<()> {
        self.report.checked += 1;
        let tags = self.store.tags()?;
        self.given_up("it is no image index");
        let index = self.store.root().join("index.json");
        for (name, descriptor) in tags {
            if let Some(what) = self.document(&descriptor)? {
                self.found(&index, format!("the name `{name}` leads to {what}"));
                if self.repair {
                    self.store.untag(&name)?;
                }
            }
        }
        Ok(())
    }

    /// What is wrong with the document that a name leads to, or one that it names.
    fn document(&self, descriptor: &Descriptor) -> Result<Option<String>> {
        // Each document is read once, so a circle ends.
        let (mut seen, mut open) = (BTreeSet::new(), vec![descriptor.clone()]);
        while let Some(descriptor) = open.pop() {
            if !seen.insert(descriptor.digest) {
                continue;
            }
            let top = seen.len() == 1;
            if !self.store.contains(&descriptor.digest)? {
                // An index names images for other platforms, which are fetched when they are asked for.
                if top {
                    return Ok(Some(format!("`{}`, which is not there", descriptor.digest)));
                }
                continue;
            }
            let bytes = self.store.read_document(&descriptor, DOCUMENT_LIMIT);
            let bytes = bytes.unwrap_or_default();
            let name = descriptor.digest.to_string();
            if descriptor.media_type.is_index() {
                match ImageIndex::from_bytes(&name, &bytes) {
                    Ok(index) => open.extend(index.manifests),
                    Err(_) => return Ok(Some(format!("`{name}`, which is no image index"))),
                }
            } else if ImageManifest::from_bytes(&name, &bytes).is_err() {
                return Ok(Some(format!("`{name}`, which is no manifest")));
            }
        }
        Ok(None)
    }

    /// What is kept about layers.
    fn sidecars(&mut self) -> Result<()> {
        for path in files(&self.store.root().join("layers"))? {
            self.interrupt.check()?;
            self.report.checked += 1;
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let digest = stem.and_then(Digest::from_hex);
            let kind = path.extension().and_then(|kind| kind.to_str());
            let which = digest.zip(kind).and_then(|(digest, kind)| {
                Some(match kind {
                    "index" => Sidecar::Index(DiffId(digest)),
                    "kept" => Sidecar::Kept(DiffId(digest)),
                    "blocks" => Sidecar::Blocks(digest),
                    "tar" => Sidecar::Spool(DiffId(digest)),
                    "origin" => Sidecar::Origin(digest),
                    _ => return None,
                })
            });
            match which {
                Some(which) => read_through(&self.store, which)?,
                None => self.broken(&path, "its name says nothing of a layer")?,
            }
            self.given_up("it is not as it was written");
        }
        Ok(())
    }

    /// The results of steps.
    fn steps(&mut self) -> Result<()> {
        let cache = Cache::new(&self.store);
        for path in files(&self.store.root().join("cache").join(STEPS))? {
            self.interrupt.check()?;
            if path.extension().is_some_and(|kind| kind == "lock") {
                continue;
            }
            self.report.checked += 1;
            let name = path.file_name().and_then(|name| name.to_str());
            let key = name.and_then(Digest::from_hex);
            if key.and_then(|key| cache.read(&key)).is_none() {
                self.broken(&path, "it is no record of a step")?;
            }
        }
        Ok(())
    }

    /// The laid out layers, against what their layers hold.
    fn roots(&mut self) -> Result<()> {
        for root in self.store.roots()? {
            self.interrupt.check()?;
            self.report.checked += 1;
            if let Some(what) = self.root(&root)? {
                self.found(&root.path, what);
                if self.repair {
                    self.store.discard(&root.path)?;
                }
            }
        }
        Ok(())
    }

    fn root(&self, root: &Root) -> Result<Option<String>> {
        let Some(layer) = root.diff_id else {
            return Ok(Some("nothing says of which layers it was made".to_owned()));
        };
        let owners = std::fs::read_to_string(root.path.join("owners"));
        if owners.is_ok_and(|owners| SideTable::parse(&owners).is_err()) {
            return Ok(Some("its table of owners is damaged".to_owned()));
        }
        let Ok(tree) = ConfinedDir::open(&root.path.join("tree")) else {
            return Ok(Some("its files are not there".to_owned()));
        };
        let Some(index) = LayerIndex::open(&self.store, &DiffId(layer))? else {
            return Ok(None);
        };
        // What several layers together hold is for no index to say.
        if root.is_merged() {
            return Ok(None);
        }
        for record in &index {
            self.interrupt.check()?;
            let record = record?;
            if record.mark != Mark::Present || record.entry.path.is_root() {
                continue;
            }
            if let Some(what) = differs(&tree, &record.entry)? {
                return Ok(Some(format!("`{}` {what}", record.entry.path.shortened())));
            }
        }
        Ok(None)
    }
}

/// In what a file differs from its entry; devices may be plain files, and the owner's rights are not looked at.
fn differs(tree: &ConfinedDir, entry: &Entry) -> Result<Option<&'static str>> {
    use rustix::fs::FileType;
    let path = tree.host_path(&entry.path);
    let stat = match tree.stat(&entry.path) {
        Ok(Some(stat)) => stat,
        Ok(None) => return Ok(Some("is not there")),
        // It lies in a directory that only its owner may enter.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(trouble("read", &path, error)),
    };
    let found = FileType::from_raw_mode(stat.st_mode);
    let wanted = match entry.kind {
        EntryKind::File { size } if found == FileType::RegularFile => {
            let same = stat.st_size.unsigned_abs() == size;
            return Ok((!same).then_some("has another length"));
        }
        EntryKind::File { .. } => FileType::RegularFile,
        EntryKind::Directory => FileType::Directory,
        EntryKind::Symlink { .. } => FileType::Symlink,
        EntryKind::Fifo => FileType::Fifo,
        _ => return Ok(None),
    };
    Ok((found != wanted).then_some("is of another kind"))
}

/// The files in a folder, in the order of their names; none where it isn't there.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(trouble("list", folder, error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| trouble("list", folder, error))?;
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn trouble(verb: &str, path: &Path, error: io::Error) -> Error {
    let message = format!("cannot {verb} `{}`", path.display());
    Error::new(ErrorKind::Store, message).with_source(error)
}
