//! The archive of `docker save`, as Docker before 25, podman, skopeo and kaniko write it: `manifest.json`, a config and
//! layers an image.
//!
//! Follows Docker's image specification 1.2, "Combined Image JSON + Filesystem Changeset Format". Layers and config keep
//! their bytes; the manifest, which such an archive doesn't have, is made.

use serde::Deserialize;

use crate::digest::DiffId;
use crate::error::{Error, ErrorKind, Result};
use crate::image::members::Members;
use crate::layer::decompress::{Packing, sniff};
use crate::layer::verify_layer;
use crate::oci::config::ImageConfig;
use crate::oci::descriptor::PlatformObject;
use crate::oci::{Descriptor, ImageManifest, MediaType};
use crate::store::Store;

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Item {
    /// The member that is its config.
    pub(super) config: String,
    /// Its names.
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    /// The members that are its layers, from the lowest up.
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Reads `manifest.json`.
pub(super) fn items(store: &Store, members: &Members) -> Result<Vec<Item>> {
    let bytes = members.read(store, "manifest.json")?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let message = format!("`manifest.json` of `{}` is not valid", members.name());
        broken(message).with_source(error)
    })
}

fn broken(message: String) -> Error {
    Error::new(ErrorKind::BaseImage, message).with_help("the archive is damaged; make it again")
}

/// Brings an image into the store, its layers held against the diff IDs of its config; gives its manifest.
pub(super) fn import(store: &Store, members: &Members, item: &Item) -> Result<Descriptor> {
    let name = members.name();
    let bytes = members.read(store, &item.config)?;
    let config = ImageConfig::from_bytes(&format!("`{}` of `{name}`", item.config), &bytes)?;
    let layers = item.layers.as_deref().unwrap_or_default();
    let ids = &config.rootfs.diff_ids;
    if layers.len() != ids.len() {
        return Err(broken(format!(
            "an image of `{name}` has {} layers, but {} diff IDs in its config",
            layers.len(),
            ids.len()
        )));
    }
    let mut descriptors = Vec::with_capacity(layers.len());
    for (layer, id) in layers.iter().zip(ids) {
        descriptors.push(self::layer(store, members, layer, id)?);
    }
    let digest = store.put(&bytes)?;
    let config_blob = Descriptor::new(MediaType::Config, digest, bytes.len() as u64);
    let manifest = ImageManifest::new(config_blob, descriptors).to_bytes()?;
    let digest = store.put(&manifest)?;
    let mut descriptor = Descriptor::new(MediaType::Manifest, digest, manifest.len() as u64);
    descriptor.platform = Some(PlatformObject::from(&config.platform()));
    Ok(descriptor)
}

/// A layer as a blob. Plain, its digest is the diff ID; compressed, it is read to its end.
fn layer(store: &Store, members: &Members, name: &str, id: &DiffId) -> Result<Descriptor> {
    let (digest, size) = members.take(store, name)?;
    let mut start = [0; 6];
    let path = store.blob_path(&digest);
    let file = std::fs::File::open(&path).map_err(crate::store::Error::io("open", &path))?;
    let taken = rustix::io::pread(&file, &mut start, 0);
    let taken = taken.map_err(|error| crate::store::Error::io("read", &path)(error.into()))?;
    let media_type = match sniff(&start[..taken]) {
        Packing::Plain => MediaType::LayerTar,
        Packing::Gzip => MediaType::LayerGzip,
        Packing::Zstd => MediaType::LayerZstd,
        Packing::Bzip2 | Packing::Xz => {
            let message = format!(
                "layer `{name}` of `{}` is compressed as no image's is",
                members.name()
            );
            return Err(Error::new(ErrorKind::BaseImage, message)
                .with_help("layers are plain, or compressed by gzip or zstd"));
        }
    };
    let plain = media_type == MediaType::LayerTar;
    let descriptor = Descriptor::new(media_type, digest, size);
    let is_whole = if plain {
        digest == id.0
    } else {
        verify_layer(store, &descriptor, id).is_ok()
    };
    if !is_whole {
        return Err(broken(format!(
            "layer `{name}` of `{}` is not the one that the image's config names",
            members.name()
        )));
    }
    Ok(descriptor)
}
