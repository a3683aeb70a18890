//! Small base images without a network, written by hand.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::archive::{Member, Packing, pack, tar};
use crate::tarball::digest;

/// A base image to write.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its layers: packing and members.
    pub layers: Vec<(Packing, Vec<Member>)>,
    /// `config` of the config.
    pub config: Value,
    /// Whether the media types are Docker's.
    pub docker: bool,
    /// Whether the config has a history, one item a layer.
    pub history: bool,
    /// Architectures: an index of several if there is more than one.
    pub architectures: Vec<&'static str>,
    /// The tag in `org.opencontainers.image.ref.name`.
    pub tag: Option<&'static str>,
}

impl Base {
    /// One gzip layer, OCI types, with history, for this machine, without a tag.
    pub fn new(members: Vec<Member>) -> Self {
        Self {
            layers: vec![(Packing::Gzip, members)],
            config: json!({}),
            docker: false,
            history: true,
            architectures: vec![architecture()],
            tag: None,
        }
    }

    /// Writes an OCI layout.
    pub fn write(&self, folder: &Path) {
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        fs::write(
            folder.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        let mut entries: Vec<Value> = self
            .architectures
            .iter()
            .map(|name| self.manifest(folder, name))
            .collect();
        if entries.len() > 1 {
            let kind = if self.docker {
                "application/vnd.docker.distribution.manifest.list.v2+json"
            } else {
                "application/vnd.oci.image.index.v1+json"
            };
            let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": entries });
            entries = vec![put(folder, kind, &serde_json::to_vec(&index).unwrap())];
        }
        if let Some(tag) = self.tag {
            entries[0]["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        }
        let index = json!({ "schemaVersion": 2, "manifests": entries });
        fs::write(
            folder.join("index.json"),
            serde_json::to_vec(&index).unwrap(),
        )
        .unwrap();
    }

    /// Writes an OCI layout as one tar.
    pub fn write_tar(&self, file: &Path) {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_dir_all(".", folder.path()).unwrap();
        fs::write(file, builder.into_inner().unwrap()).unwrap();
    }

    fn manifest(&self, folder: &Path, architecture: &str) -> Value {
        let (mut layers, mut ids) = (Vec::new(), Vec::new());
        for (packing, members) in &self.layers {
            let plain = tar(members);
            ids.push(digest(&plain));
            layers.push(put(
                folder,
                self.layer_type(*packing),
                &pack(*packing, &plain),
            ));
        }
        let mut config = json!({
            "os": "linux", "architecture": architecture, "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        if self.history {
            config["history"] = ids
                .iter()
                .map(|_| json!({ "created_by": "a layer of the base" }))
                .collect();
        }
        let (config_type, manifest_type) = if self.docker {
            (
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.distribution.manifest.v2+json",
            )
        } else {
            (
                "application/vnd.oci.image.config.v1+json",
                "application/vnd.oci.image.manifest.v1+json",
            )
        };
        let config = put(folder, config_type, &serde_json::to_vec(&config).unwrap());
        let manifest = json!({ "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": layers });
        let mut entry = put(
            folder,
            manifest_type,
            &serde_json::to_vec(&manifest).unwrap(),
        );
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entry
    }

    fn layer_type(&self, packing: Packing) -> &'static str {
        match (self.docker, packing) {
            (true, Packing::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (true, _) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (false, Packing::None) => "application/vnd.oci.image.layer.v1.tar",
            (false, Packing::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (false, _) => "application/vnd.oci.image.layer.v1.tar+gzip",
        }
    }
}

/// The architecture of this machine as images name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn put(folder: &Path, kind: &str, bytes: &[u8]) -> Value {
    let digest = digest(bytes);
    fs::write(folder.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
    json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
}
