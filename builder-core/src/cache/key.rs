//! A step's key: a digest over named parts, which are kept beside it.
//!
//! A part is what a step's result depends on: the layers below, the command, each variable, the files that it reads.
//! Where two keys differ, their parts say why. A key that another version of the rules made is no key, wherever it is
//! read: in this store, in a directory, in a registry, in an image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};

/// The version of all keys: it grows whenever a step with equal parts may have another result.
pub(crate) const VERSION: u32 = 2;

/// The parts of a key, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Key {
    parts: BTreeMap<String, String>,
}

/// A key as it is written: its digest alone would not tell a reader by which rules its parts were made, because the
/// reader makes the digest anew.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    parts: BTreeMap<String, String>,
}

impl From<Key> for Written {
    fn from(key: Key) -> Self {
        Self {
            version: VERSION,
            parts: key.parts,
        }
    }
}

impl TryFrom<Written> for Key {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { version, parts } = written;
        if version == VERSION {
            Ok(Self { parts })
        } else {
            Err(format!(
                "a key of version {VERSION} was expected, and version {version} was found"
            ))
        }
    }
}

impl Key {
    /// Sets a part. Names are words of the user's world: `command`, `env PATH`, `files`.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.parts.insert(name.into(), value.into());
    }

    /// The parts, in the order of their names.
    pub fn parts(&self) -> &BTreeMap<String, String> {
        &self.parts
    }

    /// The digest that names the key: lengths and bytes of all names and values, in order.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        let mut text = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        text(&VERSION.to_string());
        for (name, value) in &self.parts {
            text(name);
            text(value);
        }
        hasher.finish()
    }

    /// The names of the parts in which two keys differ.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names = self.parts.keys().chain(other.parts.keys());
        let mut names: Vec<&String> = names
            .filter(|name| self.parts.get(*name) != other.parts.get(*name))
            .collect();
        names.sort();
        names.dedup();
        names.into_iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[(&str, &str)]) -> Key {
        let mut key = Key::default();
        for (name, value) in parts {
            key.set(*name, *value);
        }
        key
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = key(&[("a", "bc")]);
        assert_eq!(one.digest(), key(&[("a", "bc")]).digest());
        for other in [key(&[("ab", "c")]), key(&[("a", "b"), ("c", "")]), key(&[])] {
            assert_ne!(one.digest(), other.digest());
        }
    }

    #[test]
    fn a_key_of_another_version_is_none() {
        let one = key(&[("a", "b")]);
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(text, r#"{"version":2,"parts":{"a":"b"}}"#);
        assert_eq!(serde_json::from_str::<Key>(&text).unwrap(), one);
        for other in [
            r#"{"parts":{"a":"b"}}"#,
            r#"{"version":1,"parts":{"a":"b"}}"#,
        ] {
            assert!(serde_json::from_str::<Key>(other).is_err(), "{other}");
        }
    }

    #[test]
    fn the_digest_of_a_key_stays() {
        let digest = key(&[("command", "true"), ("user", "")]).digest();
        assert_eq!(
            digest.to_string(),
            "sha256:19c057cc0a1e5ee691695aeb2a34fa974e2d5fe512676e619e51c5a239a8bb34"
        );
    }

    #[test]
    fn differences_are_named_once() {
        let one = key(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let other = key(&[("a", "1"), ("b", "x"), ("d", "4")]);
        assert_eq!(one.differences(&other), ["b", "c", "d"]);
    }
}
