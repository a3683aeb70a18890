//! The caches of other machines, as one build reads and writes them.
//!
//! Results are exported while later steps are executed: a few threads take them from a queue.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::build::lending::Lenders;
use crate::build::request::BuildRequest;
use crate::cache::shared::{
    CacheFrom, CacheMode, CacheTarget, CacheTo, LocalCache, LocalTarget, Mounts, Origin, Record,
    RegistryCache, RegistryTarget, SharedCache, SharedTarget,
};
use crate::cache::{Blob, Key};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventSink};
use crate::interrupt::Interrupt;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::Registry;
use crate::store::{BlobSource as _, Store};

/// So many records are exported at once: each is a few requests that wait for their answers.
const WORKERS: usize = 4;

/// A result to export.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    /// What is known.
    pub(crate) record: Record,
    /// Whether its layer is one of the image's.
    pub(crate) in_image: bool,
    /// Whether what other caches have of it is known to be spoilt.
    pub(crate) anew: bool,
}

impl Export {
    /// What tells it from others that are exported: two stages may have a step in common, and only one of them be part of
    /// the image.
    fn name(&self) -> (Digest, Option<String>) {
        let form = match &self.record {
            Record::Step(step) if self.in_image => step.entry.blobs.first(),
            _ => None,
        };
        let form = form.map(|blob| blob.form.clone());
        (self.record.key().digest(), form)
    }
}

/// The caches that a request names.
pub(crate) struct Sharing<'a> {
    caches: Vec<Source<'a>>,
    targets: Vec<Target<'a>>,
    sender: Mutex<Option<Sender<Export>>>,
    receiver: Mutex<Receiver<Export>>,
    /// What was exported: keys, each with whether and how its layer went along.
    done: Mutex<BTreeSet<(Digest, Option<String>)>>,
}

/// One cache to read.
struct Source<'a> {
    from: Box<dyn SharedCache + 'a>,
    name: String,
    mounts: Mounts,
}

/// What a shared cache holds of a cache mount.
#[derive(Debug)]
pub(crate) struct SharedMount {
    /// The cache's name, for people.
    pub(crate) cache: String,
    /// Where its blobs are.
    pub(crate) origin: Origin,
    /// Its layers, the lowest first.
    pub(crate) layers: Vec<Blob>,
}

/// One place to export to.
struct Target<'a> {
    to: Box<dyn SharedTarget + Send + 'a>,
    name: String,
    mode: CacheMode,
    mounts: Mounts,
    ignore_error: bool,
    /// Why nothing more goes there.
    failed: Mutex<Option<Error>>,
}

impl<'a> Sharing<'a> {
    /// Opens what the request names.
    ///
    /// # Errors
    /// A target that would replace an image, a directory that can't be written, a reference where there is no network.
    pub(crate) fn open(
        request: &BuildRequest,
        reads_only: bool,
        lenders: &'a Lenders<'a>,
        events: &dyn EventSink,
    ) -> Result<Self> {
        let platform = request.platform.clone().unwrap_or_else(Platform::host);
        let mut caches = Vec::new();
        for from in &request.cache_from {
            caches.extend(cache(from, &platform, lenders, events)?);
        }
        let targets = request.cache_to.iter().filter(|_| !reads_only);
        let targets = targets.filter_map(|to| target(to, request, lenders).transpose());
        let (sender, receiver) = channel();
        Ok(Self {
            targets: targets.collect::<Result<_>>()?,
            caches,
            sender: Mutex::new(Some(sender)),
            receiver: Mutex::new(receiver),
            done: Mutex::default(),
        })
    }

    /// The caches to read.
    pub(crate) fn caches(&self) -> impl Iterator<Item = &(dyn SharedCache + 'a)> {
        self.caches.iter().map(|source| &*source.from)
    }

    /// What the caches that carry the cache mount `id` hold under its key, in their order; each is asked when its turn
    /// comes.
    pub(crate) fn mounts(
        &self,
        id: &str,
        key: &Key,
    ) -> impl Iterator<Item = Result<Option<SharedMount>>> {
        let carriers = self.caches.iter();
        let carriers = carriers.filter(move |source| source.mounts.contains(id));
        carriers.map(move |source| {
            let found = source.from.mount(key)?;
            Ok(found.map(|layers| SharedMount {
                cache: source.name.clone(),
                origin: source.from.origin(),
                layers,
            }))
        })
    }

    /// Whether the cache mount `id` is imported.
    pub(crate) fn imports(&self, id: &str) -> bool {
        self.caches.iter().any(|source| source.mounts.contains(id))
    }

    /// Whether the cache mount `id` is exported.
    pub(crate) fn exports(&self, id: &str) -> bool {
        self.targets.iter().any(|target| target.mounts.contains(id))
    }

    /// The ids of cache mounts that the request names.
    pub(crate) fn named_mounts(&self) -> BTreeSet<&str> {
        let from = self.caches.iter().map(|source| &source.mounts);
        let to = self.targets.iter().map(|target| &target.mounts);
        let named = from.chain(to).filter_map(|mounts| match mounts {
            Mounts::Named(ids) => Some(ids),
            Mounts::None | Mounts::All => None,
        });
        named.flatten().map(String::as_str).collect()
    }

    /// Exports the record of a cache mount to the targets that ask for it; gives their names, where anything was written.
    pub(crate) fn put_mount(
        &self,
        store: &Store,
        id: &str,
        record: &Record,
        anew: bool,
    ) -> Vec<&str> {
        let asked = self.targets.iter();
        let asked = asked.filter(|target| target.mounts.contains(id));
        let written = asked.filter(|target| target.put_record(store, record, anew));
        written.map(|target| target.name.as_str()).collect()
    }

    /// Says to the targets that ask for a cache mount why they don't get it.
    pub(crate) fn fail_mount(&self, id: &str, error: &Error) {
        let asked = self.targets.iter();
        for target in asked.filter(|target| target.mounts.contains(id)) {
            let copy = Error::new(error.kind(), error.message());
            lock(&target.failed).get_or_insert(copy);
        }
    }

    /// How many threads export.
    pub(crate) fn workers(&self) -> usize {
        if self.targets.is_empty() { 0 } else { WORKERS }
    }

    /// Hands a result over. Nobody waits for it.
    pub(crate) fn send(&self, export: Export) {
        if let (Some(sender), false) = (&*lock(&self.sender), self.targets.is_empty()) {
            // The receiver lives as long as this.
            let _ = sender.send(export);
        }
    }

    /// Says that nothing more comes, when what it gives is dropped.
    pub(crate) fn closing(&self) -> Closing<'_> {
        Closing(&self.sender)
    }

    /// Exports what comes until nothing more does. For several threads.
    pub(crate) fn work(&self, store: &Store, lenders: &Lenders<'_>, interrupt: &Interrupt) {
        loop {
            let next = lock(&self.receiver).recv();
            let Ok(export) = next else {
                return;
            };
            // Who asked to stop does not wait for others.
            if interrupt.is_set() {
                continue;
            }
            let new = lock(&self.done).insert(export.name());
            if new || export.anew {
                for target in &self.targets {
                    target.put(store, lenders, &export);
                }
            }
        }
    }

    /// Ends the export.
    ///
    /// # Errors
    /// Those of targets whose failure counts.
    pub(crate) fn finish(&self, events: &dyn EventSink) -> Result<()> {
        self.targets
            .iter()
            .try_for_each(|target| target.finish(events))
    }
}

/// Says that nothing more comes, however the build ends.
pub(crate) struct Closing<'s>(&'s Mutex<Option<Sender<Export>>>);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        lock(self.0).take();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn registry<'a>(lenders: &Lenders<'a>, reference: &Reference) -> Result<&'a Registry<'a>> {
    lenders.registry.ok_or_else(|| {
        let message = format!("the cache `{}` needs a network", reference.familiar());
        Error::new(ErrorKind::Usage, message).with_help("give the build a transport")
    })
}

fn cache<'a>(
    from: &CacheFrom,
    platform: &Platform,
    lenders: &'a Lenders<'a>,
    events: &dyn EventSink,
) -> Result<Option<Source<'a>>> {
    let (reference, plain, mounts) = match from {
        CacheFrom::Registry(reference, mounts) => (reference, false, mounts.clone()),
        CacheFrom::Image(reference) => (reference, true, Mounts::None),
        CacheFrom::Local(path, mounts) => {
            let cache = LocalCache::open(path);
            if cache.is_none() {
                let message = format!("the cache `{}` is not there yet", path.display());
                events.send(Event::Notice { message });
            }
            return Ok(cache.map(|cache| Source {
                from: Box::new(cache),
                name: path.display().to_string(),
                mounts: mounts.clone(),
            }));
        }
    };
    let registry = registry(lenders, reference)?;
    let cache = RegistryCache::new(registry, reference.clone(), platform.clone(), plain);
    Ok(Some(Source {
        from: Box::new(cache),
        name: reference.familiar(),
        mounts,
    }))
}

/// None for what is no place of its own.
fn target<'a>(
    to: &CacheTo,
    request: &BuildRequest,
    lenders: &'a Lenders<'a>,
) -> Result<Option<Target<'a>>> {
    let (place, name): (Box<dyn SharedTarget + Send + 'a>, String) = match &to.target {
        CacheTarget::Registry(reference) if request.references.contains(reference) => {
            let name = reference.familiar();
            let message = format!("`{name}` is to be both the image and its cache");
            return Err(Error::new(ErrorKind::Usage, message).with_help(
                "give the cache a reference of its own, or use `--cache-to type=inline`",
            ));
        }
        CacheTarget::Registry(reference) => {
            let target =
                RegistryTarget::open(registry(lenders, reference)?, reference, to.ignore_existing)?;
            (Box::new(target), reference.familiar())
        }
        CacheTarget::Local(path) => {
            let target = LocalTarget::open(path, lenders)?;
            (Box::new(target), path.display().to_string())
        }
        CacheTarget::Inline => return Ok(None),
    };
    Ok(Some(Target {
        to: place,
        name,
        mode: to.mode,
        mounts: to.mounts.clone(),
        ignore_error: to.ignore_error,
        failed: Mutex::default(),
    }))
}

impl Target<'_> {
    fn put(&self, store: &Store, lenders: &Lenders<'_>, export: &Export) {
        let mut record = export.record.clone();
        let mut lent = false;
        if let Record::Step(step) = &mut record {
            if self.mode == CacheMode::Min && !export.in_image {
                step.entry.blobs.clear();
            }
            for blob in &step.entry.blobs {
                lent |= lenders.lending.loan(&blob.descriptor.digest).is_some();
            }
        }
        if !lent || self.put_lent(store, lenders, &record).is_err() {
            self.put_record(store, &record.without_blobs_if(lent), export.anew);
        }
    }

    /// Writes a record whose layer this build only counts on. Nobody has to have it: then its key goes alone.
    fn put_lent(&self, store: &Store, lenders: &Lenders<'_>, record: &Record) -> Result<()> {
        if let Record::Step(step) = record {
            for blob in &step.entry.blobs {
                let loan = lenders.lending.loan(&blob.descriptor.digest);
                // What only another directory has goes through the store.
                if loan.is_some_and(|loan| loan.directory.is_some()) {
                    lenders.fetch(store, std::slice::from_ref(&blob.descriptor))?;
                }
            }
        }
        if lock(&self.failed).is_none() {
            self.to.put(store, record, false)?;
        }
        Ok(())
    }

    /// Writes a record; gives whether that was needed, and done.
    fn put_record(&self, store: &Store, record: &Record, anew: bool) -> bool {
        if lock(&self.failed).is_some() {
            return false;
        }
        match self.to.put(store, record, anew) {
            Ok(written) => written,
            Err(error) => {
                lock(&self.failed).get_or_insert(error);
                false
            }
        }
    }

    fn finish(&self, events: &dyn EventSink) -> Result<()> {
        let failed = lock(&self.failed).take();
        let result = failed.map_or_else(|| self.to.finish(), Err);
        match result {
            Err(error) if self.ignore_error && error.kind() != ErrorKind::Interrupted => {
                let message = format!(
                    "the cache `{}` was not written: {}",
                    self.name,
                    error.message()
                );
                events.send(Event::Notice { message });
                Ok(())
            }
            Err(error) => {
                let note = format!(
                    "the image is complete; its cache for `{}` is not",
                    self.name
                );
                Err(error
                    .with_note(note)
                    .with_help("`ignore-error=true` makes this a remark"))
            }
            Ok(()) => Ok(()),
        }
    }
}
