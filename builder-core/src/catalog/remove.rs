//! Taking names away, and what nothing else needs then.
//!
//! A name goes in any case. Blobs go only while nobody else uses the store: a build that runs may count on them. What
//! another name reaches stays, and so does what the build cache has; `prune` is about that.

use std::collections::BTreeSet;

use super::find::{Found, familiar};
use super::{short, usage};
use crate::cache;
use crate::digest::Digest;
use crate::error::Result;
use crate::oci::Descriptor;
use crate::store::{Marked, Sidecar, Store};

/// What a removal did.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// The names that are gone, as people write them.
    pub names: Vec<String>,
    /// Manifests and indexes that are gone.
    pub images: Vec<Digest>,
    /// Bytes that were freed.
    pub bytes: u64,
    /// A build uses the store: what no name reaches any more is left to `prune`.
    pub is_in_use: bool,
}

/// Takes away the name that was asked for, or, where an image was asked for by digest, its only name; with `force` all
/// of its names. Blobs that nothing else needs are deleted.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] for a digest of several names; those of the store.
pub fn remove(store: &Store, found: &Found, force: bool) -> Result<Removed> {
    let names = match &found.name {
        Some(name) => vec![name.clone()],
        None if found.names.len() > 1 && !force => {
            let names: Vec<String> = found.names.iter().map(|name| familiar(name)).collect();
            let digest = short(&found.descriptor.digest);
            return Err(usage(format!("image `{digest}` has several names"))
                .with_note(format!("they are {}", names.join(", ")))
                .with_help("remove it by name, or all names with `--force`"));
        }
        None => found.names.clone(),
    };
    let mut removed = Removed::default();
    for name in names {
        if store.untag(&name)? {
            removed.names.push(familiar(&name));
        }
    }
    let freed = free(store, std::slice::from_ref(&found.descriptor))?;
    Ok(Removed {
        names: removed.names,
        ..freed
    })
}

/// Deletes what images hold and nothing else needs: no name, and no step of the build cache.
///
/// # Errors
/// Those of reading and deleting.
pub fn free(store: &Store, images: &[Descriptor]) -> Result<Removed> {
    let mut removed = Removed::default();
    let Ok(_alone) = store.lock_alone(false) else {
        removed.is_in_use = true;
        return Ok(removed);
    };
    let tagged = store.tagged()?;
    let mut reached = Marked::default();
    for image in images
        .iter()
        .filter(|one| !tagged.blobs.contains(&one.digest))
    {
        store.reach(image, &mut reached);
    }
    if reached.blobs.is_empty() {
        return Ok(removed);
    }
    let owned = cache::inventory::owned(store)?;
    let needed = |digest: &Digest| tagged.blobs.contains(digest) || owned.blobs.contains(digest);
    let heads: BTreeSet<Digest> = images.iter().map(|one| one.digest).collect();
    for digest in reached.blobs.iter().filter(|digest| !needed(digest)) {
        if let Some(bytes) = store.remove_blob(digest)? {
            removed.bytes += bytes;
            if heads.contains(digest) {
                removed.images.push(*digest);
            }
        }
        for sidecar in [Sidecar::Blocks(*digest), Sidecar::Origin(*digest)] {
            store.remove_sidecar(sidecar)?;
        }
    }
    Ok(removed)
}
