//! What is known under one key, as it travels: a JSON object, alone in an annotation or many in a list.

use serde::{Deserialize, Serialize};

use crate::cache::{Blob, Entry, Key};
use crate::digest::Digest;
use crate::oci::Descriptor;

/// One thing that a shared cache knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// A step's result.
    Step(Box<StepRecord>),
    /// When an image was made.
    Image {
        /// What it is without its times.
        key: Key,
        /// The time, as the image's config says it.
        created: String,
    },
    /// What a selection of files of some layers holds.
    Selection {
        /// The key of the selection.
        key: Key,
        /// The digest of the list of files.
        files: Digest,
    },
    /// What a cache mount holds.
    Mount {
        /// [`mount_key`](super::mount_key) of its identity.
        key: Key,
        /// Its layers, the lowest first.
        layers: Vec<Blob>,
    },
}

/// A step's result. Blobs are named only where the cache holds them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepRecord {
    /// Key, identity, blobs.
    #[serde(flatten)]
    pub entry: Entry,
    /// The index of the layer, as a blob of [`INDEX_TYPE`](super::INDEX_TYPE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Descriptor>,
}

impl Record {
    /// The key that it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Step(step) => &step.entry.key,
            Self::Image { key, .. } | Self::Selection { key, .. } | Self::Mount { key, .. } => key,
        }
    }

    /// The record, or its key and identity alone.
    #[must_use]
    pub fn without_blobs_if(&self, bare: bool) -> Self {
        let mut record = self.clone();
        if let (Self::Step(step), true) = (&mut record, bare) {
            step.entry.blobs.clear();
            step.index = None;
        }
        record
    }

    /// Adds the blobs that another record of the same result knows, written in other ways.
    pub fn add_blobs_of(&mut self, other: &Self) {
        if let (Self::Step(step), Self::Step(known)) = (self, other)
            && step.entry.identity == known.entry.identity
        {
            let blobs = &mut step.entry.blobs;
            for blob in &known.entry.blobs {
                if !blobs.iter().any(|one| one.form == blob.form) {
                    blobs.push(blob.clone());
                }
            }
        }
    }

    /// Whether a record of the same key says all that this one says, so that this one need not be written.
    pub fn is_covered_by(&self, known: &Self) -> bool {
        match (self, known) {
            (Self::Step(new), Self::Step(old)) => {
                let has = |blob: &Blob| {
                    let same = |one: &Blob| {
                        one.form == blob.form && one.descriptor.digest == blob.descriptor.digest
                    };
                    old.entry.blobs.iter().any(same)
                };
                old.entry.key == new.entry.key
                    && old.entry.identity == new.entry.identity
                    && new.entry.blobs.iter().all(has)
            }
            (
                Self::Image { key, created },
                Self::Image {
                    key: old_key,
                    created: old,
                },
            ) => key == old_key && created == old,
            (
                Self::Selection { key, files },
                Self::Selection {
                    key: old_key,
                    files: old,
                },
            ) => key == old_key && files == old,
            (
                Self::Mount { key, layers },
                Self::Mount {
                    key: old_key,
                    layers: old,
                },
            ) => {
                let digests = |layers: &[Blob]| -> Vec<Digest> {
                    let digests = layers.iter().map(|blob| blob.descriptor.digest);
                    digests.collect()
                };
                key == old_key && digests(layers) == digests(old)
            }
            _ => false,
        }
    }
}

/// Reads records from JSON of a registry or an image. What doesn't fit is left out: it is of another version.
pub(super) fn parse_list(value: &serde_json::Value) -> Vec<Record> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let parsed = items.iter().map(Record::deserialize);
    parsed.filter_map(Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::DiffId;
    use crate::oci::MediaType;

    fn step(text: &str, blobs: &[&str]) -> Record {
        let mut key = Key::default();
        key.set("command", "true");
        let identity = DiffId(Digest::of(text.as_bytes()));
        let blobs = blobs.iter().map(|form| Blob {
            form: (*form).to_owned(),
            diff_id: identity,
            descriptor: Descriptor::of(MediaType::LayerGzip, form.as_bytes()),
        });
        Record::Step(Box::new(StepRecord {
            entry: Entry {
                key,
                identity,
                blobs: blobs.collect(),
            },
            index: None,
        }))
    }

    #[test]
    fn a_record_that_says_less_is_not_written() {
        for (new, old, covered) in [
            (step("a", &[]), step("a", &["x"]), true),
            (step("a", &["x"]), step("a", &["x", "y"]), true),
            (step("a", &["x"]), step("a", &[]), false),
            (step("a", &["x"]), step("a", &["y"]), false),
            (step("a", &[]), step("b", &[]), false),
        ] {
            assert_eq!(new.is_covered_by(&old), covered, "{new:?} by {old:?}");
        }
    }

    fn mount(id: &str, layers: &[&str]) -> Record {
        let layers = layers.iter().map(|text| Blob {
            form: "f".to_owned(),
            diff_id: DiffId(Digest::of(text.as_bytes())),
            descriptor: Descriptor::of(MediaType::LayerGzip, text.as_bytes()),
        });
        Record::Mount {
            key: crate::cache::shared::mount_key(id, &[]),
            layers: layers.collect(),
        }
    }

    #[test]
    fn a_mount_is_covered_by_the_same_layers_only() {
        for (new, old, covered) in [
            (mount("a", &["x", "y"]), mount("a", &["x", "y"]), true),
            (mount("a", &["x", "y"]), mount("a", &["x"]), false),
            (mount("a", &["x"]), mount("a", &["x", "y"]), false),
            (mount("a", &["y", "x"]), mount("a", &["x", "y"]), false),
            (mount("a", &["x"]), mount("b", &["x"]), false),
            (mount("a", &[]), step("a", &[]), false),
        ] {
            assert_eq!(new.is_covered_by(&old), covered, "{new:?} by {old:?}");
        }
    }

    /// What stands in registries and images: it changes with the version of the keys only.
    #[test]
    fn the_text_of_a_record_stays() {
        let digest = Digest::of(b"x");
        let mut key = Key::default();
        key.set("command", "true");
        let selection = Record::Selection { key, files: digest };
        for (record, expected) in [
            (
                step("a", &["x"]),
                r#"{"step":{"key":{"version":2,"parts":{"command":"true"}},"identity":"sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb","blobs":[{"form":"x","diff_id":"sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb","descriptor":{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","size":1}}]}}"#,
            ),
            (
                selection,
                r#"{"selection":{"key":{"version":2,"parts":{"command":"true"}},"files":"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&record).unwrap(), expected);
        }
        let beginning = [("mode", "700".to_owned()), ("owner", "5:6".to_owned())];
        let key = crate::cache::shared::mount_key("/c", &beginning);
        let parts: Vec<&str> = key.parts().keys().map(String::as_str).collect();
        assert_eq!(parts, ["cache mount", "mode", "owner", "platform"]);
    }

    /// Records of the keys' first version, as they lie in registries and images, are none.
    #[test]
    fn records_of_old_keys_are_left_out() {
        let mut value = serde_json::to_value([step("a", &["x"]), mount("m", &["x"])]).unwrap();
        assert_eq!(parse_list(&value).len(), 2);
        for (number, kind) in ["step", "mount"].into_iter().enumerate() {
            let key = value[number][kind]["key"].as_object_mut().unwrap();
            key.remove("version");
        }
        assert_eq!(parse_list(&value).len(), 0);
    }

    #[test]
    fn records_survive_json_and_strangers_are_left_out() {
        let known = [
            step("a", &["x"]),
            Record::Selection {
                key: Key::default(),
                files: Digest::of(b"f"),
            },
            mount("/root/.cache", &["x", "y"]),
        ];
        let mut value = serde_json::to_value(&known).unwrap();
        value
            .as_array_mut()
            .unwrap()
            .insert(1, serde_json::json!({"later": {"key": 1}}));
        let read = parse_list(&value);
        assert_eq!(read.len(), 3);
        for (read, known) in read.iter().zip(&known) {
            assert!(known.is_covered_by(read) && read.is_covered_by(known));
        }
    }
}
