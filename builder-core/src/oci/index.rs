//! The index of an image: one manifest a platform. Also the list of tags of an image layout.
//!
//! Follows the OCI image specification, "Image Index", and Docker's manifest list, which has the same fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::descriptor::Descriptor;
use super::json;
use super::media_type::MediaType;
use crate::platform::Platform;

/// An image index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2. A layout's index without one is read as if it had it.
    #[serde(default = "schema_version")]
    pub schema_version: u32,
    /// The index's own type; some tools leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What artifact it is, where it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    #[serde(default, deserialize_with = "json::or_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Fields that rbuild doesn't know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

pub(super) fn schema_version() -> u32 {
    2
}

impl ImageIndex {
    /// An OCI index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::Index),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: None,
            extra: BTreeMap::new(),
        }
    }

    /// The manifest that fits `platform` best: equal before older variants, the first of equals. Attestations, which
    /// have the platform `unknown/unknown`, never fit.
    pub fn choose(&self, platform: &Platform) -> Option<&Descriptor> {
        self.manifests
            .iter()
            .filter_map(|one| {
                let offered = one.platform.as_ref()?.to_platform();
                Some((platform.rank(&offered)?, one))
            })
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, one)| one)
    }

    /// The platforms on offer, in order, for an error that lists them.
    pub fn platforms(&self) -> Vec<Platform> {
        self.manifests
            .iter()
            .filter_map(|one| one.platform.as_ref())
            .filter(|platform| platform.os != "unknown")
            .map(super::descriptor::PlatformObject::to_platform)
            .collect()
    }

    /// The bytes to store and push.
    pub fn to_bytes(&self) -> Result<Vec<u8>, json::Error> {
        json::to_bytes("the image index", self)
    }

    /// Reads an index; `what` names it in an error.
    ///
    /// # Errors
    /// [`json::Error::Read`], and [`json::Error::Ambiguous`] for one that is a manifest as well.
    pub fn from_bytes(what: &str, bytes: &[u8]) -> Result<Self, json::Error> {
        let index: Self = json::from_bytes(what, bytes)?;
        let is_there = |name: &str| index.extra.get(name).is_some_and(|one| !one.is_null());
        let field = match &index.media_type {
            Some(kind) if kind.is_manifest() => "mediaType",
            _ if is_there("layers") => "layers",
            _ if is_there("config") => "config",
            _ => return Ok(index),
        };
        Err(json::Error::Ambiguous {
            what: what.to_owned(),
            one: "an index",
            field,
            other: "an image manifest",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::oci::descriptor::PlatformObject;

    fn manifest(platform: &str) -> Descriptor {
        let mut one = Descriptor::new(MediaType::Manifest, Digest::of(platform.as_bytes()), 1);
        let parts: Vec<&str> = platform.split('/').collect();
        one.platform = Some(PlatformObject {
            os: parts[0].to_owned(),
            architecture: parts[1].to_owned(),
            variant: parts.get(2).copied().unwrap_or_default().to_owned(),
            ..PlatformObject::default()
        });
        one
    }

    #[test]
    fn chooses_the_nearest_platform() {
        let offered = [
            "unknown/unknown",
            "linux/amd64",
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm64/v8",
        ];
        let index = ImageIndex::new(offered.map(manifest).to_vec());
        for (asked, expected) in [
            ("linux/amd64", Some("linux/amd64")),
            ("linux/arm/v7", Some("linux/arm/v6")),
            ("linux/arm/v5", Some("linux/arm/v5")),
            ("linux/arm64", Some("linux/arm64/v8")),
            ("linux/s390x", None),
        ] {
            let chosen = index.choose(&asked.parse().unwrap()).map(|one| one.digest);
            assert_eq!(
                chosen,
                expected.map(|text| Digest::of(text.as_bytes())),
                "{asked}"
            );
        }
        assert_eq!(index.platforms().len(), 4);
    }

    #[test]
    fn keeps_what_it_does_not_know_and_reads_what_the_crate_writes() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":3,"annotations":{{"a":"1","b":"2"}},"platform":{{"architecture":"amd64","os":"linux"}},"strange":[1]}}],"later":{{"x":1}}}}"#,
            Digest::of(b"")
        );
        let index = ImageIndex::from_bytes("test", text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(index.to_bytes().unwrap()).unwrap(), text);
        let theirs = oci_spec::image::ImageIndex::from_reader(text.as_bytes()).unwrap();
        assert_eq!(theirs.manifests()[0].size(), index.manifests[0].size);
    }
}
