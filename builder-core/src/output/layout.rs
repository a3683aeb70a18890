//! An image as a directory: an OCI image layout (`type=oci-dir`).
//!
//! Blobs are linked from the store where both are on one file system, and copied otherwise. A layout that is there
//! already is added to; its `index.json` is replaced in one step, after the blobs.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use crate::error::Result;
use crate::oci::descriptor::{Descriptor, IMAGE_NAME, REF_NAME};
use crate::oci::index::ImageIndex;
use crate::output::contents::Contents;
use crate::output::whole_file::WholeFile;
use crate::output::{Problem, archive};
use crate::store::Store;

/// Writes the layout and returns the bytes of its blobs.
pub(crate) fn write(
    store: &Store,
    contents: &Contents,
    directory: &Path,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<u64> {
    let documents = contents.documents.iter().map(|blob| (blob, true));
    let blobs = contents.blobs.iter().map(|(blob, fresh)| (blob, *fresh));
    let mut bytes = 0;
    for (blob, fresh) in documents.chain(blobs) {
        put(store, blob, fresh, directory)?;
        bytes += blob.size;
        progress(bytes)?;
    }
    replace(&directory.join("oci-layout"), archive::LAYOUT)?;
    let index = merged_index(contents, directory)?;
    replace(&directory.join("index.json"), &index)?;
    Ok(bytes)
}

fn put(store: &Store, blob: &Descriptor, fresh: bool, directory: &Path) -> Result<()> {
    let path = directory.join(blob.digest.path());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Problem::at("create", folder))?;
    }
    if path.metadata().is_ok_and(|found| found.len() == blob.size) {
        return Ok(());
    }
    let mut whole = WholeFile::create(&path).map_err(Problem::at("create", &path))?;
    super::copy_blob(store, blob, fresh, whole.file())?;
    Ok(whole.persist().map_err(Problem::at("write", &path))?)
}

/// The entries of this image, and those of the layout's own index that have other names.
fn merged_index(contents: &Contents, directory: &Path) -> Result<Vec<u8>> {
    let fresh = contents.index()?;
    let path = directory.join("index.json");
    let Ok(bytes) = std::fs::read(&path) else {
        return Ok(fresh);
    };
    let mut fresh = ImageIndex::from_bytes("index.json", &fresh)?;
    let known = ImageIndex::from_bytes(&path.display().to_string(), &bytes)?;
    let replaced = |old: &Descriptor| {
        fresh.manifests.iter().any(|new| {
            let name = |one: &Descriptor| {
                let full = one.annotation(IMAGE_NAME);
                full.or_else(|| one.annotation(REF_NAME)).map(str::to_owned)
            };
            name(new) == name(old) && (name(new).is_some() || new.digest == old.digest)
        })
    };
    let kept: Vec<Descriptor> = known
        .manifests
        .into_iter()
        .filter(|old| !replaced(old))
        .collect();
    fresh.manifests.splice(0..0, kept);
    Ok(fresh.to_bytes()?)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut whole = WholeFile::create(path).map_err(Problem::at("create", path))?;
    let file: &mut File = whole.file();
    file.write_all(bytes).map_err(Problem::at("write", path))?;
    Ok(whole.persist().map_err(Problem::at("write", path))?)
}
