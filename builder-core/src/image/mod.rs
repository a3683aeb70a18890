//! An image as a value: its config and its layers; and how it gets into the store.
//!
//! Follows the OCI image specification: manifest, config, layer order from the bottom.

pub mod accounts;
pub mod base;
mod docker_archive;
mod hiding;
pub mod import;
pub mod layout_source;
mod links;
pub mod load;
pub mod members;
pub mod replaced;
pub mod summary;
pub mod view;

use std::collections::BTreeMap;

use crate::digest::{DiffId, Digest};
use crate::error::Result;
use crate::oci::config::{History, ImageConfig};
use crate::oci::descriptor::{Descriptor, PlatformObject};
use crate::oci::manifest::ImageManifest;
use crate::oci::media_type::MediaType;
use crate::store::Store;

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The blob.
    pub descriptor: Descriptor,
    /// The digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// What stands for it in the cache keys of later steps: the diff ID that it had when it was made first. Another epoch
    /// gives another tar, but not another step.
    pub identity: DiffId,
    /// Whether this build wrote the blob itself a moment ago, so that nobody needs to verify it again.
    pub fresh: bool,
}

impl Layer {
    /// A layer that has just been made.
    pub fn made(descriptor: Descriptor, diff_id: DiffId) -> Self {
        Self {
            descriptor,
            diff_id,
            identity: diff_id,
            fresh: true,
        }
    }
}

/// A config, and layers from the bottom to the top.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The config, without `rootfs`, which follows from the layers.
    pub config: ImageConfig,
    /// The layers.
    pub layers: Vec<Layer>,
}

/// An image that is in the store.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The manifest.
    pub manifest: Descriptor,
    /// The config's blob.
    pub config: Descriptor,
    /// The layers as the manifest names them.
    pub layers: Vec<Layer>,
}

impl Committed {
    /// The digest of the manifest, which is what `-q` prints.
    pub fn digest(&self) -> Digest {
        self.manifest.digest
    }
}

impl Image {
    /// Writes config and manifest into the store; the layers are there already. Media types are OCI's, or Docker's, whose
    /// manifest has no annotations; those of base layers are renamed, and digests stay.
    ///
    /// # Errors
    /// Those of writing to the store.
    pub fn commit(
        mut self,
        store: &Store,
        annotations: BTreeMap<String, String>,
        docker_types: bool,
    ) -> Result<Committed> {
        pad_history(&mut self.config.history, self.layers.len());
        self.config.rootfs.diff_ids = self.layers.iter().map(|layer| layer.diff_id).collect();
        let config = blob(store, MediaType::Config, &self.config.to_bytes()?)?;
        for layer in &mut self.layers {
            layer.descriptor.media_type = layer.descriptor.media_type.to_oci();
        }
        let layers = self
            .layers
            .iter()
            .map(|layer| layer.descriptor.clone())
            .collect();
        let mut document = ImageManifest::new(config.clone(), layers);
        document.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
        let mut kind = MediaType::Manifest;
        if docker_types {
            document = document.into_docker();
            kind = kind.to_docker();
        }
        let mut manifest = blob(store, kind, &document.to_bytes()?)?;
        manifest.platform = Some(PlatformObject::from(&self.config.platform()));
        Ok(Committed {
            manifest,
            config: document.config,
            layers: self.layers,
        })
    }
}

fn blob(store: &Store, media_type: MediaType, bytes: &[u8]) -> Result<Descriptor> {
    let digest = store.put(bytes)?;
    Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
}

/// Makes the number of non-empty history entries equal to the number of layers: some bases come without a history,
/// or with one that tells of layers that were squashed.
fn pad_history(history: &mut Vec<History>, layers: usize) {
    let told = history.iter().filter(|entry| !entry.empty_layer).count();
    let missing = layers.saturating_sub(told);
    let padding = History {
        comment: "layer without history".to_owned(),
        ..History::default()
    };
    history.splice(0..0, std::iter::repeat_n(padding, missing));
    let mut surplus = told.saturating_sub(layers);
    for entry in history.iter_mut().filter(|entry| !entry.empty_layer) {
        if surplus == 0 {
            break;
        }
        entry.empty_layer = true;
        surplus -= 1;
    }
}
