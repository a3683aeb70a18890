//! The manifest of one image: a config and a stack of layers.
//!
//! Follows the OCI image specification, "Image Manifest", and Docker's image manifest version 2, schema 2, which has
//! the same fields. Schema 1 is not read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::descriptor::Descriptor;
use super::json;
use super::media_type::MediaType;

/// An image manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own type; some tools leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What artifact it is, where it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image's config.
    pub config: Descriptor,
    /// The layers, the base first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Fields that rbuild doesn't know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl ImageManifest {
    /// An OCI manifest. Descriptors of Docker's types are renamed to OCI's; digests stay.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let renamed = |mut one: Descriptor| {
            one.media_type = one.media_type.to_oci();
            one
        };
        Self {
            schema_version: 2,
            media_type: Some(MediaType::Manifest),
            artifact_type: None,
            config: renamed(config),
            layers: layers.into_iter().map(renamed).collect(),
            subject: None,
            annotations: None,
            extra: BTreeMap::new(),
        }
    }

    /// The bytes to store and push.
    pub fn to_bytes(&self) -> Result<Vec<u8>, json::Error> {
        json::to_bytes("the image manifest", self)
    }

    /// Reads a manifest; `what` names it in an error.
    pub fn from_bytes(what: &str, bytes: &[u8]) -> Result<Self, json::Error> {
        json::from_bytes(what, bytes)
    }
}
