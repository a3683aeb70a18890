//! Archives and layouts of images into the store, as `docker load` takes them.

use std::collections::BTreeMap;

use super::docker_archive;
use super::layout_source::LayoutSource;
use super::members::Members;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::base::{MAX_DOCUMENT_BYTES, manifest_of};
use crate::oci::ImageManifest;
use crate::oci::descriptor::{Descriptor, IMAGE_NAME, REF_NAME};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::Store;

/// An image that is in the store now, and the names that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// Its names, in order. Who loads gives them; nothing has them before all images are there.
    pub names: Vec<Reference>,
}

/// Brings all images into the store; of one with several platforms the one for `platform`, where that is given. Without
/// an error all of them are whole.
///
/// # Errors
/// [`ErrorKind::BaseImage`] for what is no archive of images, or lacks something.
pub fn load(store: &Store, members: &Members, platform: Option<&Platform>) -> Result<Vec<Loaded>> {
    let mut loaded = if members.has("index.json") {
        layout(store, members)?
    } else if !members.is_directory() && members.has("manifest.json") {
        archive(store, members)?
    } else {
        return Err(nothing(members));
    };
    if loaded.is_empty() {
        let message = format!("`{}` holds no image", members.name());
        return Err(Error::new(ErrorKind::BaseImage, message));
    }
    if platform.is_some() {
        for one in &mut loaded {
            one.descriptor = manifest_of(store, members.name(), &one.descriptor, platform)?;
        }
    }
    Ok(loaded)
}

/// The images of a layout, each once, in its order.
fn layout(store: &Store, members: &Members) -> Result<Vec<Loaded>> {
    let layout = LayoutSource::new(store, members)?;
    let mut loaded: Vec<Loaded> = Vec::new();
    for entry in layout.entries() {
        if !(entry.media_type.is_index() || entry.media_type.is_manifest()) {
            continue;
        }
        let at = match loaded
            .iter()
            .position(|one| one.descriptor.digest == entry.digest)
        {
            Some(at) => at,
            None => {
                layout.import_whole(store, entry)?;
                // Names belong to the entry of a layout, and not to the image.
                let mut descriptor = entry.clone();
                descriptor.annotations = None;
                loaded.push(Loaded {
                    descriptor,
                    names: Vec::new(),
                });
                loaded.len() - 1
            }
        };
        let names = &mut loaded[at].names;
        names.extend(name_of(entry).filter(|name| !names.contains(name)));
    }
    if !members.is_directory() && members.has("manifest.json") {
        add_names(store, members, &mut loaded)?;
    }
    Ok(loaded)
}

/// The name of an entry: the full one, or a tag that is more than a tag. skopeo and umoci write what they were told, and
/// a word alone names no repository.
fn name_of(entry: &Descriptor) -> Option<Reference> {
    let full = entry
        .annotation(IMAGE_NAME)
        .and_then(|name| name.parse().ok());
    full.or_else(|| {
        let name = entry.annotation(REF_NAME)?;
        let name = name.contains([':', '/']).then_some(name)?;
        name.parse().ok()
    })
}

/// Names that only the `manifest.json` of an archive with both has: found by the config.
fn add_names(store: &Store, members: &Members, loaded: &mut [Loaded]) -> Result<()> {
    if loaded.iter().all(|one| !one.names.is_empty()) {
        return Ok(());
    }
    let mut names: BTreeMap<Digest, Vec<Reference>> = BTreeMap::new();
    for item in docker_archive::items(store, members)? {
        let bytes = members.read(store, &item.config)?;
        names.insert(Digest::of(&bytes), references(item.repo_tags.as_deref()));
    }
    for one in loaded.iter_mut().filter(|one| one.names.is_empty()) {
        let manifest = manifest_of(store, members.name(), &one.descriptor, None)?;
        let bytes = store.read_document(&manifest, MAX_DOCUMENT_BYTES)?;
        let manifest = ImageManifest::from_bytes(members.name(), &bytes)?;
        one.names = names.remove(&manifest.config.digest).unwrap_or_default();
    }
    Ok(())
}

fn references(tags: Option<&[String]>) -> Vec<Reference> {
    let tags = tags.unwrap_or_default().iter();
    tags.filter_map(|tag| tag.parse().ok()).collect()
}

/// The images of an archive of Docker's.
fn archive(store: &Store, members: &Members) -> Result<Vec<Loaded>> {
    let items = docker_archive::items(store, members)?;
    let load = |item: &docker_archive::Item| {
        Ok(Loaded {
            descriptor: docker_archive::import(store, members, item)?,
            names: references(item.repo_tags.as_deref()),
        })
    };
    items.iter().map(load).collect()
}

/// Says what it seems to be instead.
fn nothing(members: &Members) -> Error {
    let name = members.name();
    let message = format!("`{name}` is no image: it has neither `index.json` nor `manifest.json`");
    let error = Error::new(ErrorKind::BaseImage, message);
    if members.has("repositories") {
        return error
            .with_note("it is an archive of Docker before 1.10")
            .with_help("save it again with a newer Docker, podman or skopeo");
    }
    let is_root = |name: &[u8]| {
        [&b"etc/"[..], b"usr/", b"bin/"]
            .iter()
            .any(|one| name.starts_with(one))
    };
    if members.names().any(is_root) {
        return error.with_help(format!(
            "it looks like a root file system: `rbuild commit {name} NAME` makes an image of it"
        ));
    }
    error.with_help(
        "name an archive of `docker save`, `podman save` or `rbuild save`, or an OCI image layout",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Interrupt;

    fn archive(members: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, &bytes[..]).unwrap();
        }
        tar.into_inner().unwrap()
    }

    /// An archive with both an index and a manifest of Docker's.
    fn both() -> Vec<u8> {
        let layer = archive(&[("file".to_owned(), b"x".to_vec())]);
        let id = Digest::of(&layer);
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{id}"]}}}}"#
        );
        let kind = "application/vnd.oci.image";
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{kind}.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"{kind}.layer.v1.tar","digest":"{id}","size":{}}}]}}"#,
            Digest::of(config.as_bytes()),
            config.len(),
            layer.len()
        );
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{kind}.manifest.v1+json","digest":"{}","size":{},"annotations":{{"{IMAGE_NAME}":"docker.io/library/app:1"}}}}]}}"#,
            Digest::of(manifest.as_bytes()),
            manifest.len()
        );
        let docker = format!(
            r#"[{{"Config":"{}","RepoTags":["app:1"],"Layers":["{}"]}}]"#,
            Digest::of(config.as_bytes()).path(),
            id.path()
        );
        let blob = |bytes: &[u8]| (Digest::of(bytes).path(), bytes.to_vec());
        archive(&[
            ("index.json".to_owned(), index.into_bytes()),
            ("manifest.json".to_owned(), docker.into_bytes()),
            blob(manifest.as_bytes()),
            blob(config.as_bytes()),
            blob(&layer),
        ])
    }

    fn load_bytes(bytes: &[u8]) -> Result<Vec<Loaded>> {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("store")).unwrap();
        let path = home.path().join("a.tar");
        std::fs::write(&path, bytes).unwrap();
        let interrupt = Interrupt::default();
        let load_from = |members: Result<Members>| load(&store, &members?, None);
        let one = load_from(Members::aside(&store, "-", bytes, &interrupt));
        let other_home = Store::open(&home.path().join("other")).unwrap();
        let other = Members::open(&other_home, &path, &interrupt)
            .and_then(|members| load(&other_home, &members, None));
        // A file and a pipe are the same archive.
        assert_eq!(one.as_ref().ok(), other.as_ref().ok());
        one
    }

    #[test]
    fn an_archive_that_is_damaged_anywhere_is_whole_or_an_error() {
        let whole = both();
        let loaded = load_bytes(&whole).unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].names, ["app:1".parse().unwrap()]);
        let mut state = 1_u64;
        for _ in 0..80 {
            // Numerical Recipes' generator: the same bytes in every run.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = usize::try_from(state >> 33).unwrap() % whole.len();
            let mut bytes = whole.clone();
            match state % 3 {
                0 => bytes[at] ^= 1 << (state >> 20 & 7),
                1 => bytes.truncate(at),
                _ => {
                    bytes.remove(at);
                }
            }
            if let Ok(found) = load_bytes(&bytes) {
                // What was hit was padding, a name, or something beside the image.
                assert!(
                    found
                        .iter()
                        .all(|one| one.descriptor.digest == loaded[0].descriptor.digest)
                );
            }
        }
    }
}
