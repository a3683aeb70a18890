//! What is written of images: their entries in an index, their documents, their blobs.
//!
//! An index goes as it is, with those of its images that the store holds.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::digest::Digest;
use crate::error::Result;
use crate::image::base::{MAX_DOCUMENT_BYTES, manifest_of};
use crate::oci::descriptor::{Descriptor, IMAGE_NAME, REF_NAME};
use crate::oci::index::ImageIndex;
use crate::oci::json;
use crate::oci::manifest::ImageManifest;
use crate::output::Bundle;
use crate::reference::Reference;
use crate::store::Store;
use crate::timestamp::Timestamp;

/// An index in an index in an index ends here.
const MAX_DEPTH: u32 = 8;

/// A name in a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A full reference, and its tag.
    Full(Reference),
    /// A word as skopeo and umoci write it: a tag, or a name as it was typed.
    Word(String),
}

impl Name {
    /// The full reference, of a word that is more than a tag.
    fn reference(&self) -> Option<Reference> {
        match self {
            Self::Full(reference) => Some(reference.clone()),
            Self::Word(word) if word.contains(['/', ':']) => word.parse().ok(),
            Self::Word(_) => None,
        }
    }

    fn word(&self) -> &str {
        match self {
            Self::Full(reference) => reference.tag().unwrap_or("latest"),
            Self::Word(word) => word,
        }
    }
}

/// An image that goes out of the store.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// The names that it has there; none is one entry without a name.
    pub names: Vec<Name>,
}

/// One item of `manifest.json` (Docker image specification, "Combined Image JSON + Filesystem Changeset Format").
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerItem {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// All that an output holds.
#[derive(Debug)]
pub(crate) struct Contents {
    entries: Vec<Descriptor>,
    items: Vec<DockerItem>,
    /// Manifests and indexes.
    pub(crate) documents: Vec<Descriptor>,
    /// Configs and layers, and whether this build wrote them itself a moment ago.
    pub(crate) blobs: Vec<(Descriptor, bool)>,
    /// The time of members.
    pub(crate) time: Timestamp,
}

impl Contents {
    /// What a build has made.
    pub(crate) fn of_bundle(bundle: &Bundle<'_>) -> Self {
        let image = bundle.image;
        let names: Vec<Name> = bundle.references.iter().cloned().map(Name::Full).collect();
        let layers = image.layers.iter().map(|layer| &layer.descriptor);
        let config = std::iter::once((image.config.clone(), true));
        let fresh = image.layers.iter();
        let fresh = fresh.map(|layer| (layer.descriptor.clone(), layer.fresh));
        Self {
            entries: entries(&image.manifest, &names),
            items: vec![item(&image.config, layers, &names)],
            documents: vec![image.manifest.clone()],
            blobs: config.chain(fresh).collect(),
            time: bundle.time,
        }
    }

    /// What the store has of images. Their layers may be missing there.
    pub(crate) fn of_images(store: &Store, images: &[Outgoing], time: Timestamp) -> Result<Self> {
        let mut contents = Self {
            entries: Vec::new(),
            items: Vec::new(),
            documents: Vec::new(),
            blobs: Vec::new(),
            time,
        };
        let mut seen = BTreeSet::new();
        for image in images {
            let top = &image.descriptor;
            contents.entries.extend(entries(top, &image.names));
            contents.add(store, top, &mut seen, MAX_DEPTH)?;
            let name = top.digest.to_string();
            let one = manifest_of(store, &name, top, None)?;
            let manifest = document(store, &one)?;
            let layers = manifest.layers.iter();
            contents
                .items
                .push(item(&manifest.config, layers, &image.names));
        }
        Ok(contents)
    }

    fn add(
        &mut self,
        store: &Store,
        top: &Descriptor,
        seen: &mut BTreeSet<Digest>,
        depth: u32,
    ) -> Result<()> {
        if !seen.insert(top.digest) || depth == 0 {
            return Ok(());
        }
        self.documents.push(top.clone());
        if top.media_type.is_index() {
            let bytes = store.read_document(top, MAX_DOCUMENT_BYTES)?;
            let index = ImageIndex::from_bytes(&top.digest.to_string(), &bytes)?;
            for one in &index.manifests {
                if store.contains(&one.digest)? {
                    self.add(store, one, seen, depth - 1)?;
                }
            }
            return Ok(());
        }
        let manifest = document(store, top)?;
        let blobs = std::iter::once(manifest.config).chain(manifest.layers);
        self.blobs.extend(
            blobs
                .filter(|blob| seen.insert(blob.digest))
                .map(|blob| (blob, false)),
        );
        Ok(())
    }

    /// The `index.json` of a layout.
    pub(crate) fn index(&self) -> Result<Vec<u8>> {
        Ok(ImageIndex::new(self.entries.clone()).to_bytes()?)
    }

    /// The `manifest.json` of `docker load`.
    pub(crate) fn docker_manifest(&self) -> Result<Vec<u8>> {
        Ok(json::to_bytes("manifest.json", &self.items)?)
    }

    /// Bytes of all blobs.
    pub(crate) fn bytes(&self) -> u64 {
        let documents = self.documents.iter().map(|one| one.size);
        let blobs = self.blobs.iter().map(|(one, _)| one.size);
        documents.chain(blobs).fold(0, u64::saturating_add)
    }

    /// The digest of what decides the bytes.
    pub(crate) fn digest(&self, kind: &str) -> Result<Digest> {
        let version = env!("CARGO_PKG_VERSION");
        let mut text = format!("{version} {kind} {}\n", self.time).into_bytes();
        text.extend(self.index()?);
        text.extend(self.docker_manifest()?);
        Ok(Digest::of(&text))
    }
}

/// The configs and layers that an image of the store needs; of an index those of the images that the store holds.
///
/// # Errors
/// Those of reading its documents.
pub fn blobs_of(store: &Store, image: &Descriptor) -> Result<Vec<Descriptor>> {
    let outgoing = Outgoing {
        descriptor: image.clone(),
        names: Vec::new(),
    };
    let contents = Contents::of_images(store, &[outgoing], Timestamp::default())?;
    Ok(contents.blobs.into_iter().map(|(blob, _)| blob).collect())
}

fn document(store: &Store, manifest: &Descriptor) -> Result<ImageManifest> {
    let bytes = store.read_document(manifest, MAX_DOCUMENT_BYTES)?;
    let name = manifest.digest.to_string();
    Ok(ImageManifest::from_bytes(&name, &bytes)?)
}

/// One entry a name, or one without.
fn entries(manifest: &Descriptor, names: &[Name]) -> Vec<Descriptor> {
    let mut bare = manifest.clone();
    // The names that the store gives are not those that it leaves under.
    if let Some(annotations) = &mut bare.annotations {
        annotations.retain(|key, _| key != IMAGE_NAME && key != REF_NAME);
    }
    bare.annotations = bare
        .annotations
        .filter(|annotations| !annotations.is_empty());
    let entry = |name: &Name| {
        let named = name.reference().iter().fold(bare.clone(), |entry, full| {
            entry.with_annotation(IMAGE_NAME, &full.to_string())
        });
        named.with_annotation(REF_NAME, name.word())
    };
    if names.is_empty() {
        return vec![bare];
    }
    names.iter().map(entry).collect()
}

fn item<'d>(
    config: &Descriptor,
    layers: impl Iterator<Item = &'d Descriptor>,
    names: &[Name],
) -> DockerItem {
    let tags = names.iter().filter_map(Name::reference);
    let tags = tags.filter(|reference| reference.digest().is_none());
    DockerItem {
        config: config.digest.path(),
        repo_tags: tags.map(|reference| reference.familiar()).collect(),
        layers: layers.map(|layer| layer.digest.path()).collect(),
    }
}
