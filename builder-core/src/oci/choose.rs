//! Which manifest of an index is for a platform.
//!
//! Follows the OCI image specification, "Image Index": an entry's `platform` is optional, and an entry may be an index
//! itself. What an entry doesn't say, the config of its image does. Documents are handed in by a closure, from a store
//! or a registry.

use super::config::ImageConfig;
use super::descriptor::Descriptor;
use super::index::ImageIndex;
use super::manifest::ImageManifest;
use crate::platform::Platform;

/// An index in an index in an index ends here.
const MAX_DEPTH: u32 = 4;
/// So many documents are looked at in all: an index of many entries must not make us fetch for ever.
const MAX_DOCUMENTS: u32 = 64;
/// Marks an attestation, which is nobody's image.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Gives the bytes of a document; none where it can't be had, and its entry is passed over.
pub type Fetch<'f, E> = dyn FnMut(&Descriptor) -> Result<Option<Vec<u8>>, E> + 'f;

/// The manifest for a platform: of the entries that name one the best, then those that name none. Never an index.
///
/// # Errors
/// Those of `fetch`. What can't be read is passed over.
pub fn choose<E>(
    index: &ImageIndex,
    platform: &Platform,
    fetch: &mut Fetch<'_, E>,
) -> Result<Option<Descriptor>, E> {
    let mut search = Search {
        platform,
        fetch,
        left: MAX_DOCUMENTS,
    };
    let found = search.best(index, MAX_DEPTH)?;
    Ok(found.map(|(_, one)| one))
}

struct Search<'s, 'f, E> {
    platform: &'s Platform,
    fetch: &'s mut Fetch<'f, E>,
    left: u32,
}

impl<E> Search<'_, '_, E> {
    /// The best manifest below an index, and how well it fits: less is better.
    fn best(&mut self, index: &ImageIndex, depth: u32) -> Result<Option<(u32, Descriptor)>, E> {
        let images = index.manifests.iter().filter(|one| !is_attestation(one));
        let images: Vec<&Descriptor> = images.collect();
        let mut named: Vec<(u32, &Descriptor)> = Vec::new();
        let mut bare: Vec<&Descriptor> = Vec::new();
        for one in &images {
            match &one.platform {
                Some(offered) if !offered.is_empty() => {
                    let rank = self.platform.rank(&offered.to_platform());
                    named.extend(rank.map(|rank| (rank, *one)));
                }
                _ => bare.push(one),
            }
        }
        named.sort_by_key(|(rank, _)| *rank);
        for (rank, one) in named {
            if !one.media_type.is_index() {
                return Ok(Some((rank, one.clone())));
            }
            if let Some((_, below)) = self.within(one, depth)? {
                return Ok(Some((rank, below)));
            }
        }
        // The only image of an index is what its name means.
        let is_only = images.len() == 1;
        let mut best: Option<(u32, Descriptor)> = None;
        for one in bare {
            let found = match (one.media_type.is_index(), is_only) {
                (true, _) => self.within(one, depth)?,
                (false, true) => Some((0, one.clone())),
                (false, false) => self.by_config(one)?,
            };
            if let Some(found) = found
                && best.as_ref().is_none_or(|(rank, _)| found.0 < *rank)
            {
                best = Some(found);
            }
        }
        Ok(best)
    }

    fn document(&mut self, one: &Descriptor) -> Result<Option<Vec<u8>>, E> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        (self.fetch)(one)
    }

    fn within(&mut self, index: &Descriptor, depth: u32) -> Result<Option<(u32, Descriptor)>, E> {
        if depth == 0 {
            return Ok(None);
        }
        let Some(bytes) = self.document(index)? else {
            return Ok(None);
        };
        match ImageIndex::from_bytes("an index within an index", &bytes) {
            Ok(index) => self.best(&index, depth - 1),
            Err(_) => Ok(None),
        }
    }

    /// A manifest whose entry names no platform, where its image's config fits.
    fn by_config(&mut self, one: &Descriptor) -> Result<Option<(u32, Descriptor)>, E> {
        let Some(bytes) = self.document(one)? else {
            return Ok(None);
        };
        let Ok(manifest) = ImageManifest::from_bytes("a manifest of an index", &bytes) else {
            return Ok(None);
        };
        let Some(bytes) = self.document(&manifest.config)? else {
            return Ok(None);
        };
        let Ok(config) = ImageConfig::from_bytes("a config of an index", &bytes) else {
            return Ok(None);
        };
        let offered = Platform::new(&config.os, &config.architecture, &config.variant);
        Ok(self.platform.rank(&offered).map(|rank| (rank, one.clone())))
    }
}

fn is_attestation(one: &Descriptor) -> bool {
    one.annotation(REFERENCE_TYPE).is_some()
        || one.artifact_type.is_some()
        || !(one.media_type.is_index() || one.media_type.is_manifest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::oci::MediaType;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    /// Documents by digest.
    #[derive(Default)]
    struct Shelf(BTreeMap<Digest, Vec<u8>>);

    impl Shelf {
        fn put(&mut self, kind: MediaType, text: &str) -> Descriptor {
            let bytes = text.as_bytes().to_vec();
            let one = Descriptor::of(kind, &bytes);
            self.0.insert(one.digest, bytes);
            one
        }

        fn image(&mut self, platform: &str) -> Descriptor {
            let (os, architecture) = platform.split_once('/').unwrap();
            let config = format!(r#"{{"os":"{os}","architecture":"{architecture}"}}"#);
            let config = self.put(MediaType::Config, &config);
            let manifest = ImageManifest::new(config, Vec::new()).to_bytes().unwrap();
            self.put(MediaType::Manifest, &String::from_utf8(manifest).unwrap())
        }

        fn index(&mut self, entries: &[Descriptor]) -> Descriptor {
            let bytes = ImageIndex::new(entries.to_vec()).to_bytes().unwrap();
            self.put(MediaType::Index, &String::from_utf8(bytes).unwrap())
        }

        fn choose(&self, top: &Descriptor, platform: &str) -> Option<Digest> {
            let index = ImageIndex::from_bytes("x", &self.0[&top.digest]).unwrap();
            let mut fetch = |one: &Descriptor| Ok(self.0.get(&one.digest).cloned());
            let found: Result<_, Infallible> =
                choose(&index, &platform.parse().unwrap(), &mut fetch);
            found.unwrap().map(|one| one.digest)
        }
    }

    fn on(mut one: Descriptor, platform: &str) -> Descriptor {
        one.platform = Some((&platform.parse::<Platform>().unwrap()).into());
        one
    }

    #[test]
    fn entries_without_a_platform_and_indexes_within() {
        let mut shelf = Shelf::default();
        let (amd, arm) = (shelf.image("linux/amd64"), shelf.image("linux/arm64"));
        let note = arm
            .clone()
            .with_annotation(REFERENCE_TYPE, "attestation-manifest");
        let foreign = shelf.put(MediaType::Manifest, "{}");
        let named = shelf.index(&[
            on(amd.clone(), "linux/amd64"),
            on(arm.clone(), "linux/arm64"),
        ]);
        let deep = (0..3).fold(named.clone(), |below, _| shelf.index(&[below]));
        let deeper = (0..4).fold(named.clone(), |below, _| shelf.index(&[below]));
        for (what, entries, asked, expected) in [
            ("one", vec![amd.clone()], "linux/amd64", Some(&amd)),
            (
                "one, of another platform",
                vec![amd.clone()],
                "linux/arm64",
                Some(&amd),
            ),
            (
                "one and a note",
                vec![amd.clone(), note],
                "linux/amd64",
                Some(&amd),
            ),
            (
                "several",
                vec![amd.clone(), arm.clone()],
                "linux/arm64",
                Some(&arm),
            ),
            (
                "several, none fits",
                vec![amd.clone(), arm.clone()],
                "linux/s390x",
                None,
            ),
            (
                "what is no image",
                vec![foreign, arm.clone()],
                "linux/arm64",
                Some(&arm),
            ),
            (
                "named first",
                vec![arm.clone(), on(amd.clone(), "linux/arm64")],
                "linux/arm64",
                Some(&amd),
            ),
            (
                "the rest by config",
                vec![on(amd.clone(), "linux/amd64"), arm.clone()],
                "linux/arm64",
                Some(&arm),
            ),
            ("an index", vec![named.clone()], "linux/arm64", Some(&arm)),
            (
                "an index for a platform",
                vec![on(named.clone(), "linux/arm64"), amd.clone()],
                "linux/arm64",
                Some(&arm),
            ),
            ("deep", vec![deep], "linux/arm64", Some(&arm)),
            ("too deep", vec![deeper], "linux/arm64", None),
            ("none", vec![], "linux/arm64", None),
        ] {
            let top = shelf.index(&entries);
            let found = shelf.choose(&top, asked);
            assert_eq!(found, expected.map(|one| one.digest), "{what}");
        }
        // What isn't there is passed over.
        let top = shelf.index(&[amd.clone(), arm.clone()]);
        shelf.0.remove(&amd.digest);
        assert_eq!(shelf.choose(&top, "linux/arm64"), Some(arm.digest));
    }
}
