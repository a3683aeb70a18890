//! An independent reader of images on disk: OCI layout as directory or tar, and the archive of `docker save`. It checks
//! every digest, size and diff ID on the way.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::flatten::{Files, Tree};

/// The files of a layout or an archive by their names in it.
pub type Contents = BTreeMap<String, Vec<u8>>;

/// An image, checked.
#[derive(Debug)]
pub struct Image {
    /// Digest of the manifest; empty for an archive that has none.
    pub digest: String,
    /// The manifest; null for an archive that has none.
    pub manifest: Value,
    /// The config.
    pub config: Value,
    /// The layers as stored.
    pub blobs: Vec<Vec<u8>>,
    /// The layers' tars, the lowest first.
    pub layers: Vec<Vec<u8>>,
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// `sha256:…` of bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Reads a directory or a tar whole.
pub fn contents(path: &Path) -> Result<Contents, String> {
    if !path.is_dir() {
        return contents_of_tar(
            &fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?,
        );
    }
    let (mut out, mut todo) = (Contents::new(), vec![path.to_owned()]);
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            } else {
                let name = entry
                    .path()
                    .strip_prefix(path)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                out.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }
    Ok(out)
}

/// The regular files of a tar by their names.
pub fn contents_of_tar(bytes: &[u8]) -> Result<Contents, String> {
    let mut out = Contents::new();
    let mut archive = tar::Archive::new(bytes);
    for member in archive.entries().map_err(|error| error.to_string())? {
        let mut member = member.map_err(|error| error.to_string())?;
        let name = String::from_utf8_lossy(&member.path_bytes())
            .trim_start_matches("./")
            .to_owned();
        if member.header().entry_type().is_file() {
            let mut content = Vec::new();
            member
                .read_to_end(&mut content)
                .map_err(|error| error.to_string())?;
            if out.insert(name.clone(), content).is_some() {
                return Err(format!("`{name}` is in the archive twice"));
            }
        }
    }
    Ok(out)
}

impl Image {
    /// The image in a layout, an OCI tarball or a docker archive: its only one.
    #[track_caller]
    pub fn open(path: &Path) -> Self {
        Self::read(path, None).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()))
    }

    /// The image of an architecture, or the first one of the index.
    ///
    /// # Errors
    /// The first thing that isn't as it says.
    pub fn read(path: &Path, architecture: Option<&str>) -> Result<Self, String> {
        let contents = contents(path)?;
        if contents.contains_key("index.json") {
            Self::oci(&contents, architecture)
        } else {
            Self::docker(&contents)
        }
    }

    /// Reads the `manifest.json` that `docker load` reads.
    ///
    /// # Errors
    /// The first thing that isn't as it says.
    pub fn docker(contents: &Contents) -> Result<Self, String> {
        let list = json(contents, "manifest.json")?;
        let first = &list[0];
        let config_name = first["Config"].as_str().ok_or("no Config")?;
        let config_bytes = file(contents, config_name)?;
        if !config_name.contains(&digest(config_bytes)[7..]) {
            return Err(format!("`{config_name}` is not named after its digest"));
        }
        let names = first["Layers"].as_array().ok_or("no Layers")?;
        let blobs = names
            .iter()
            .map(|name| file(contents, name.as_str().ok_or("a layer without a name")?).cloned())
            .collect::<Result<Vec<_>, String>>()?;
        let config = serde_json::from_slice(config_bytes).map_err(|error| error.to_string())?;
        Self::whole(String::new(), Value::Null, config, blobs)
    }

    fn oci(contents: &Contents, architecture: Option<&str>) -> Result<Self, String> {
        if json(contents, "oci-layout")?["imageLayoutVersion"] != "1.0.0" {
            return Err("oci-layout has no version 1.0.0".into());
        }
        let mut index = json(contents, "index.json")?;
        loop {
            let list = index["manifests"]
                .as_array()
                .ok_or("an index without manifests")?;
            let fits = |one: &&Value| one["platform"]["architecture"].as_str() == architecture;
            let chosen = list
                .iter()
                .find(fits)
                .or(list.first())
                .ok_or("an empty index")?;
            let bytes = blob(contents, chosen)?;
            let document: Value =
                serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
            if document["manifests"].is_array() {
                index = document;
                continue;
            }
            let config = serde_json::from_slice(blob(contents, &document["config"])?)
                .map_err(|error| error.to_string())?;
            let layers = document["layers"]
                .as_array()
                .ok_or("a manifest without layers")?;
            let blobs = layers
                .iter()
                .map(|layer| blob(contents, layer).cloned())
                .collect::<Result<_, _>>()?;
            return Self::whole(digest(bytes), document, config, blobs);
        }
    }

    fn whole(
        digest_of: String,
        manifest: Value,
        config: Value,
        blobs: Vec<Vec<u8>>,
    ) -> Result<Self, String> {
        let layers = blobs
            .iter()
            .map(|blob| unpack(blob))
            .collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<Value> = layers.iter().map(|layer| digest(layer).into()).collect();
        if config["rootfs"]["diff_ids"].as_array() != Some(&ids) {
            return Err(format!(
                "diff IDs: the layers have {ids:?}, the config says {}",
                config["rootfs"]["diff_ids"]
            ));
        }
        let full = |one: &&Value| one["empty_layer"] != Value::Bool(true);
        let history = config["history"]
            .as_array()
            .map(|history| history.iter().filter(full).count());
        if history.is_some_and(|count| count != layers.len()) {
            return Err(format!(
                "history tells of {history:?} layers, and there are {}",
                layers.len()
            ));
        }
        Ok(Self {
            digest: digest_of,
            manifest,
            config,
            blobs,
            layers,
        })
    }

    /// All layers as one tree, and how many of them are empty.
    ///
    /// # Errors
    /// A layer that is no tar, or a hard link to nothing.
    pub fn flatten(&self) -> Result<(Files, usize), String> {
        let (mut tree, mut empty) = (Tree::default(), 0);
        for layer in &self.layers {
            empty += usize::from(tree.apply(layer)? == 0);
        }
        Ok((tree.files(), empty))
    }

    /// All layers as one tree.
    #[track_caller]
    pub fn files(&self) -> Files {
        self.flatten().unwrap().0
    }

    /// A file's content as text.
    #[track_caller]
    pub fn text(&self, path: &str) -> String {
        let files = self.files();
        let Some(entry) = files.get(path.as_bytes()) else {
            panic!("no {path} in {:?}", paths(&files))
        };
        String::from_utf8(entry.content.clone()).unwrap()
    }

    /// All paths but `/`, in order.
    #[track_caller]
    pub fn paths(&self) -> Vec<String> {
        paths(&self.files())
    }
}

/// All paths but `/`, in order.
pub fn paths(files: &Files) -> Vec<String> {
    files
        .keys()
        .filter(|path| *path != b"/")
        .map(|path| crate::names::from_bytes(path))
        .collect()
}

fn file<'a>(contents: &'a Contents, name: &str) -> Result<&'a Vec<u8>, String> {
    contents
        .get(name)
        .ok_or_else(|| format!("`{name}` is missing"))
}

fn json(contents: &Contents, name: &str) -> Result<Value, String> {
    serde_json::from_slice(file(contents, name)?).map_err(|error| format!("{name}: {error}"))
}

fn blob<'a>(contents: &'a Contents, descriptor: &Value) -> Result<&'a Vec<u8>, String> {
    let name = descriptor["digest"]
        .as_str()
        .ok_or("a descriptor without a digest")?;
    let bytes = file(contents, &format!("blobs/{}", name.replace(':', "/")))?;
    if digest(bytes) != name {
        return Err(format!("`{name}` has the digest {}", digest(bytes)));
    }
    if descriptor["size"].as_u64() != Some(bytes.len() as u64) {
        return Err(format!(
            "`{name}` has {} bytes, its descriptor says {}",
            bytes.len(),
            descriptor["size"]
        ));
    }
    Ok(bytes)
}

fn unpack(blob: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let read = match blob {
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut out),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            zstd::Decoder::new(blob).and_then(|mut reader| reader.read_to_end(&mut out))
        }
        _ => return Ok(blob.to_vec()),
    };
    read.map(|_| out)
        .map_err(|error| format!("a layer: {error}"))
}
