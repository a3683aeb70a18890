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
    /// Always 2; read as if it were where it isn't there.
    #[serde(default = "super::index::schema_version")]
    pub schema_version: u32,
    /// The manifest's own type; some tools leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What artifact it is, where it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image's config.
    pub config: Descriptor,
    /// The layers, the base first. Programs in Go write no layers as null, or leave the field out.
    #[serde(default, deserialize_with = "json::or_default")]
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

    /// The same image in Docker's form, which knows neither annotations nor artifacts. Digests of config and layers stay.
    #[must_use]
    pub fn into_docker(mut self) -> Self {
        let own = MediaType::Manifest.to_docker();
        self.media_type = Some(own);
        self.config.media_type = self.config.media_type.to_docker();
        for layer in &mut self.layers {
            layer.media_type = layer.media_type.to_docker();
        }
        self.annotations = None;
        self
    }

    /// The bytes to store and push.
    pub fn to_bytes(&self) -> Result<Vec<u8>, json::Error> {
        json::to_bytes("the image manifest", self)
    }

    /// Reads a manifest; `what` names it in an error.
    ///
    /// # Errors
    /// [`json::Error::Read`], and [`json::Error::Ambiguous`] for one that is an index as well.
    pub fn from_bytes(what: &str, bytes: &[u8]) -> Result<Self, json::Error> {
        let manifest: Self = json::from_bytes(what, bytes)?;
        let names_manifests = manifest
            .extra
            .get("manifests")
            .is_some_and(|one| !one.is_null());
        let field = match &manifest.media_type {
            Some(kind) if kind.is_index() => "mediaType",
            _ if names_manifests => "manifests",
            _ => return Ok(manifest),
        };
        Err(json::Error::Ambiguous {
            what: what.to_owned(),
            one: "an image manifest",
            field,
            other: "an index",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::index::ImageIndex;

    /// A document is one thing: what says that it is a manifest and an index is neither (CVE-2021-41190).
    #[test]
    fn a_document_is_a_manifest_or_an_index() {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let config = format!(
            r#""config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}}"#
        );
        let kind =
            |kind: &str| format!(r#""mediaType":"application/vnd.oci.image.{kind}.v1+json""#);
        for (fields, manifest, index) in [
            (format!(r#"{config},"layers":[]"#), true, false),
            (r#""manifests":[]"#.to_owned(), false, true),
            (
                format!(r#"{config},"layers":[],"manifests":[]"#),
                false,
                false,
            ),
            (
                format!(r#"{config},"layers":[],"manifests":null"#),
                true,
                false,
            ),
            (format!(r#"{config},"layers":null"#), true, false),
            (config.clone(), true, false),
            (r#""manifests":null"#.to_owned(), false, true),
            (r#""manifests":[],"layers":[]"#.to_owned(), false, false),
            (
                r#""manifests":[],"layers":null,"config":null"#.to_owned(),
                false,
                true,
            ),
            (
                format!(r#"{},{config},"layers":[]"#, kind("index")),
                false,
                false,
            ),
            (
                format!(r#"{},"manifests":[]"#, kind("manifest")),
                false,
                false,
            ),
            (format!(r#"{},"manifests":[]"#, kind("index")), false, true),
        ] {
            let text = format!(r#"{{"schemaVersion":2,{fields}}}"#);
            let read = ImageManifest::from_bytes("x", text.as_bytes());
            assert_eq!(read.is_ok(), manifest, "{text}: {read:?}");
            let read = ImageIndex::from_bytes("x", text.as_bytes());
            assert_eq!(read.is_ok(), index, "{text}: {read:?}");
        }
    }
}
