//! Cache mounts: directories of the store that outlive builds, by name, with the three ways of sharing.
//!
//! ```text
//! cache/mounts/<recorded|native>/<digest of the id>.<number>/
//!   data/     what is mounted
//!   owners    the side table, where it isn't empty
//!   lock      shared or exclusive: its users; exclusive: who deletes it
//!   id        the name, for people
//!   used      its time is that of the last use
//!   shared, shared.files  the form in which it travels, see `history.rs`
//! ```

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::history::History;
use super::mounts::Materials;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::step::CacheSharing;
use crate::sandbox::record::{OwnerEncoding, SideTable};
use crate::store::lock::Mode;
use crate::store::{Lock, Store};

/// So long waits who finds that a cache was not filled after all.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(5);

/// A cache in use.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    lock: Lock,
}

/// A cache that was looked for without waiting.
#[derive(Debug)]
pub(super) enum Found {
    /// Here, and nobody else's until it is dropped.
    Free(Cache),
    /// Another build uses it.
    Busy,
    /// There is none.
    Absent,
}

/// Which cache, and how it is shared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Its name.
    pub(super) id: &'a str,
    /// How it is shared.
    pub(super) sharing: CacheSharing,
    /// Whether nobody else may use it at the same time whatever it says, because it is moved into the root.
    pub(super) alone: bool,
}

impl Cache {
    /// What is mounted.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Its side table.
    pub(super) fn owners(&self) -> PathBuf {
        self.folder.join("owners")
    }

    /// Where the form in which it travels is remembered.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes the first cache of a name as it is, if nobody uses it.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn find(store: &Store, encoding: OwnerEncoding, id: &str) -> Result<Found> {
        let folder = folder_of(store, encoding, id, 0);
        if !folder.join("data").exists() {
            return Ok(Found::Absent);
        }
        let lock = Lock::try_now(&folder.join("lock"), Mode::Exclusive)?;
        Ok(match lock.map(|lock| Self { folder, lock }) {
            Some(cache) if cache.data().exists() => Found::Free(cache),
            Some(_) => Found::Absent,
            None => Found::Busy,
        })
    }

    /// Takes a cache, waiting for it where it is in use; one that is new is filled by `fill`, whose result is the
    /// directory's side table.
    ///
    /// # Errors
    /// Those of the store, and of `fill`.
    pub(super) fn take(
        store: &Store,
        encoding: OwnerEncoding,
        wanted: &Wanted<'_>,
        fill: Materials<'_>,
    ) -> Result<Self> {
        let mut number = 0;
        let cache = loop {
            let folder = folder_of(store, encoding, wanted.id, number);
            make(&folder)?;
            let path = folder.join("lock");
            let lock = match wanted.sharing {
                CacheSharing::Private => match Lock::try_now(&path, Mode::Exclusive)? {
                    Some(lock) => lock,
                    None => {
                        number += 1;
                        continue;
                    }
                },
                CacheSharing::Shared if !wanted.alone => Self::share(&path, &folder)?,
                _ => Lock::wait(&path, Mode::Exclusive)?,
            };
            // One that was deleted while we waited for it is made anew by the next turn.
            if !folder.join("lock").exists() {
                continue;
            }
            let cache = Self { folder, lock };
            cache.begin(wanted.id, fill)?;
            if wanted.sharing == CacheSharing::Shared && !wanted.alone {
                // Who filled it needs it alone no longer.
                cache.lock.share(&path)?;
                if !cache.data().exists() {
                    continue;
                }
            }
            break cache;
        };
        // Its time says when the cache was used last.
        write(&cache.folder.join("used"), b"")?;
        Ok(cache)
    }

    /// Shares a cache; who comes first has it alone until it is filled.
    fn share(path: &Path, folder: &Path) -> Result<Lock> {
        let is_filled = || folder.join("data").exists();
        loop {
            if !is_filled()
                && let Some(lock) = Lock::try_now(path, Mode::Exclusive)?
            {
                return Ok(lock);
            }
            let lock = Lock::wait(path, Mode::Shared)?;
            if is_filled() {
                return Ok(lock);
            }
            // Who was to fill it gave up: the next one tries, alone.
            drop(lock);
            std::thread::sleep(AGAIN);
        }
    }

    fn begin(&self, id: &str, fill: Materials<'_>) -> Result<()> {
        if self.data().exists() {
            return Ok(());
        }
        let new = self.folder.join("new");
        // What a killed build left half done.
        let _ = crate::store::remove_tree(&new);
        History::forget(&self.folder);
        let mut table = SideTable::default();
        fill(&new, &mut table)?;
        write(&self.folder.join("id"), id.as_bytes())?;
        self.save(&table)?;
        std::fs::rename(&new, self.data()).map_err(|error| trouble(&new, error))
    }

    /// Remembers the owners of new files.
    pub(super) fn save(&self, table: &SideTable) -> Result<()> {
        if table.is_empty() {
            return Ok(());
        }
        let mut all = SideTable::load(&self.owners()).unwrap_or_default();
        all.merge(table.clone());
        let new = self.folder.join("owners.new");
        write(&new, all.to_text().as_bytes())?;
        std::fs::rename(&new, self.owners()).map_err(|error| trouble(&new, error))
    }
}

/// The folder of one of the caches of a name.
fn folder_of(store: &Store, encoding: OwnerEncoding, id: &str, number: u32) -> PathBuf {
    let encoding = match encoding {
        OwnerEncoding::Recorded => "recorded",
        OwnerEncoding::Native => "native",
    };
    let name = Digest::of(id.as_bytes()).hex();
    let all = store.root().join("cache/mounts").join(encoding);
    all.join(format!("{name}.{number}"))
}

fn make(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path);
    made.map_err(|error| trouble(path, error))
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    std::fs::write(path, content).map_err(|error| trouble(path, error))
}

fn trouble(path: &Path, error: std::io::Error) -> Error {
    let message = format!("cannot make the cache mount's `{}`", path.display());
    Error::new(ErrorKind::Store, message).with_source(error)
}
