//! Steps through the build cache: a step whose key is known is not executed.
//!
//! What is looked at to make a key is what the key is about, and nothing else: a hit needs no look into the base, no
//! layer's bytes, and of the build context only what stat(2) says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::build::request::BuildRequest;
use crate::build::rewrite;
use crate::build::stage::{self, Shared};
use crate::cache::recent::family;
use crate::cache::stat_index::StatIndex;
use crate::cache::{self, Blob, Cache, Entry, Key};
use crate::digest::Digest;
use crate::error::Result;
use crate::event::{Event, Reason, StepId};
use crate::image::Layer;
use crate::layer::{Layer as NewLayer, LayerOptions};
use crate::oci::Descriptor;
use crate::plan::PlannedStage;
use crate::store::Store;

/// The cache as one build uses it.
#[derive(Debug)]
pub(crate) struct Caching<'a> {
    cache: Cache,
    /// How this build writes layers.
    form: String,
    /// What tells this Dockerfile from others.
    place: String,
    /// Nothing is looked up.
    off: bool,
    /// Of these stages nothing is looked up.
    off_stages: &'a [String],
    indexes: Mutex<BTreeMap<PathBuf, Arc<StatIndex>>>,
    /// Keys of this build, which are no earlier ones.
    own: Mutex<BTreeSet<Digest>>,
}

/// What became of a step.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and nearly always the large one"
)]
pub(crate) enum Made {
    /// It makes no layer.
    Nothing,
    /// Its layer.
    Layer(Layer),
    /// It would be executed, and nobody asked for that.
    Unknown,
}

/// A step as the cache sees it.
pub(crate) struct Asked<'a> {
    /// The build.
    pub(crate) shared: &'a Shared<'a>,
    /// Its stage.
    pub(crate) stage: &'a PlannedStage,
    /// Its number.
    pub(crate) id: StepId,
    /// Its keyword.
    pub(crate) keyword: &'static str,
}

impl Asked<'_> {
    /// The place in the Dockerfile, as far as it is the same from one edit to the next.
    fn family(&self) -> Digest {
        let stage = stage::name(self.stage);
        family(&[&self.shared.caching.place, &stage, self.keyword])
    }

    /// Tells something of the step. That a base which is a directory was found is not worth a word.
    fn tell(&self, event: Event) {
        let base = self.keyword == "FROM";
        if !(base && matches!(event, Event::StepCached { .. })) {
            self.shared.events.send(event);
        }
    }
}

impl<'a> Caching<'a> {
    /// The cache of a store, for layers written as `options` says.
    pub(crate) fn new(store: &Store, options: &LayerOptions, request: &'a BuildRequest) -> Self {
        let context = request.context.directory().map(Path::display);
        let context = context.map_or_else(String::new, |path| path.to_string());
        Self {
            cache: Cache::new(store),
            form: cache::form(options.compression, options.epoch),
            place: format!("{context}\0{}", request.dockerfile.name),
            off: request.no_cache,
            off_stages: &request.no_cache_filter,
            indexes: Mutex::default(),
            own: Mutex::default(),
        }
    }

    /// The cache itself.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The index of a directory of the host.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn index(&self, store: &Store, directory: &Path) -> Result<Arc<StatIndex>> {
        let path = directory
            .canonicalize()
            .unwrap_or_else(|_| directory.to_owned());
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = indexes.get(&path) {
            return Ok(Arc::clone(index));
        }
        let name = Digest::of(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
        let index = Arc::new(StatIndex::open(store, &name)?);
        indexes.insert(path, Arc::clone(&index));
        Ok(index)
    }

    /// Keeps what was learnt of the host's directories.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn save(&self) -> Result<()> {
        let indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.values().try_for_each(|index| index.save())
    }

    /// Whether a directory of the host was changed while this build read it.
    fn is_unsteady(&self) -> bool {
        let indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.values().any(|index| index.is_unsteady())
    }

    /// Whether nothing is looked up for a stage.
    fn is_off(&self, stage: &PlannedStage) -> bool {
        self.off
            || self
                .off_stages
                .iter()
                .any(|name| *name == stage::name(stage))
    }

    /// Whether a step like this was ever executed: without, there is nothing to find, and its key need not be known
    /// before.
    pub(crate) fn is_new(&self, asked: &Asked<'_>) -> bool {
        let known = self.cache.recent(&asked.family());
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_off(asked.stage) || known.iter().all(|key| own.contains(key))
    }

    /// Remembers a key as the newest of its place.
    fn remember(&self, asked: &Asked<'_>, key: &Key) -> Result<()> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.insert(key.digest());
        self.cache.remember(&asked.family(), key)
    }

    /// The layer of a step: as it is known under the key, or as `execute` makes it; unknown where the question is only
    /// whether it would be made.
    ///
    /// # Errors
    /// Those of `execute` and of the store.
    pub(crate) fn through(
        &self,
        asked: &Asked<'_>,
        key: &Key,
        execute: impl FnOnce(Option<&Descriptor>) -> Result<NewLayer>,
    ) -> Result<Made> {
        let _alone = self.cache.lock(key)?;
        if !self.is_off(asked.stage) {
            if let Some(layer) = self.find(asked, key)? {
                self.cache.touch(key);
                self.remember(asked, key)?;
                asked.tell(Event::StepCached { id: asked.id });
                return Ok(Made::Layer(layer));
            }
            self.explain(asked, key);
        }
        if asked.shared.only_asks {
            return Ok(Made::Unknown);
        }
        let previous = self.previous(asked, key);
        let made = execute(previous.as_ref())?;
        self.keep(asked, key, &made).map(Made::Layer)
    }

    /// The blob of the step that is most like this one.
    fn previous(&self, asked: &Asked<'_>, key: &Key) -> Option<Descriptor> {
        let nearest = self.cache.nearest(&asked.family(), key, &BTreeSet::new())?;
        let blob = nearest.blobs.iter().find(|blob| blob.form == self.form);
        blob.map(|blob| blob.descriptor.clone())
    }

    /// Keeps what a step made under its key.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn keep(&self, asked: &Asked<'_>, key: &Key, made: &NewLayer) -> Result<Layer> {
        let blob = Blob {
            form: self.form.clone(),
            diff_id: made.diff_id,
            descriptor: made.descriptor.clone(),
        };
        // What was changed while it was read may not be what the key says: it is a layer, but not for later builds.
        if !self.is_unsteady() {
            self.cache.put(key, made.diff_id, blob)?;
            self.remember(asked, key)?;
        }
        Ok(Layer::made(made.descriptor.clone(), made.diff_id))
    }

    /// The layer that is known under a key, if its blob is here, or can be written from one that is.
    fn find(&self, asked: &Asked<'_>, key: &Key) -> Result<Option<Layer>> {
        let Some(entry) = self.cache.get(key) else {
            return Ok(None);
        };
        let store = asked.shared.store;
        let here = |blob: &&Blob| {
            let size = store.blob_size(&blob.descriptor.digest);
            size.is_ok_and(|size| size == Some(blob.descriptor.size))
        };
        let wanted = entry.blobs.iter().find(|blob| blob.form == self.form);
        if let Some(blob) = wanted.filter(here) {
            return Ok(Some(layer(&entry, blob)));
        }
        let Some(other) = entry.blobs.iter().find(here) else {
            return Ok(None);
        };
        let made = rewrite::layer(asked.shared, &layer(&entry, other), asked.id)?;
        let blob = Blob {
            form: self.form.clone(),
            diff_id: made.diff_id,
            descriptor: made.descriptor.clone(),
        };
        self.cache.put(key, entry.identity, blob)?;
        let mut rewritten = Layer::made(made.descriptor, made.diff_id);
        rewritten.identity = entry.identity;
        Ok(Some(rewritten))
    }

    /// The reason of a step that is known, but whose layer is not here any more.
    fn gone(&self, key: &Key) -> Option<Vec<Reason>> {
        self.cache.get(key)?;
        Some(vec![Reason::Part {
            name: "gone".to_owned(),
            before: None,
            now: None,
        }])
    }

    /// Says why a step is executed again.
    fn explain(&self, asked: &Asked<'_>, key: &Key) {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let reasons = self.gone(key);
        let reasons = reasons.unwrap_or_else(|| self.cache.why(&asked.family(), key, &own));
        if asked.shared.only_asks || reasons != [Reason::New] {
            let id = asked.id;
            asked.tell(Event::StepMissed { id, reasons });
        }
    }
}

fn layer(entry: &Entry, blob: &Blob) -> Layer {
    Layer {
        descriptor: blob.descriptor.clone(),
        diff_id: blob.diff_id,
        identity: entry.identity,
        fresh: false,
    }
}
