//! A base image from the store: manifest, config and layers, checked against each other.

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Image, Layer};
use crate::oci::choose::Fetch;
use crate::oci::config::ImageConfig;
use crate::oci::descriptor::Descriptor;
use crate::oci::index::ImageIndex;
use crate::oci::manifest::ImageManifest;
use crate::platform::Platform;
use crate::store::Store;

/// Manifests, indexes and configs are small; a larger one is refused before it is read.
pub const MAX_DOCUMENT_BYTES: u64 = 16 << 20;

/// An image that a stage starts from or copies from.
#[derive(Clone, Debug)]
pub struct Base {
    /// The digest of its manifest, for one platform.
    pub digest: Digest,
    /// Config and layers.
    pub image: Image,
}

/// Reads the image that `descriptor` names in the store; of an index the manifest for `platform`. `name` is what
/// messages call it.
///
/// # Errors
/// [`ErrorKind::BaseImage`] where no manifest fits the platform, or where the documents contradict each other.
pub fn load(
    store: &Store,
    name: &str,
    descriptor: &Descriptor,
    platform: &Platform,
) -> Result<Base> {
    let manifest_descriptor = choose(store, name, descriptor, platform)?;
    let bytes = store.read_document(&manifest_descriptor, MAX_DOCUMENT_BYTES)?;
    let manifest = ImageManifest::from_bytes(name, &bytes)?;
    let bytes = store.read_document(&manifest.config, MAX_DOCUMENT_BYTES)?;
    let config = ImageConfig::from_bytes(name, &bytes)?;
    let ids = &config.rootfs.diff_ids;
    if ids.len() != manifest.layers.len() {
        let message = format!(
            "image `{name}` is broken: {} layers, but {} diff IDs in its config",
            manifest.layers.len(),
            ids.len()
        );
        return Err(Error::new(ErrorKind::BaseImage, message).with_help("build or pull it again"));
    }
    let layers = manifest.layers.into_iter().zip(ids);
    let layers = layers
        .map(|(descriptor, diff_id)| Layer {
            descriptor,
            diff_id: *diff_id,
            identity: *diff_id,
            fresh: false,
        })
        .collect();
    Ok(Base {
        digest: manifest_descriptor.digest,
        image: Image { config, layers },
    })
}

/// Goes from an index, or an index of indexes, to the manifest for a platform.
fn choose(
    store: &Store,
    name: &str,
    descriptor: &Descriptor,
    platform: &Platform,
) -> Result<Descriptor> {
    if !descriptor.media_type.is_index() {
        return Ok(descriptor.clone());
    }
    let bytes = store.read_document(descriptor, MAX_DOCUMENT_BYTES)?;
    let index = ImageIndex::from_bytes(name, &bytes)?;
    choose_manifest(&index, name, platform, &mut |document| {
        // What was not pulled for this platform isn't here, and is none of its candidates.
        if store.contains(&document.digest)? {
            return Ok(Some(store.read_document(document, MAX_DOCUMENT_BYTES)?));
        }
        Ok(None)
    })
}

/// The manifest below an index for a platform; `fetch` gives the documents that the index names.
///
/// # Errors
/// [`ErrorKind::BaseImage`], naming the platforms that there are, and those of `fetch`.
pub fn choose_manifest(
    index: &ImageIndex,
    name: &str,
    platform: &Platform,
    fetch: &mut Fetch<'_, Error>,
) -> Result<Descriptor> {
    crate::oci::choose::choose(index, platform, fetch)?.ok_or_else(|| {
        let offered: Vec<String> = index.platforms().iter().map(Platform::to_string).collect();
        let error = Error::new(
            ErrorKind::BaseImage,
            format!("image `{name}` has no manifest for {platform}"),
        );
        if offered.is_empty() {
            return error.with_note("it names no platform at all");
        }
        error
            .with_note(format!("it has {}", offered.join(", ")))
            .with_help("choose one of them with `--platform`")
    })
}

/// The manifest of one platform: `descriptor` itself, or of an index the one for `wanted`. Without a wish it is this
/// machine's, or else the first whose manifest is in the store.
///
/// # Errors
/// [`ErrorKind::BaseImage`] where no manifest fits; those of reading the store.
pub fn manifest_of(
    store: &Store,
    name: &str,
    descriptor: &Descriptor,
    wanted: Option<&Platform>,
) -> Result<Descriptor> {
    if !descriptor.media_type.is_index() {
        return Ok(descriptor.clone());
    }
    let bytes = store.read_document(descriptor, MAX_DOCUMENT_BYTES)?;
    let index = ImageIndex::from_bytes(name, &bytes)?;
    let host = Platform::host();
    let chosen = choose_manifest(&index, name, wanted.unwrap_or(&host), &mut |document| {
        if store.contains(&document.digest)? {
            return Ok(Some(store.read_document(document, MAX_DOCUMENT_BYTES)?));
        }
        Ok(None)
    });
    if wanted.is_some() {
        return chosen;
    }
    if let Ok(chosen) = &chosen
        && store.contains(&chosen.digest)?
    {
        return Ok(chosen.clone());
    }
    for one in &index.manifests {
        if one.media_type.is_manifest() && store.contains(&one.digest)? {
            return Ok(one.clone());
        }
    }
    chosen
}
