//! All that is known of an image, as the document of `docker image inspect`.
//!
//! The fields have Docker's names and places. Those of a daemon (`GraphDriver`, `DockerVersion`) are not made up; those of
//! the config are there even where they are empty, as scripts ask for them.

use serde_json::{Map, Value, json};

use super::find::{Found, familiar};
use crate::error::Result;
use crate::image::base::{MAX_DOCUMENT_BYTES, load, manifest_of};
use crate::oci::config::RunConfig;
use crate::oci::{Descriptor, ImageIndex, ImageManifest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::Store;

/// The document about an image.
///
/// # Errors
/// Those of reading the image.
pub fn inspect(store: &Store, found: &Found, platform: Option<&Platform>) -> Result<Value> {
    let top = &found.descriptor;
    let name = found.shown();
    let manifest_descriptor = manifest_of(store, &name, top, platform)?;
    let bytes = store.read_document(&manifest_descriptor, MAX_DOCUMENT_BYTES)?;
    let manifest = ImageManifest::from_bytes(&name, &bytes)?;
    let image = load(store, &name, &manifest_descriptor, &Platform::host())?.image;
    let blobs = manifest.layers.iter().map(|layer| layer.size);
    let size = blobs.fold(manifest.config.size, u64::saturating_add);
    let config = &image.config;
    let last = config.history.last();
    let mut document = json!({
        "Id": top.digest.to_string(),
        "RepoTags": tags(found),
        "RepoDigests": digests(store, found)?,
        "Parent": "",
        "Comment": last.map_or("", |entry| entry.comment.as_str()),
        "Created": config.created,
        "Author": config.author,
        "Config": run_config(&config.config)?,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "OsVersion": config.os_version,
        "Size": size,
        "RootFS": {"Type": "layers", "Layers": image.layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>()},
        "ConfigDigest": manifest.config.digest.to_string(),
        "Annotations": manifest.annotations.clone().unwrap_or_default(),
        "Descriptor": descriptor(top),
        "Manifest": descriptor(&manifest_descriptor),
        "Layers": manifest.layers.iter().map(descriptor).collect::<Vec<_>>(),
    });
    if top.media_type.is_index() {
        let bytes = store.read_document(top, MAX_DOCUMENT_BYTES)?;
        let index = ImageIndex::from_bytes(&name, &bytes)?;
        document["Manifests"] = index.manifests.iter().map(descriptor).collect();
    }
    Ok(document)
}

fn tags(found: &Found) -> Vec<String> {
    let references = found.names.iter().filter(|name| !name.contains('@'));
    references.map(|name| familiar(name)).collect()
}

/// The repositories that are known to have the image under its digest.
fn digests(store: &Store, found: &Found) -> Result<Vec<String>> {
    let digest = found.descriptor.digest;
    let mut digests: Vec<String> = store
        .origins(&digest)?
        .iter()
        .filter_map(|origin| format!("{origin}@{digest}").parse::<Reference>().ok())
        .map(|reference| reference.familiar())
        .collect();
    let named = found.names.iter().filter(|name| name.contains('@'));
    digests.extend(named.map(|name| familiar(name)));
    digests.sort();
    digests.dedup();
    Ok(digests)
}

/// What a document says about a blob; annotations that the store adds for its own index are not shown.
fn descriptor(one: &Descriptor) -> Value {
    let mut value = json!({
        "mediaType": one.media_type.as_str(),
        "digest": one.digest.to_string(),
        "size": one.size,
    });
    if let Some(platform) = one.platform.as_ref().filter(|one| !one.is_empty()) {
        value["platform"] = json!({
            "os": platform.os,
            "architecture": platform.architecture,
            "variant": platform.variant,
        });
    }
    value
}

/// The config with every field that Docker's has, so that a template finds it.
fn run_config(config: &RunConfig) -> Result<Value> {
    let written = serde_json::to_value(config).map_err(|error| {
        let message = "the config of the image can't be written";
        crate::Error::new(crate::ErrorKind::Internal, message).with_source(error)
    })?;
    let mut full: Map<String, Value> = Map::new();
    for (name, empty) in [
        ("User", json!("")),
        ("ExposedPorts", Value::Null),
        ("Env", Value::Null),
        ("Cmd", Value::Null),
        ("Volumes", Value::Null),
        ("WorkingDir", json!("")),
        ("Entrypoint", Value::Null),
        ("OnBuild", Value::Null),
        ("Labels", Value::Null),
        ("Healthcheck", Value::Null),
        ("Shell", Value::Null),
        ("StopSignal", json!("")),
        ("ArgsEscaped", json!(false)),
        ("Hostname", json!("")),
        ("Domainname", json!("")),
        ("AttachStdin", json!(false)),
        ("AttachStdout", json!(false)),
        ("AttachStderr", json!(false)),
        ("Tty", json!(false)),
        ("OpenStdin", json!(false)),
        ("StdinOnce", json!(false)),
        ("Image", json!("")),
    ] {
        full.insert(name.to_owned(), empty);
    }
    if let Value::Object(written) = written {
        full.extend(written);
    }
    Ok(Value::Object(full))
}
