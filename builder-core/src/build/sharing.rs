//! The caches of other machines, as one build reads and writes them.
//!
//! Results are exported while later steps are executed: a few threads take them from a queue.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::build::lending::Lenders;
use crate::build::request::BuildRequest;
use crate::cache::shared::{
    CacheFrom, CacheMode, CacheTarget, CacheTo, LocalCache, LocalTarget, Record, RegistryCache,
    RegistryTarget, SharedCache, SharedTarget,
};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventSink};
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

/// The caches that a request names.
pub(crate) struct Sharing<'a> {
    caches: Vec<Box<dyn SharedCache + 'a>>,
    targets: Vec<Target<'a>>,
    sender: Mutex<Option<Sender<Export>>>,
    receiver: Mutex<Receiver<Export>>,
    /// Keys that were exported.
    done: Mutex<BTreeSet<Digest>>,
}

/// One place to export to.
struct Target<'a> {
    to: Box<dyn SharedTarget + Send + 'a>,
    name: String,
    mode: CacheMode,
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
        lenders: &'a Lenders<'a>,
        events: &dyn EventSink,
    ) -> Result<Self> {
        let platform = request.platform.clone().unwrap_or_else(Platform::host);
        let mut caches = Vec::new();
        for from in &request.cache_from {
            caches.extend(cache(from, &platform, lenders, events)?);
        }
        let targets = request.cache_to.iter();
        let targets = targets.filter_map(|to| target(to, lenders).transpose());
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
    pub(crate) fn caches(&self) -> &[Box<dyn SharedCache + 'a>] {
        &self.caches
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
    pub(crate) fn work(&self, store: &Store, lenders: &Lenders<'_>) {
        loop {
            let next = lock(&self.receiver).recv();
            let Ok(export) = next else {
                return;
            };
            let new = lock(&self.done).insert(export.record.key().digest());
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
) -> Result<Option<Box<dyn SharedCache + 'a>>> {
    let (reference, plain) = match from {
        CacheFrom::Registry(reference) => (reference, false),
        CacheFrom::Image(reference) => (reference, true),
        CacheFrom::Local(path) => {
            let cache = LocalCache::open(path);
            if cache.is_none() {
                let message = format!("the cache `{}` is not there yet", path.display());
                events.send(Event::Notice { message });
            }
            return Ok(cache.map(|cache| Box::new(cache) as _));
        }
    };
    let registry = registry(lenders, reference)?;
    let cache = RegistryCache::new(registry, reference.clone(), platform.clone(), plain);
    Ok(Some(Box::new(cache)))
}

/// None for what is no place of its own.
fn target<'a>(to: &CacheTo, lenders: &'a Lenders<'a>) -> Result<Option<Target<'a>>> {
    let (place, name): (Box<dyn SharedTarget + Send + 'a>, String) = match &to.target {
        CacheTarget::Registry(reference) => {
            let target = RegistryTarget::open(registry(lenders, reference)?, reference)?;
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
        ignore_error: to.ignore_error,
        failed: Mutex::default(),
    }))
}

impl Target<'_> {
    fn put(&self, store: &Store, lenders: &Lenders<'_>, export: &Export) {
        if lock(&self.failed).is_some() {
            return;
        }
        let mut record = export.record.clone();
        if let Record::Step(step) = &mut record {
            if self.mode == CacheMode::Min && !export.in_image {
                step.entry.blobs.clear();
            }
            // What only another directory has goes through the store.
            for blob in &step.entry.blobs {
                let loan = lenders.lending.loan(&blob.descriptor.digest);
                if loan.is_some_and(|loan| loan.directory.is_some()) {
                    let blobs = std::slice::from_ref(&blob.descriptor);
                    if let Err(error) = lenders.fetch(store, blobs) {
                        lock(&self.failed).get_or_insert(error);
                        return;
                    }
                }
            }
        }
        if let Err(error) = self.to.put(store, &record, export.anew) {
            lock(&self.failed).get_or_insert(error);
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
