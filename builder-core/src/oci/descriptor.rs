//! Descriptors: what a document says about a blob.
//!
//! Follows the OCI image specification, "Content Descriptors", and the platform object of the image index. Fields that
//! the specification doesn't name are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json::or_default;
use super::media_type::MediaType;
use crate::digest::Digest;
use crate::platform::Platform;

/// The annotation that holds a tag: `latest`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation that holds a full reference: `docker.io/library/app:latest`.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// A blob's media type, digest and size, and what else its document says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob holds.
    #[serde(default = "untyped", deserialize_with = "or_untyped")]
    pub media_type: MediaType,
    /// Names the blob.
    pub digest: Digest,
    /// The blob's length in bytes.
    pub size: u64,
    /// Other places where the blob can be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// Free notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// For a manifest in an index: where the image runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformObject>,
    /// For a manifest in an index: what artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Fields that rbuild doesn't know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// The media type of a descriptor that names none.
fn untyped() -> MediaType {
    MediaType::Other("application/octet-stream".to_owned())
}

/// The same for one whose type is null.
fn or_untyped<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<MediaType, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(untyped))
}

impl Descriptor {
    /// A descriptor with the three fields that every one has.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: None,
            annotations: None,
            platform: None,
            artifact_type: None,
            extra: BTreeMap::new(),
        }
    }

    /// The descriptor of `bytes`.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// One annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// This descriptor with one more annotation.
    #[must_use]
    pub fn with_annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations
            .get_or_insert_default()
            .insert(key.to_owned(), value.to_owned());
        self
    }
}

/// The platform object of an index, as it is written there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformObject {
    /// Go's name of the architecture.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// Go's name of the operating system.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// Version of the operating system.
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// Features that the operating system must have.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Variant of the CPU.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub variant: String,
    /// Fields that rbuild doesn't know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl PlatformObject {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.os.is_empty() && self.architecture.is_empty()
    }

    /// The normalised platform.
    pub fn to_platform(&self) -> Platform {
        let mut platform = Platform::new(&self.os, &self.architecture, &self.variant);
        platform.os_version.clone_from(&self.os_version);
        platform
    }
}

impl From<&Platform> for PlatformObject {
    fn from(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: platform.os_version.clone(),
            variant: platform.variant.clone(),
            ..Self::default()
        }
    }
}
