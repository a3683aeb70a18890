//! A step's key: a digest over named parts, which are kept beside it.
//!
//! A part is what a step's result depends on: the layers below, the command, each variable, the files that it reads.
//! Where two keys differ, their parts say why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};

/// The version of all keys: it grows whenever a step with equal parts may have another result.
const VERSION: &str = "1";

/// The parts of a key, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    parts: BTreeMap<String, String>,
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
        text(VERSION);
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
    fn differences_are_named_once() {
        let one = key(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let other = key(&[("a", "1"), ("b", "x"), ("d", "4")]);
        assert_eq!(one.differences(&other), ["b", "c", "d"]);
    }
}
