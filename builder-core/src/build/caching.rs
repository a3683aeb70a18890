//! Steps through the build cache: a step whose key is known is not executed.
//!
//! What is looked at to make a key is what the key is about, and nothing else: a hit needs no look into the base, no
//! layer's bytes, and of the build context only what stat(2) says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::build::lending::Lenders;
use crate::build::request::BuildRequest;
use crate::build::sharing::{Export, Sharing};
use crate::build::stage::{self, Shared};
use crate::cache::recent::{self, family};
use crate::cache::shared::{Record, SharedCache, StepRecord};
use crate::cache::stat_index::StatIndex;
use crate::cache::{self, Blob, Cache, Entry, Key};
use crate::digest::{DiffId, Digest};
use crate::error::Result;
use crate::event::{Event, Reason, StepId};
use crate::image::Layer;
use crate::layer::{Layer as NewLayer, LayerOptions};
use crate::oci::Descriptor;
use crate::plan::step::StageBase;
use crate::plan::{Plan, PlannedStage};
use crate::store::Store;
use crate::timestamp::Timestamp;

/// The cache as one build uses it.
pub(crate) struct Caching<'a> {
    pub(super) cache: Cache,
    /// How this build writes layers.
    pub(super) form: String,
    /// What tells this Dockerfile from others.
    place: String,
    /// Nothing is looked up.
    off: bool,
    /// Of these stages nothing is looked up.
    off_stages: &'a [String],
    indexes: Mutex<BTreeMap<PathBuf, Arc<StatIndex>>>,
    /// Keys of this build, which are no earlier ones.
    own: Mutex<BTreeSet<Digest>>,
    /// Whether a step saw other files than its key speaks of.
    unsteady: AtomicBool,
    /// The caches of other machines.
    pub(super) sharing: &'a Sharing<'a>,
    /// Where the layers are that were found and aren't here.
    pub(super) lenders: &'a Lenders<'a>,
    /// The stages whose layers are layers of the image, by their indexes.
    pub(super) in_image: BTreeSet<usize>,
    /// All that this build found or made, for a record within the image.
    records: Mutex<BTreeMap<Digest, Record>>,
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
    pub(crate) fn new(
        store: &Store,
        options: &LayerOptions,
        request: &'a BuildRequest,
        plan: &Plan,
        sharing: &'a Sharing<'a>,
        lenders: &'a Lenders<'a>,
    ) -> Self {
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
            unsteady: AtomicBool::new(false),
            sharing,
            lenders,
            in_image: in_image(plan),
            records: Mutex::default(),
        }
    }

    /// The index of a directory of the host.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn index(&self, store: &Store, directory: &Path) -> Result<Arc<StatIndex>> {
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = indexes.get(directory) {
            return Ok(Arc::clone(index));
        }
        let path = directory.canonicalize();
        let path = path.unwrap_or_else(|_| directory.to_owned());
        let name = Digest::of(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
        let index = Arc::new(StatIndex::open(store, &name)?);
        indexes.insert(directory.to_owned(), Arc::clone(&index));
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

    /// Says that a directory of the host was changed while a step read it: no key stands for what is made from now on.
    pub(crate) fn distrust(&self) {
        self.unsteady.store(true, Ordering::Relaxed);
    }

    /// Whether a directory of the host was changed while this build read it.
    fn is_unsteady(&self) -> bool {
        if self.unsteady.load(Ordering::Relaxed) {
            return true;
        }
        let indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.values().any(|index| index.is_unsteady())
    }

    /// Whether nothing is looked up for a stage.
    pub(crate) fn is_off(&self, stage: &PlannedStage) -> bool {
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
        let shared = self.sharing.caches().next().is_some() && !self.is_off(asked.stage);
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        !shared && (self.is_off(asked.stage) || known.iter().all(|key| own.contains(key)))
    }

    /// When an image was made that is this one but for its times, here or on another machine: `now` where it never was.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn made_at(&self, image: &Key, now: Timestamp) -> Result<Timestamp> {
        let known = || {
            let mut shared = self.sharing.caches();
            let known = self.cache.created(image);
            let known = known.or_else(|| shared.find_map(|cache| cache.created(image)));
            Timestamp::parse_rfc3339(&known?)
        };
        let time = if self.off { None } else { known() }.unwrap_or(now);
        let (key, created) = (image.clone(), time.to_rfc3339());
        self.cache.put_created(&key, &created)?;
        self.report(Record::Image { key, created }, false, false);
        Ok(time)
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
        let shared = asked.shared;
        let mut waits = || {
            let message = "another build executes this step: waiting for its result".to_owned();
            shared.events.send(Event::Notice { message });
        };
        let _alone = self.cache.lock(key, shared.interrupt, &mut waits)?;
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
            self.cache.put(key, made.diff_id, blob.clone())?;
            self.remember(asked, key)?;
            self.report_step(asked, key, made.diff_id, Some(blob));
        }
        Ok(Layer::made(made.descriptor.clone(), made.diff_id))
    }

    /// What a selection of files holds, as this machine or another one knows.
    pub(crate) fn selection(&self, stage: &PlannedStage, key: &Key) -> Result<Option<Digest>> {
        let mut known = self.cache.selection(key);
        if known.is_none() && !self.is_off(stage) {
            let mut caches = self.sharing.caches();
            known = caches.find_map(|cache| cache.selection(key));
            if let Some(files) = &known {
                self.cache.put_selection(key, files)?;
            }
        }
        if let Some(files) = known {
            self.report_selection(key, files);
        }
        Ok(known)
    }

    /// Remembers what a selection holds.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn put_selection(&self, key: &Key, files: Digest) -> Result<()> {
        self.report_selection(key, files);
        self.cache.put_selection(key, &files)
    }

    fn report_selection(&self, key: &Key, files: Digest) {
        let key = key.clone();
        self.report(Record::Selection { key, files }, false, false);
    }

    /// Tells what a step's result is to those who share it.
    pub(super) fn report_step(
        &self,
        asked: &Asked<'_>,
        key: &Key,
        identity: DiffId,
        blob: Option<Blob>,
    ) {
        let entry = Entry {
            key: key.clone(),
            identity,
            blobs: blob.into_iter().collect(),
        };
        let record = Record::Step(Box::new(StepRecord { entry, index: None }));
        let in_image = self.in_image.contains(&asked.stage.index);
        let anew = self.lenders.lending.is_struck(&key.digest());
        self.report(record, in_image, anew);
    }

    pub(super) fn report(&self, record: Record, in_image: bool, anew: bool) {
        let mut own = record.clone();
        if let (Record::Step(step), false) = (&mut own, in_image) {
            step.entry.blobs.clear();
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let known = records.get(&own.key().digest());
        // Another stage may have the same step, and only one of them be part of the image.
        if !known.is_some_and(|known| own.is_covered_by(known)) {
            records.insert(own.key().digest(), own);
        }
        drop(records);
        self.sharing.send(Export {
            record,
            in_image,
            anew,
        });
    }

    /// What this build found or made, in the order of the keys' digests; blobs are named of the image's layers only.
    pub(crate) fn records(&self) -> Vec<Record> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.values().cloned().collect()
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
        let mut reasons = reasons.unwrap_or_else(|| self.cache.why(&asked.family(), key, &own));
        if reasons == [Reason::New] {
            // Where this machine never executed it, another one may have.
            let shared = self.sharing.caches().flat_map(SharedCache::keys);
            let shared = shared.filter(|key| !own.contains(&key.digest()));
            reasons = recent::differences(key, shared).unwrap_or(reasons);
        }
        if asked.shared.only_asks || reasons != [Reason::New] {
            let id = asked.id;
            asked.tell(Event::StepMissed { id, reasons });
        }
    }
}

/// The target and the stages that it is based on, one on the other.
fn in_image(plan: &Plan) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut next = Some(plan.target);
    while let Some(index) = next.filter(|index| found.insert(*index)) {
        let stage = plan.stages.iter().find(|stage| stage.index == index);
        next = stage.and_then(|stage| match stage.base {
            StageBase::Stage(base) => Some(base),
            _ => None,
        });
    }
    found
}
