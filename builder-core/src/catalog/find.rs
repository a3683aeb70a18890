//! From what somebody types to an image of the store: a name, a name with a digest, a digest, or the beginning of one.

use std::collections::BTreeMap;

use super::summary::unnamed;
use super::{short, usage};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::base::MAX_DOCUMENT_BYTES;
use crate::nearest::nearest;
use crate::oci::{Descriptor, ImageManifest};
use crate::reference::Reference;
use crate::store::Store;

/// An image that was asked for.
#[derive(Clone, Debug)]
pub struct Found {
    /// What the store holds.
    pub descriptor: Descriptor,
    /// The name that was asked for, as the store has it; none where it was asked for by digest.
    pub name: Option<String>,
    /// All names that mean the same image, in order.
    pub names: Vec<String>,
}

impl Found {
    /// The name that was asked for, or the first, as people write it; the short digest where there is none.
    pub fn shown(&self) -> String {
        let name = self.name.as_ref().or(self.names.first());
        name.map_or_else(|| short(&self.descriptor.digest), |name| familiar(name))
    }

    /// The names that are references.
    pub fn references(&self) -> Vec<Reference> {
        let names = self.names.iter();
        names.filter_map(|name| name.parse().ok()).collect()
    }
}

/// A name of the store as people write it.
pub(super) fn familiar(name: &str) -> String {
    name.parse::<Reference>()
        .map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

/// Finds what `text` names: names come before digests.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] for what is not there, with names that are near, and for what several images begin with.
pub fn find(store: &Store, text: &str) -> Result<Found> {
    find_all(store, &[text])?
        .pop()
        .ok_or_else(|| unknown(text, &[], store))
}

/// The same for several, with one look at the store's names.
///
/// # Errors
/// As [`find`].
pub fn find_all(store: &Store, texts: &[&str]) -> Result<Vec<Found>> {
    let tags = store.tags()?;
    let one = |text: &&str| look_up(store, &tags, text);
    texts.iter().map(one).collect()
}

type Tags = [(String, Descriptor)];

fn look_up(store: &Store, tags: &Tags, text: &str) -> Result<Found> {
    // A digest reads as a reference too, to a repository `sha256`; nobody means that.
    let digest: Option<Digest> = text.parse().ok();
    if digest.is_none()
        && let Some(found) = by_name(tags, text)
    {
        return Ok(found);
    }
    let hex = match text.split_once(':') {
        Some(("sha256" | "sha512", hex)) => hex,
        _ => text,
    };
    let is_hex = !hex.is_empty()
        && hex
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex {
        return Err(unknown(text, tags, store));
    }
    let fits = |digest: &Digest| digest.hex().starts_with(hex);
    let mut found: BTreeMap<Digest, Descriptor> = tags
        .iter()
        .filter(|(_, one)| fits(&one.digest))
        .map(|(_, one)| (one.digest, one.clone()))
        .collect();
    if found.is_empty() {
        found = by_config(store, tags, &fits);
    }
    if found.is_empty() {
        let nameless = unnamed(store)?.into_iter();
        found = nameless
            .filter(|one| fits(&one.descriptor.digest) || one.config.as_ref().is_some_and(fits))
            .map(|one| (one.descriptor.digest, one.descriptor))
            .collect();
    }
    match found.len() {
        0 => Err(unknown(text, tags, store)),
        1 => Ok(of_digest(tags, found)),
        _ => Err(ambiguous(text, tags, &found)),
    }
}

/// By a full name, or by a repository and a digest.
fn by_name(tags: &Tags, text: &str) -> Option<Found> {
    let reference: Reference = text.parse().ok()?;
    let full = reference.to_string();
    let named = |name: &str| {
        let found = tags.iter().find(|(known, _)| known == name)?;
        Some((found.0.clone(), found.1.clone()))
    };
    let by_digest = || {
        let digest = reference.digest()?;
        let found = tags.iter().find(|(name, one)| {
            let same = |known: &Reference| {
                known.registry() == reference.registry()
                    && known.repository() == reference.repository()
            };
            one.digest == digest && name.parse().is_ok_and(|known| same(&known))
        })?;
        Some((found.0.clone(), found.1.clone()))
    };
    // A name that another tool wrote into the index is no reference of ours, and found as it is.
    let (name, descriptor) = named(&full).or_else(by_digest).or_else(|| named(text))?;
    Some(Found {
        names: names_of(tags, &descriptor.digest),
        descriptor,
        name: Some(name),
    })
}

fn names_of(tags: &Tags, digest: &Digest) -> Vec<String> {
    let same = tags.iter().filter(|(_, one)| one.digest == *digest);
    same.map(|(name, _)| name.clone()).collect()
}

fn of_digest(tags: &Tags, found: BTreeMap<Digest, Descriptor>) -> Found {
    // There is just one.
    let (digest, descriptor) = found.into_iter().next().unwrap_or_else(|| unreachable!());
    Found {
        names: names_of(tags, &digest),
        descriptor,
        name: None,
    }
}

/// The named images whose config has such a digest.
fn by_config(
    store: &Store,
    tags: &Tags,
    fits: &dyn Fn(&Digest) -> bool,
) -> BTreeMap<Digest, Descriptor> {
    let mut found = BTreeMap::new();
    for (_, one) in tags {
        if !one.media_type.is_manifest() || found.contains_key(&one.digest) {
            continue;
        }
        let bytes = store.read_document(one, MAX_DOCUMENT_BYTES);
        let manifest = bytes.ok().and_then(|bytes| {
            let name = one.digest.to_string();
            ImageManifest::from_bytes(&name, &bytes).ok()
        });
        if manifest.is_some_and(|manifest| fits(&manifest.config.digest)) {
            found.insert(one.digest, one.clone());
        }
    }
    found
}

fn unknown(text: &str, tags: &Tags, store: &Store) -> Error {
    let names: Vec<String> = tags.iter().map(|(name, _)| familiar(name)).collect();
    let error = usage(format!("image `{text}` is not in the store"))
        .with_note(format!("the store is `{}`", store.root().display()));
    // `app` is near to `app:1.0`, which differs by more letters than a slip makes.
    let repository = |name: &str| match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository.to_owned(),
        _ => name.to_owned(),
    };
    let wanted = repository(text);
    let same: Vec<&String> = names
        .iter()
        .filter(|name| repository(name) == wanted)
        .take(5)
        .collect();
    if !same.is_empty() {
        let list: Vec<String> = same.iter().map(|name| format!("`{name}`")).collect();
        return error.with_help(format!("there is {}", list.join(", ")));
    }
    let near = nearest(text, names.iter().map(String::as_str)).map(str::to_owned);
    let near = near.or_else(|| {
        let repositories: Vec<String> = names.iter().map(|name| repository(name)).collect();
        let near = nearest(&wanted, repositories.iter().map(String::as_str))?;
        let at = repositories.iter().position(|one| one == near)?;
        names.get(at).cloned()
    });
    match near {
        Some(near) => error.with_help(format!("did you mean `{near}`?")),
        None if text.parse::<Reference>().is_ok() => error.with_help(format!(
            "build it with `rbuild -t {text} .`, or fetch it with `rbuild pull {text}`; `rbuild images` lists what is there"
        )),
        None => error.with_help("`rbuild images` lists what is there"),
    }
}

fn ambiguous(text: &str, tags: &Tags, found: &BTreeMap<Digest, Descriptor>) -> Error {
    let shown = found.keys().take(8).map(|digest| {
        let names = names_of(tags, digest);
        let names: Vec<String> = names.iter().map(|name| familiar(name)).collect();
        format!("{} {}", short(digest), names.join(", "))
    });
    let shown: Vec<String> = shown.map(|line| line.trim().to_owned()).collect();
    usage(format!("{} images begin with `{text}`", found.len()))
        .with_note(format!("there are {}", shown.join("; ")))
        .with_help("write more digits, or a name")
}
