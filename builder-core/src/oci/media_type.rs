//! Media types: OCI's, and Docker's twins of them.
//!
//! Follows the OCI image specification, "Media Types", with its compatibility matrix. A layer's media type is a hint:
//! who reads a layer looks at its first bytes.

use std::fmt;

/// What a blob holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaType {
    /// An OCI image manifest.
    Manifest,
    /// An OCI image index.
    Index,
    /// An OCI image config.
    Config,
    /// A layer as plain tar.
    LayerTar,
    /// A layer as tar with gzip.
    LayerGzip,
    /// A layer as tar with zstd.
    LayerZstd,
    /// OCI's empty document, `{}`.
    Empty,
    /// Docker's image manifest, version 2, schema 2.
    DockerManifest,
    /// Docker's manifest list.
    DockerManifestList,
    /// Docker's image config.
    DockerConfig,
    /// Docker's layer: tar with gzip.
    DockerLayerGzip,
    /// Docker's layer as plain tar.
    DockerLayerTar,
    /// Docker's layer as tar with zstd.
    DockerLayerZstd,
    /// Something else: attestations, artifacts, what is yet to come.
    Other(String),
}

/// Layers that may not be handed on: Docker's type and OCI's twin.
const FOREIGN: &[(&str, &str)] = &[
    (
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ),
    (
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    ),
];

/// Every known media type and its name.
const NAMES: &[(MediaType, &str)] = &[
    (
        MediaType::Manifest,
        "application/vnd.oci.image.manifest.v1+json",
    ),
    (MediaType::Index, "application/vnd.oci.image.index.v1+json"),
    (
        MediaType::Config,
        "application/vnd.oci.image.config.v1+json",
    ),
    (
        MediaType::LayerTar,
        "application/vnd.oci.image.layer.v1.tar",
    ),
    (
        MediaType::LayerGzip,
        "application/vnd.oci.image.layer.v1.tar+gzip",
    ),
    (
        MediaType::LayerZstd,
        "application/vnd.oci.image.layer.v1.tar+zstd",
    ),
    (MediaType::Empty, "application/vnd.oci.empty.v1+json"),
    (
        MediaType::DockerManifest,
        "application/vnd.docker.distribution.manifest.v2+json",
    ),
    (
        MediaType::DockerManifestList,
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ),
    (
        MediaType::DockerConfig,
        "application/vnd.docker.container.image.v1+json",
    ),
    (
        MediaType::DockerLayerGzip,
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ),
    (
        MediaType::DockerLayerTar,
        "application/vnd.docker.image.rootfs.diff.tar",
    ),
    (
        MediaType::DockerLayerZstd,
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    ),
];

impl MediaType {
    /// The name as documents and HTTP headers hold it.
    pub fn as_str(&self) -> &str {
        if let Self::Other(name) = self {
            return name;
        }
        NAMES
            .iter()
            .find(|(one, _)| one == self)
            .map_or("", |(_, name)| *name)
    }

    /// Reads a name; parameters after `;` are dropped, as an HTTP header may carry them.
    pub fn parse(name: &str) -> Self {
        let name = name.split(';').next().unwrap_or(name).trim();
        NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .map_or_else(|| Self::Other(name.to_owned()), |(one, _)| one.clone())
    }

    /// OCI's twin of a Docker type; every other type as it is.
    #[must_use]
    pub fn to_oci(&self) -> Self {
        match self {
            Self::DockerManifest => Self::Manifest,
            Self::DockerManifestList => Self::Index,
            Self::DockerConfig => Self::Config,
            Self::DockerLayerGzip => Self::LayerGzip,
            Self::DockerLayerTar => Self::LayerTar,
            Self::DockerLayerZstd => Self::LayerZstd,
            Self::Other(name) => FOREIGN
                .iter()
                .find(|(docker, _)| docker == name)
                .map_or_else(|| self.clone(), |(_, oci)| Self::Other((*oci).to_owned())),
            other => other.clone(),
        }
    }

    /// Docker's twin of an OCI type; every other type as it is.
    #[must_use]
    pub fn to_docker(&self) -> Self {
        match self {
            Self::Manifest => Self::DockerManifest,
            Self::Index => Self::DockerManifestList,
            Self::Config => Self::DockerConfig,
            Self::LayerGzip => Self::DockerLayerGzip,
            Self::LayerTar => Self::DockerLayerTar,
            Self::LayerZstd => Self::DockerLayerZstd,
            Self::Other(name) => FOREIGN.iter().find(|(_, oci)| oci == name).map_or_else(
                || self.clone(),
                |(docker, _)| Self::Other((*docker).to_owned()),
            ),
            other => other.clone(),
        }
    }

    /// Whether it is a manifest of one image.
    pub fn is_manifest(&self) -> bool {
        matches!(self, Self::Manifest | Self::DockerManifest)
    }

    /// Whether it is a list of manifests.
    pub fn is_index(&self) -> bool {
        matches!(self, Self::Index | Self::DockerManifestList)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for MediaType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for MediaType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Ok(Self::parse(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_every_docker_type_has_a_twin() {
        for (one, name) in NAMES {
            assert_eq!(&MediaType::parse(name), one);
            assert_eq!(one.as_str(), *name);
            assert!(!one.to_oci().as_str().contains("docker"), "{name}");
            if name.contains("docker") {
                assert_eq!(&one.to_oci().to_docker(), one);
            }
        }
        assert_eq!(MediaType::parse("text/x").as_str(), "text/x");
        assert_eq!(
            MediaType::parse("application/vnd.oci.image.index.v1+json; charset=utf-8"),
            MediaType::Index
        );
    }

    #[test]
    fn agrees_with_the_crate_of_the_specification() {
        for (ours, theirs) in [
            (
                MediaType::Manifest,
                oci_spec::image::MediaType::ImageManifest,
            ),
            (MediaType::Index, oci_spec::image::MediaType::ImageIndex),
            (MediaType::Config, oci_spec::image::MediaType::ImageConfig),
            (MediaType::LayerTar, oci_spec::image::MediaType::ImageLayer),
            (
                MediaType::LayerGzip,
                oci_spec::image::MediaType::ImageLayerGzip,
            ),
            (
                MediaType::LayerZstd,
                oci_spec::image::MediaType::ImageLayerZstd,
            ),
            (MediaType::Empty, oci_spec::image::MediaType::EmptyJSON),
        ] {
            assert_eq!(ours.to_string(), theirs.to_string());
        }
    }
}
