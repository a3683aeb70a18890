//! How an image came to be: a line an instruction, with the layer that it made.

use crate::digest::Digest;
use crate::error::Result;
use crate::image::base::{MAX_DOCUMENT_BYTES, load, manifest_of};
use crate::oci::Descriptor;
use crate::platform::Platform;
use crate::store::Store;
use crate::timestamp::Timestamp;

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The digest of the layer that it made.
    pub layer: Option<Digest>,
    /// When.
    pub created: Option<Timestamp>,
    /// The instruction, as the builder wrote it.
    pub created_by: String,
    /// Bytes of the layer as it is stored and sent; 0 where there is none.
    pub size: u64,
    /// What the builder said.
    pub comment: String,
}

/// The lines of an image, the newest first. A layer that the history doesn't tell of has a line too.
///
/// # Errors
/// Those of reading the image.
pub fn of(
    store: &Store,
    name: &str,
    descriptor: &Descriptor,
    platform: Option<&Platform>,
) -> Result<Vec<Line>> {
    let manifest = manifest_of(store, name, descriptor, platform)?;
    let base = load(store, name, &manifest, &Platform::host())?;
    debug_assert!(manifest.size <= MAX_DOCUMENT_BYTES, "it was read");
    let mut layers = base.image.layers.into_iter();
    let mut lines: Vec<Line> = Vec::new();
    for entry in base.image.config.history {
        let layer = if entry.empty_layer {
            None
        } else {
            layers.next()
        };
        lines.push(Line {
            layer: layer.as_ref().map(|layer| layer.descriptor.digest),
            created: entry.created.as_deref().and_then(Timestamp::parse_rfc3339),
            created_by: entry.created_by,
            size: layer.map_or(0, |layer| layer.descriptor.size),
            comment: entry.comment,
        });
    }
    lines.extend(layers.map(|layer| Line {
        layer: Some(layer.descriptor.digest),
        created: None,
        created_by: String::new(),
        size: layer.descriptor.size,
        comment: String::new(),
    }));
    lines.reverse();
    Ok(lines)
}
