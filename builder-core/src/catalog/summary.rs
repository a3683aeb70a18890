//! A line an image: what a list shows, read from as little as tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use serde::Deserialize;

use crate::digest::Digest;
use crate::error::Result;
use crate::image::base::{MAX_DOCUMENT_BYTES, manifest_of};
use crate::oci::{Descriptor, ImageIndex, ImageManifest, MediaType};
use crate::store::{Marked, Store};
use crate::timestamp::Timestamp;

/// What a list tells of an image.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The name as the store has it; none for an image without one.
    pub name: Option<String>,
    /// What the name means.
    pub descriptor: Descriptor,
    /// When the image was made; none where it doesn't say so, or can't be read.
    pub created: Option<Timestamp>,
    /// Bytes of its config and layers, as they are stored and sent; none where the manifest can't be read.
    pub size: Option<u64>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// An image that no name reaches.
#[derive(Clone, Debug)]
pub struct Unnamed {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// The digest of its config, where it is a manifest.
    pub config: Option<Digest>,
}

/// The little that a list needs of a manifest: an image that isn't sound is listed all the same.
#[derive(Deserialize)]
struct Manifest {
    config: Blob,
    #[serde(default)]
    layers: Option<Vec<Blob>>,
}

#[derive(Deserialize)]
struct Blob {
    digest: Digest,
    size: u64,
}

#[derive(Deserialize)]
struct Config<'c> {
    #[serde(default, borrow)]
    created: Option<std::borrow::Cow<'c, str>>,
    #[serde(default)]
    config: Option<Run>,
}

#[derive(Deserialize)]
struct Run {
    #[serde(default, rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

/// What a look at an image tells.
#[derive(Clone, Debug, Default)]
struct Looked {
    created: Option<Timestamp>,
    size: Option<u64>,
    labels: BTreeMap<String, String>,
    /// Config and layers.
    blobs: Vec<Digest>,
}

/// The named images, and with `all` those without a name, in the order of the store's names. So many threads look at
/// them.
///
/// # Errors
/// Those of reading the store's names. An image that is damaged is listed with what is known of it.
pub fn list(store: &Store, all: bool, threads: usize) -> Result<Vec<Summary>> {
    let tags = store.tags()?;
    // Several names of one image are one look at it.
    let named: BTreeMap<Digest, &Descriptor> =
        tags.iter().map(|(_, one)| (one.digest, one)).collect();
    let looked = look_at(store, &named.into_values().collect::<Vec<_>>(), threads);
    let mut summaries: Vec<Summary> = Vec::with_capacity(tags.len());
    let mut reached = Marked::default();
    for (name, descriptor) in tags {
        if all && descriptor.media_type.is_index() {
            store.reach(&descriptor, &mut reached);
        }
        let known = looked.get(&descriptor.digest).cloned().unwrap_or_default();
        reached.blobs.insert(descriptor.digest);
        reached.blobs.extend(&known.blobs);
        summaries.push(summary(Some(name), descriptor, known));
    }
    if all {
        for one in beside(store, &reached)? {
            let known = look(store, &one.descriptor);
            summaries.push(summary(None, one.descriptor, known));
        }
    }
    Ok(summaries)
}

fn summary(name: Option<String>, descriptor: Descriptor, looked: Looked) -> Summary {
    Summary {
        name,
        descriptor,
        created: looked.created,
        size: looked.size,
        labels: looked.labels,
    }
}

/// Looks at images, several at once: a list is shown when the last of them was read.
fn look_at(store: &Store, images: &[&Descriptor], threads: usize) -> BTreeMap<Digest, Looked> {
    let part = images.len().div_ceil(threads.max(1)).max(1);
    let look_at = |part: &[&Descriptor]| {
        let looked = part.iter().map(|one| (one.digest, look(store, one)));
        looked.collect::<Vec<_>>()
    };
    let mut parts = images.chunks(part);
    let own = parts.next().unwrap_or_default();
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        let mut found = BTreeMap::new();
        for part in parts {
            match std::thread::Builder::new().spawn_scoped(scope, move || look_at(part)) {
                Ok(thread) => running.push(thread),
                // Where no more threads can be started, this one does it.
                Err(_) => found.extend(look_at(part)),
            }
        }
        found.extend(look_at(own));
        for thread in running {
            let looked = thread.join();
            found.extend(looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        found
    })
}

fn look(store: &Store, descriptor: &Descriptor) -> Looked {
    let mut looked = Looked::default();
    let Ok(manifest) = manifest_of(store, "an image", descriptor, None) else {
        return looked;
    };
    let bytes = store.read_document(&manifest, MAX_DOCUMENT_BYTES);
    let Some(manifest) = bytes
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok())
    else {
        return looked;
    };
    let layers = manifest.layers.unwrap_or_default();
    let sizes = layers.iter().map(|layer| layer.size);
    looked.size = Some(sizes.fold(manifest.config.size, u64::saturating_add));
    looked.blobs = layers.iter().map(|layer| layer.digest).collect();
    looked.blobs.push(manifest.config.digest);
    let config = Descriptor::new(
        MediaType::Config,
        manifest.config.digest,
        manifest.config.size,
    );
    let bytes = store.read_document(&config, MAX_DOCUMENT_BYTES);
    let bytes = bytes.unwrap_or_default();
    if let Ok(config) = serde_json::from_slice::<Config<'_>>(&bytes) {
        looked.created = config.created.as_deref().and_then(Timestamp::parse_rfc3339);
        let labels = config.config.and_then(|config| config.labels);
        looked.labels = labels.unwrap_or_default();
    }
    looked
}

/// No manifest is larger, by far: a blob that is may be a layer of text, and isn't read to find that out.
const MANIFEST_LIMIT: u64 = 4 << 20;

/// The images of the store that no name reaches, in the order of their digests. What an index without a name holds is
/// part of it, and not listed itself.
///
/// # Errors
/// Those of reading the store.
pub fn unnamed(store: &Store) -> Result<Vec<Unnamed>> {
    beside(store, &store.tagged()?)
}

/// The images beside what is reached.
fn beside(store: &Store, reached: &Marked) -> Result<Vec<Unnamed>> {
    let mut found: Vec<Unnamed> = Vec::new();
    let mut within: BTreeSet<Digest> = BTreeSet::new();
    for (digest, size) in store.blobs()? {
        if reached.blobs.contains(&digest) || size > MANIFEST_LIMIT {
            continue;
        }
        let Some((media_type, bytes)) = document(store, &digest) else {
            continue;
        };
        let descriptor = Descriptor::new(media_type, digest, size);
        if descriptor.media_type.is_index() {
            let Ok(index) = ImageIndex::from_bytes("an index", &bytes) else {
                continue;
            };
            within.extend(index.manifests.iter().map(|one| one.digest));
            found.push(Unnamed {
                descriptor,
                config: None,
            });
        } else if let Ok(manifest) = ImageManifest::from_bytes("a manifest", &bytes) {
            found.push(Unnamed {
                descriptor,
                config: Some(manifest.config.digest),
            });
        }
    }
    found.retain(|one| !within.contains(&one.descriptor.digest));
    Ok(found)
}

/// The bytes of a blob that is a manifest or an index, and which of the two it is. What is neither is left after its
/// first byte, or after one look at its fields.
fn document(store: &Store, digest: &Digest) -> Option<(MediaType, Vec<u8>)> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "schemaVersion")]
        _version: u32,
        #[serde(rename = "mediaType")]
        media_type: Option<MediaType>,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        config: Option<serde::de::IgnoredAny>,
    }
    let mut file = std::fs::File::open(store.blob_path(digest)).ok()?;
    let mut bytes = vec![0];
    file.read_exact(&mut bytes).ok()?;
    if bytes != b"{" {
        return None;
    }
    file.take(MANIFEST_LIMIT).read_to_end(&mut bytes).ok()?;
    let kind: Kind = serde_json::from_slice(&bytes).ok()?;
    let media_type = match (kind.media_type, kind.manifests, kind.config) {
        (Some(kind), ..) if kind.is_index() || kind.is_manifest() => kind,
        (None, Some(_), None) => MediaType::Index,
        (None, None, Some(_)) => MediaType::Manifest,
        _ => return None,
    };
    (digest.like(&bytes) == *digest).then_some((media_type, bytes))
}
