//! Why a step missed: its key beside the nearest one that the same place in a Dockerfile had before.

use std::collections::BTreeSet;
use std::io::Write as _;

use super::key::Key;
use super::listing;
use super::{Cache, Entry, lost};
use crate::digest::Digest;
use crate::error::Result;
use crate::event::Reason;
use crate::store::used_now;

/// So many keys of a place are remembered.
const KEPT: usize = 64;
/// So many files are named.
const FILES: usize = 5;
const FOLDER: &str = "recent";
/// The parts whose values are digests of lists of files.
const LISTED: &[&str] = &["files"];

/// The digest of a place in a Dockerfile, from words that say which.
pub fn family(words: &[&str]) -> Digest {
    Digest::of(words.join("\0").as_bytes())
}

/// How far two keys are apart: the number of parts in which they differ, where the layers below count most. A step
/// whose predecessors were all found is compared with one that had the same.
fn distance(one: &Key, other: &Key) -> usize {
    let weight = |name: &String| match name.as_str() {
        "base" | "steps" => 100,
        _ => 1,
    };
    telling(one, other).iter().map(weight).sum()
}

/// The parts in which two keys differ that are worth telling: the order of the variables is not, where one of them came,
/// went or changed.
fn telling(one: &Key, other: &Key) -> Vec<String> {
    let mut names = one.differences(other);
    if names.iter().any(|name| name.starts_with("env ")) {
        names.retain(|name| name != "env");
    }
    names
}

/// In what a key differs from the most similar of `others`: same instruction, same platform, and most parts the same.
/// Nothing where none is similar.
pub fn differences(key: &Key, others: impl Iterator<Item = Key>) -> Option<Vec<Reason>> {
    let same = |other: &Key, name: &str| key.parts().get(name) == other.parts().get(name);
    let alike = others.filter(|other| same(other, "instruction") && same(other, "platform"));
    let nearest = alike.min_by_key(|other| distance(key, other))?;
    let names = telling(key, &nearest);
    if names.is_empty() || 2 * names.len() > key.parts().len() {
        return None;
    }
    let reason = |name: String| Reason::Part {
        before: nearest.parts().get(&name).cloned(),
        now: key.parts().get(&name).cloned(),
        name,
    };
    Some(names.into_iter().map(reason).collect())
}

impl Cache {
    /// Remembers a key under its family.
    ///
    /// # Errors
    /// Those of the store.
    pub fn remember(&self, family: &Digest, key: &Key) -> Result<()> {
        let newest = key.digest();
        let mut keys = self.recent(family);
        if keys.first() == Some(&newest) {
            used_now(&self.store.cache_path(FOLDER, &family.hex()));
            return Ok(());
        }
        keys.retain(|one| *one != newest);
        keys.insert(0, newest);
        keys.truncate(KEPT);
        let mut file = self.store.temporary_file()?;
        for key in keys {
            writeln!(file, "{key}").map_err(lost)?;
        }
        Ok(self.store.keep_cache_file(file, FOLDER, &family.hex())?)
    }

    /// The keys of a family, the newest first.
    pub fn recent(&self, family: &Digest) -> Vec<Digest> {
        let path = self.store.cache_path(FOLDER, &family.hex());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// What is known under the key of a family that is nearest to `key`, without those in `own`.
    pub fn nearest(&self, family: &Digest, key: &Key, own: &BTreeSet<Digest>) -> Option<Entry> {
        let known = self.recent(family).into_iter();
        let known = known.filter(|digest| !own.contains(digest));
        let known = known.filter_map(|digest| self.read(&digest));
        known.min_by_key(|entry| distance(key, &entry.key))
    }

    /// In what a key differs from the nearest of its family: the one with the fewest differing parts, and of those the
    /// newest. `own` are keys that don't count: those of the same build.
    pub fn why(&self, family: &Digest, key: &Key, own: &BTreeSet<Digest>) -> Vec<Reason> {
        let Some(nearest) = self.nearest(family, key, own) else {
            return vec![Reason::New];
        };
        let mut reasons = Vec::new();
        for name in telling(key, &nearest.key) {
            let before = nearest.key.parts().get(&name).cloned();
            let now = key.parts().get(&name).cloned();
            let listed = LISTED.iter().any(|one| name.ends_with(one));
            match listed
                .then(|| self.files(before.as_deref(), now.as_deref()))
                .flatten()
            {
                Some(files) if !files.is_empty() => reasons.extend(files),
                _ => reasons.push(Reason::Part { name, before, now }),
            }
        }
        reasons
    }

    /// The files in which two lists differ.
    fn files(&self, before: Option<&str>, now: Option<&str>) -> Option<Vec<Reason>> {
        let (before, now) = (before?.parse().ok()?, now?.parse().ok()?);
        let changes = listing::compare(&self.store, &before, &now, FILES)?;
        let reason = |(path, change)| Reason::File { path, change };
        Some(changes.into_iter().map(reason).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Blob;
    use crate::digest::DiffId;
    use crate::oci::{Descriptor, MediaType};
    use crate::store::Store;

    #[test]
    fn the_nearest_key_gives_the_reason() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let cache = Cache::new(&store);
        let (family, own) = (family(&["build", "RUN"]), BTreeSet::new());
        let key = |command: &str, path: &str| {
            let mut key = Key::default();
            key.set("command", command);
            key.set("env PATH", path);
            key
        };
        assert_eq!(cache.why(&family, &key("a", "/bin"), &own), [Reason::New]);
        for (command, path) in [("a", "/bin"), ("b", "/usr/bin")] {
            let key = key(command, path);
            let digest = Digest::of(command.as_bytes());
            let blob = Blob {
                form: "x".to_owned(),
                diff_id: DiffId(digest),
                descriptor: Descriptor::new(MediaType::LayerGzip, digest, 1),
            };
            cache.put(&key, DiffId(digest), blob).unwrap();
            cache.remember(&family, &key).unwrap();
        }
        let expected = Reason::Part {
            name: "env PATH".to_owned(),
            before: Some("/bin".to_owned()),
            now: Some("/sbin".to_owned()),
        };
        assert_eq!(cache.why(&family, &key("a", "/sbin"), &own), [expected]);
    }
}
