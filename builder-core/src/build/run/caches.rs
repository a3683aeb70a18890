//! Cache mounts: directories of the store that outlive builds, by what they begin as, with the three ways of sharing.
//!
//! A cache is known by its id and by what it begins with: mode and owner, or the files of `from`. Who asks for another
//! beginning gets another cache, as from BuildKit: what one user may write another could not.
//!
//! ```text
//! cache/mounts/<recorded|native|complete>/<digest of the identity>.<number>/
//!   data/     what is mounted
//!   owners    the side table, where it isn't empty
//!   lock      shared or exclusive: its users; exclusive: who deletes it
//!   id        the identity, for people
//!   used      its time is that of the last use
//!   shared, shared.files  the form in which it travels, see `history.rs`
//! ```

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::history::History;
use super::mounts::Materials;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Interrupt;
use crate::owners::{OwnerEncoding, SideTable};
use crate::plan::step::{CacheSharing, RunMountKind};
use crate::store::lock::Mode;
use crate::store::{Lock, Store};

/// So long waits who finds that a cache was not filled after all.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(5);

/// What tells one cache from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    /// `id`.
    pub(super) id: String,
    /// Mode of a new one.
    mode: u32,
    /// Owner and group of a new one.
    owner: (u32, u32),
    /// The digest of the files that a new one begins with.
    from: Option<Digest>,
}

impl Identity {
    /// That of a mount whose `from` shows files with this digest; none for a mount that is no cache.
    pub(super) fn of(kind: &RunMountKind, from: Option<Digest>) -> Option<Self> {
        let RunMountKind::Cache {
            id,
            // It says who waits for whom, not for what.
            sharing: _,
            from: _,
            source: _,
            mode,
            uid,
            gid,
        } = kind
        else {
            return None;
        };
        Some(Self {
            id: id.clone(),
            mode: *mode,
            owner: (*uid, *gid),
            from,
        })
    }

    /// What it is beside its id, as far as it is not what a cache is without any field.
    pub(super) fn beginning(&self) -> Vec<(&'static str, String)> {
        let (uid, gid) = self.owner;
        let mode = (self.mode != 0o755).then(|| format!("{:o}", self.mode));
        let owner = (self.owner != (0, 0)).then(|| format!("{uid}:{gid}"));
        let from = self.from.map(|from| from.to_string());
        let parts = [("mode", mode), ("owner", owner), ("from", from)];
        let parts = parts.into_iter();
        parts
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }

    /// The name of its folders. That of a cache with nothing but an id is the digest of the id.
    fn folder(&self) -> String {
        let id = Digest::of(self.id.as_bytes());
        let beginning = self.beginning();
        if beginning.is_empty() {
            return id.hex();
        }
        let mut hasher = Hasher::new();
        hasher.update(id.as_bytes());
        for (name, value) in beginning {
            // No word of it has a line end.
            hasher.update(format!("{name} {value}\n").as_bytes());
        }
        hasher.finish().hex()
    }
}

/// For people: `/root/.cache`, `/root/.cache (owner 5:6)`.
impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)?;
        let words = self.beginning().into_iter();
        let words: Vec<String> = words
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        if words.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", words.join(", "))
    }
}

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
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Its identity.
    pub(super) identity: &'a Identity,
    /// How it is shared.
    pub(super) sharing: CacheSharing,
    /// Whether nobody else may use it at the same time whatever it says, because it is moved into the root.
    pub(super) alone: bool,
    /// Stops the waiting.
    pub(super) interrupt: &'a Interrupt,
    /// Is told that somebody else uses it.
    pub(super) waits: &'a dyn Fn(),
}

impl Wanted<'_> {
    /// Locks a file, when nobody else does.
    fn lock(&self, path: &Path, mode: Mode) -> Result<Lock> {
        let lock = Lock::wait_until(path, mode, self.interrupt, &mut || (self.waits)())?;
        lock.ok_or_else(|| Error::new(ErrorKind::Interrupted, "interrupted"))
    }
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

    /// Takes the first cache of an identity as it is, if nobody uses it.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn find(
        store: &Store,
        encoding: OwnerEncoding,
        identity: &Identity,
    ) -> Result<Found> {
        let folder = folder_of(store, encoding, identity, 0);
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
            let folder = folder_of(store, encoding, wanted.identity, number);
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
                CacheSharing::Shared if !wanted.alone => Self::share(wanted, &path, &folder)?,
                _ => wanted.lock(&path, Mode::Exclusive)?,
            };
            // One that was deleted while we waited for it is made anew by the next turn.
            if !folder.join("lock").exists() {
                continue;
            }
            let cache = Self { folder, lock };
            cache.begin(wanted.identity, fill)?;
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
    fn share(wanted: &Wanted<'_>, path: &Path, folder: &Path) -> Result<Lock> {
        let is_filled = || folder.join("data").exists();
        loop {
            if !is_filled()
                && let Some(lock) = Lock::try_now(path, Mode::Exclusive)?
            {
                return Ok(lock);
            }
            let lock = wanted.lock(path, Mode::Shared)?;
            if is_filled() {
                return Ok(lock);
            }
            // Who was to fill it gave up: the next one tries, alone.
            drop(lock);
            std::thread::sleep(AGAIN);
        }
    }

    fn begin(&self, identity: &Identity, fill: Materials<'_>) -> Result<()> {
        if self.data().exists() {
            return Ok(());
        }
        let new = self.folder.join("new");
        // What a killed build left half done.
        let _ = crate::store::remove_tree(&new);
        History::forget(&self.folder);
        let mut table = SideTable::default();
        fill(&new, &mut table)?;
        write(&self.folder.join("id"), identity.to_string().as_bytes())?;
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

/// The folder of one of the caches of an identity.
fn folder_of(store: &Store, encoding: OwnerEncoding, identity: &Identity, number: u32) -> PathBuf {
    let all = store.root().join("cache/mounts").join(encoding.name());
    all.join(format!("{}.{number}", identity.folder()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(mode: u32, owner: (u32, u32), from: Option<&[u8]>) -> Identity {
        let kind = RunMountKind::Cache {
            id: "/c".to_owned(),
            sharing: CacheSharing::default(),
            from: None,
            source: "/".to_owned(),
            mode,
            uid: owner.0,
            gid: owner.1,
        };
        Identity::of(&kind, from.map(Digest::of)).unwrap()
    }

    #[test]
    fn every_beginning_is_another_cache() {
        let all = [
            (identity(0o755, (0, 0), None), "/c"),
            (identity(0o700, (0, 0), None), "/c (mode 700)"),
            (identity(0o755, (5, 0), None), "/c (owner 5:0)"),
            (identity(0o755, (0, 5), None), "/c (owner 0:5)"),
            (identity(0o700, (5, 6), None), "/c (mode 700, owner 5:6)"),
            (
                identity(0o755, (0, 0), Some(b"a")),
                "/c (from sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb)",
            ),
            (
                identity(0o755, (0, 0), Some(b"b")),
                "/c (from sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d)",
            ),
        ];
        for (number, (one, text)) in all.iter().enumerate() {
            assert_eq!(one.to_string(), *text);
            for (other, _) in &all[number + 1..] {
                assert_ne!(one.folder(), other.folder());
            }
        }
        // A cache of nothing but an id stays where it was before caches had more than that.
        assert_eq!(all[0].0.folder(), Digest::of(b"/c").hex());
    }
}
