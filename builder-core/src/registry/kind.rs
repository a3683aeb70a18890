//! What a manifest's answer and its document say that it is; what is no image is refused by name.

use super::error::{Error, Result};
use crate::digest::Digest;
use crate::http::Response;
use crate::oci::{Descriptor, ImageManifest, MediaType};
use crate::reference::Reference;

/// The digest of a reference, which decides, or its tag.
pub(super) fn wanted_name(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

/// What a HEAD tells, where it tells all.
pub(super) fn described(response: &Response, reference: &Reference) -> Option<Descriptor> {
    let digest: Digest = response.header("docker-content-digest")?.parse().ok()?;
    let size = response.header("content-length")?.parse().ok()?;
    let media_type = MediaType::parse(response.header("content-type")?);
    let known = media_type.is_manifest() || media_type.is_index();
    let fits = reference.digest().is_none_or(|wanted| wanted == digest);
    (response.status == 200 && known && fits && size > 0)
        .then(|| Descriptor::new(media_type, digest, size))
}

/// What a document is, by itself or by its header; refuses what is no image.
pub(super) fn kind_of(
    reference: &Reference,
    bytes: &[u8],
    typed: Option<MediaType>,
) -> Result<MediaType> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        #[serde(default)]
        schema_version: u32,
        media_type: Option<MediaType>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let head: Head = crate::oci::json::from_bytes(&reference.familiar(), bytes)?;
    if head.schema_version == 1 {
        return Err(Error::Schema1 {
            reference: reference.familiar(),
        });
    }
    let known = |one: &MediaType| one.is_manifest() || one.is_index();
    let typed = typed.filter(known);
    if let (Some(own), Some(typed)) = (&head.media_type, &typed)
        && known(own)
        && own.is_index() != typed.is_index()
    {
        return Err(Error::Contradiction {
            reference: reference.familiar(),
            own: own.to_string(),
            typed: typed.to_string(),
        });
    }
    let told = head.media_type.or(typed);
    let media_type = told.unwrap_or(match head.manifests {
        Some(_) => MediaType::Index,
        None => MediaType::Manifest,
    });
    if known(&media_type) {
        return Ok(media_type);
    }
    Err(Error::Foreign {
        reference: reference.familiar(),
        media_type: media_type.to_string(),
    })
}

/// Reads the manifest of an image; something else in a manifest's clothes is refused.
pub(super) fn image_manifest(reference: &Reference, bytes: &[u8]) -> Result<ImageManifest> {
    let kind = kind_of(reference, bytes, None)?;
    let manifest = ImageManifest::from_bytes(&reference.familiar(), bytes)?;
    let config = &manifest.config.media_type;
    if kind.is_manifest() && config.to_oci() == MediaType::Config {
        return Ok(manifest);
    }
    Err(Error::Foreign {
        reference: reference.familiar(),
        media_type: manifest.artifact_type.unwrap_or_else(|| config.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_contradicts_the_document_is_refused() {
        let reference: Reference = "registry.example/a:1".parse().unwrap();
        let document = |kind: &str| format!(r#"{{"schemaVersion":2,"mediaType":"{kind}"}}"#);
        let (manifest, index) = (MediaType::Manifest, MediaType::Index);
        for (own, typed, expected) in [
            (&manifest, Some(&manifest), true),
            (&manifest, Some(&index), false),
            (&index, Some(&manifest), false),
            (&index, Some(&index), true),
            (&index, None, true),
            (
                &MediaType::parse("application/vnd.docker.distribution.manifest.v2+json"),
                Some(&manifest),
                true,
            ),
            (&manifest, Some(&MediaType::parse("text/plain")), true),
        ] {
            let document = document(&own.to_string());
            let found = kind_of(&reference, document.as_bytes(), typed.cloned());
            assert_eq!(found.is_ok(), expected, "{own} {typed:?}: {found:?}");
        }
    }
}
