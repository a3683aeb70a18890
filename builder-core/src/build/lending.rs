//! Layers that a build counts on without having their bytes: hits of shared caches, and results whose blobs are gone.
//!
//! Most of them are never looked at, so nothing is fetched for them. Where one is needed after all and can't be had, its
//! key is struck off, and the build begins anew: the step is executed then, and all others are found.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cache::Blob;
use crate::cache::shared::Origin;
use crate::digest::{DiffId, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{unpack_index, verify_layer};
use crate::oci::{Descriptor, MediaType};
use crate::reference::Reference;
use crate::registry::Registry;
use crate::store::origin::store_stream;
use crate::store::{BlobSource, Store};

/// What is known of a layer that isn't here.
#[derive(Clone, Debug)]
pub(crate) struct Loan {
    /// The step's key.
    pub(crate) key: Digest,
    /// The stage, by its index.
    pub(crate) stage: usize,
    /// What its tar must be.
    pub(crate) diff_id: DiffId,
    /// How it was written.
    pub(crate) form: String,
    /// A directory with `blobs/sha256` that has it.
    pub(crate) directory: Option<PathBuf>,
    /// Its index, as a blob beside it, and in which repository.
    pub(crate) index: Option<(Descriptor, Reference)>,
    /// Nobody has it: only what stands for it in later keys is known.
    pub(crate) nowhere: bool,
}

/// The loans of one build.
#[derive(Debug, Default)]
pub(crate) struct Lending {
    /// By the digest of the blob, which may be the layer of several steps.
    loans: Mutex<BTreeMap<Digest, Vec<Loan>>>,
    struck: Mutex<BTreeSet<Digest>>,
    fresh: Mutex<BTreeSet<Digest>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lending {
    /// The descriptor of a layer of which nothing but its identity is known. Nothing has this digest and no bytes.
    pub(crate) fn nothing(identity: DiffId) -> Descriptor {
        Descriptor::new(MediaType::LayerTar, identity.0, 0)
    }

    /// Lends a layer.
    pub(crate) fn lend(&self, blob: Digest, loan: Loan) {
        lock(&self.loans).entry(blob).or_default().push(loan);
    }

    /// What is known of a blob that was lent.
    pub(crate) fn loan(&self, blob: &Digest) -> Option<Loan> {
        lock(&self.loans).get(blob)?.first().cloned()
    }

    /// What a blob's tar must be.
    fn diff_ids(&self, blob: &Digest) -> Vec<DiffId> {
        let loans = lock(&self.loans);
        let loans = loans.get(blob).into_iter().flatten();
        loans.map(|loan| loan.diff_id).collect()
    }

    /// The loan of a layer.
    fn of_layer(&self, blob: &Descriptor, diff_id: &DiffId) -> Option<Loan> {
        let loans = lock(&self.loans);
        let mut all = loans.get(&blob.digest)?.iter();
        all.find(|loan| loan.diff_id == *diff_id).cloned()
    }

    /// Whether a key is struck off.
    pub(crate) fn is_struck(&self, key: &Digest) -> bool {
        lock(&self.struck).contains(key)
    }

    /// Strikes the keys off that a blob was lent for; with one that nobody has, all such of its stage, because who
    /// needs one of them needs the others too.
    pub(crate) fn strike(&self, blob: &Digest) {
        let loans = lock(&self.loans);
        let Some(missing) = loans.get(blob) else {
            return;
        };
        let alike = |loan: &&Loan| {
            let too = |one: &Loan| {
                loan.key == one.key || (one.nowhere && loan.nowhere && loan.stage == one.stage)
            };
            missing.iter().any(too)
        };
        let keys: Vec<Digest> = loans
            .values()
            .flatten()
            .filter(alike)
            .map(|loan| loan.key)
            .collect();
        lock(&self.struck).extend(&keys);
        lock(&self.fresh).extend(keys);
    }

    /// Whether a key was struck off since this was asked last. What was lent for such a key is lent no longer.
    pub(crate) fn begin_anew(&self) -> bool {
        let fresh = std::mem::take(&mut *lock(&self.fresh));
        for loans in lock(&self.loans).values_mut() {
            loans.retain(|loan| !fresh.contains(&loan.key));
        }
        !fresh.is_empty()
    }
}

/// Where blobs come from that the store doesn't hold: a cache's directory, or a registry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lenders<'a> {
    pub(crate) registry: Option<&'a Registry<'a>>,
    pub(crate) lending: &'a Lending,
    /// Whether the build needs what is asked for here: what can't be had then makes it begin anew.
    pub(crate) decides: bool,
    /// The layers of the base that the outputs hold: what is read of them to know what they hold is kept at once.
    pub(crate) kept: &'a BTreeSet<Digest>,
}

impl Lenders<'_> {
    fn strike(&self, blob: &Digest) {
        if self.decides {
            self.lending.strike(blob);
        }
    }

    /// Makes sure that a lent blob can be had, without fetching it.
    ///
    /// # Errors
    /// One that is nowhere any more; its key is struck off.
    pub(crate) fn check(&self, store: &Store, blob: &Descriptor) -> Result<()> {
        for origin in store.origins(&blob.digest)? {
            let (Some(registry), Ok(reference)) = (self.registry, origin.parse::<Reference>())
            else {
                continue;
            };
            if registry.has(&reference, blob).unwrap_or(false) {
                return Ok(());
            }
        }
        self.strike(&blob.digest);
        Err(missing(store, blob))
    }

    /// Copies a blob out of a cache's directory.
    fn copy(store: &Store, directory: &std::path::Path, blob: &Descriptor) -> Result<()> {
        let path = directory.join(blob.digest.path());
        let trouble = |error: io::Error| {
            let message = format!("cannot read `{}`", path.display());
            Error::new(ErrorKind::Store, message).with_source(error)
        };
        let file = std::fs::File::open(&path).map_err(trouble)?;
        store_stream(store.blob_writer_for(&blob.digest)?, blob, file).map_err(trouble)??;
        Ok(())
    }

    /// Brings a blob from where a shared cache says that it is, and checks that it is what it is said to be.
    ///
    /// # Errors
    /// One that can't be had, and one that is another layer.
    pub(crate) fn bring(&self, store: &Store, origin: &Origin, blob: &Blob) -> Result<()> {
        let wanted = &blob.descriptor;
        if store.blob_size(&wanted.digest)? != Some(wanted.size) {
            match (origin, self.registry) {
                (Origin::Directory(directory), _) => Self::copy(store, directory, wanted)?,
                (Origin::Repository(place), Some(registry)) => {
                    store.remember_origin(&wanted.digest, place)?;
                    registry.fetch(store, std::slice::from_ref(wanted))?;
                }
                (Origin::Repository(_), None) => return Err(missing(store, wanted)),
            }
        }
        Ok(verify_layer(store, wanted, &blob.diff_id)?)
    }

    fn fetch_one(&self, store: &Store, blob: &Descriptor) -> Result<()> {
        let loan = self.lending.loan(&blob.digest);
        match (&loan, self.registry) {
            (Some(Loan { nowhere: true, .. }), _) => return Err(missing(store, blob)),
            (
                Some(Loan {
                    directory: Some(directory),
                    ..
                }),
                _,
            ) => Self::copy(store, directory, blob)?,
            (_, Some(registry)) => registry.fetch(store, std::slice::from_ref(blob))?,
            (_, None) => return Err(missing(store, blob)),
        }
        // A cache's word for what is in a blob is checked before anything is made of it.
        let mut promised = self.lending.diff_ids(&blob.digest).into_iter();
        promised.try_for_each(|diff_id| Ok(verify_layer(store, blob, &diff_id)?))
    }
}

impl BlobSource for Lenders<'_> {
    fn open(&self, store: &Store, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        let loan = self.lending.loan(&blob.digest);
        if let (None, Some(registry), true) =
            (&loan, self.registry, self.kept.contains(&blob.digest))
        {
            registry.fetch(store, std::slice::from_ref(blob))?;
            return Ok(Box::new(store.open_blob(blob)?));
        }
        let opened: Result<Box<dyn Read + Send + '_>> = match (&loan, self.registry) {
            (None, Some(registry)) => return registry.open(store, blob),
            (Some(loan), Some(registry)) if !loan.nowhere && loan.directory.is_none() => {
                registry.open(store, blob)
            }
            (Some(loan), _) if !loan.nowhere && loan.directory.is_some() => self
                .fetch_one(store, blob)
                .and_then(|()| Ok(Box::new(store.open_blob(blob)?) as _)),
            _ => Err(missing(store, blob)),
        };
        match opened {
            Ok(inner) => Ok(Box::new(Watched {
                inner,
                lenders: *self,
                blob: blob.digest,
            })),
            Err(error) => {
                self.strike(&blob.digest);
                Err(error)
            }
        }
    }

    fn fetch(&self, store: &Store, blobs: &[Descriptor]) -> Result<()> {
        let lent = |blob: &&Descriptor| self.lending.loan(&blob.digest).is_some();
        let (lent, others): (Vec<&Descriptor>, Vec<&Descriptor>) = blobs.iter().partition(lent);
        for blob in lent {
            self.fetch_one(store, blob).inspect_err(|_| {
                self.strike(&blob.digest);
            })?;
        }
        let others: Vec<Descriptor> = others.into_iter().cloned().collect();
        match self.registry {
            _ if others.is_empty() => Ok(()),
            Some(registry) => registry.fetch(store, &others),
            None => others.iter().try_for_each(|blob| Err(missing(store, blob))),
        }
    }

    fn bring_index(&self, store: &Store, blob: &Descriptor, diff_id: &DiffId) -> Result<bool> {
        let loan = self.lending.of_layer(blob, diff_id);
        let found = loan.and_then(|loan| loan.index).zip(self.registry);
        let Some(((index, reference), registry)) = found else {
            return Ok(false);
        };
        // Without it the layer itself tells.
        let brought = registry
            .small_blob(&reference, &index)
            .and_then(|packed| Ok(unpack_index(store, diff_id, &packed)?));
        Ok(brought.is_ok())
    }
}

/// The error for a blob that nobody is known to have.
fn missing(store: &Store, blob: &Descriptor) -> Error {
    crate::store::Error::Missing {
        digest: blob.digest,
        root: store.root().to_owned(),
    }
    .into()
}

/// A lent blob as it is read: one that breaks is struck off.
struct Watched<'a> {
    inner: Box<dyn Read + Send + 'a>,
    lenders: Lenders<'a>,
    blob: Digest,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.lenders.strike(&self.blob);
            }
        })
    }
}
