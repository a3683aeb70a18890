//! Bringing the cache below a bound: the least recently used goes first, what a tag reaches never.

use std::path::Path;
use std::time::SystemTime;

use super::inventory::{Item, list, trouble};
use crate::error::Result;
use crate::store::Store;

/// What to delete.
#[derive(Clone, Copy, Debug, Default)]
pub struct PruneOptions {
    /// Bring the cache to this many bytes or less.
    pub keep: Option<u64>,
    /// Delete what was used last before this time.
    pub until: Option<SystemTime>,
    /// Delete everything.
    pub all: bool,
    /// Count only, delete nothing.
    pub dry_run: bool,
}

/// Deletes what the options say, and gives it.
///
/// # Errors
/// [`crate::store::Error::InUse`] where a build uses the store and `wait` isn't set; those of reading the store.
pub fn prune(store: &Store, options: &PruneOptions, wait: bool) -> Result<Vec<Item>> {
    let _alone = store.lock_alone(wait)?;
    let items = list(store)?;
    let mut total: u64 = items.iter().map(|item| item.bytes).sum();
    let mut gone = Vec::new();
    for item in items {
        let old = options.until.is_some_and(|until| item.used < until);
        let over = options.keep.is_some_and(|keep| total > keep);
        if !(options.all || old || over) {
            continue;
        }
        if !options.dry_run {
            for path in &item.paths {
                remove(store, path)?;
            }
        }
        total -= item.bytes;
        gone.push(item);
    }
    Ok(gone)
}

fn remove(store: &Store, path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(store.discard(path)?);
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(trouble("delete", path, error))
        }
        _ => Ok(()),
    }
}
