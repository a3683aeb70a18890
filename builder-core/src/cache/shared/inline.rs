//! The record within an image: a field of its config, so that it goes wherever the image goes.
//!
//! The layers that its steps made are the image's own. An image that was made without one is no cache.

use std::collections::BTreeMap;

use super::record::{Record, parse_list};
use crate::digest::Digest;
use crate::oci::config::ImageConfig;
use crate::oci::{Descriptor, ImageManifest};

/// The config's field.
const FIELD: &str = "rbuild.cache.v1";

/// Puts records into a config.
pub fn write(config: &mut ImageConfig, records: &[Record]) {
    // Records are maps with words for keys: they always are JSON.
    if let Ok(value) = serde_json::to_value(records) {
        config.extra.insert(FIELD.to_owned(), value);
    }
}

/// Takes the record out of a config: it tells of another image's steps.
pub fn remove(config: &mut ImageConfig) {
    config.extra.remove(FIELD);
}

/// The records in an image, by the digests of their keys; none where it was made without.
pub(super) fn read(
    config: &ImageConfig,
    manifest: &ImageManifest,
) -> Option<BTreeMap<Digest, Record>> {
    let records = parse_list(config.extra.get(FIELD)?);
    let here = |blob: &Descriptor| manifest.layers.iter().any(|one| one.digest == blob.digest);
    let keyed = records.into_iter().map(|mut record| {
        if let Record::Step(step) = &mut record {
            step.entry.blobs.retain(|blob| here(&blob.descriptor));
            step.index = None;
        }
        (record.key().digest(), record)
    });
    Some(keyed.collect())
}
