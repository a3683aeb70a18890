//! Cache mounts that travel with a shared cache: packed as layers at the end of a build, unpacked where a RUN needs one
//! that isn't here yet.
//!
//! What fails costs a line, never the build: a cache mount may always be empty. Owners are those that the RUN sees, and
//! are held on each machine as its way of executing RUN needs it.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};

use super::caches::{Cache, Found, Identity};
use super::history::History;
use super::root::with_layouts;
use super::{RunInput, Runner};
use crate::build::layer::append;
use crate::build::sharing::{SharedMount, Sharing};
use crate::build::stage::Shared;
use crate::cache::shared::{Record, mount_key};
use crate::cache::{self, Blob, Key};
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::image::Layer;
use crate::image::view::View;
use crate::image_path::ImagePath;
use crate::interrupt::Interrupt;
use crate::layer::{LayerIndex, LayerOptions, LayerWriter};
use crate::owners::SideTable;
use crate::plan::step::{RunMountKind, Step};
use crate::rootfs::{self, ChangeSink, Snapshot};
use crate::store::Store;

/// No more layers than this make a cache mount; then it is packed anew as one.
const MOST_LAYERS: usize = 8;
/// So many bytes of files that are gone or replaced are carried along in any case.
const SLACK: u64 = 1 << 20;

/// The cache mounts that a build used; whether what a shared cache has of one turned out to be spoilt.
pub(super) type UsedMounts = std::sync::Mutex<BTreeMap<Identity, bool>>;

fn used<'r>(runner: &'r Runner<'_>) -> MutexGuard<'r, BTreeMap<Identity, bool>> {
    let used = runner.used_mounts.lock();
    used.unwrap_or_else(PoisonError::into_inner)
}

/// Remembers that a RUN uses a cache mount.
pub(super) fn note_use(runner: &Runner<'_>, identity: &Identity) {
    used(runner).entry(identity.clone()).or_default();
}

/// Fills the directory of a new cache mount, which doesn't exist yet, with what the first shared cache has that carries
/// it; false where none can, and then nothing is there.
///
/// # Errors
/// An interrupt; a directory that can't be deleted.
pub(super) fn import(
    input: &RunInput<'_, '_>,
    identity: &Identity,
    place: &Path,
    table: &mut SideTable,
) -> Result<bool> {
    let sharing = input.shared.caching.sharing;
    if !sharing.imports(&identity.id) {
        return Ok(false);
    }
    let id = &identity.id;
    let tell = |message| input.shared.events.send(Event::Notice { message });
    for found in sharing.mounts(id, &key(identity)) {
        input.shared.interrupt.check()?;
        let filled = match found {
            Ok(None) => continue,
            Ok(Some(found)) => fill(input, &found, place, table).map(|()| found),
            Err(error) => Err(error),
        };
        match filled {
            Ok(found) => {
                let (cache, layers) = (found.cache, found.layers.len());
                tell(format!(
                    "the cache mount `{id}` is that of `{cache}` (layers: {layers})"
                ));
                return Ok(true);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                used(input.runner).insert(identity.clone(), true);
                *table = SideTable::default();
                if place.exists() {
                    crate::store::remove_tree(place).map_err(|error| trouble(place, error))?;
                }
                History::forget(folder_above(place));
                let message = error.message();
                tell(format!(
                    "what a shared cache has of the cache mount `{id}` is of no use: {message}"
                ));
            }
        }
    }
    tell(format!(
        "the cache mount `{id}` begins as a new one: no shared cache has it"
    ));
    Ok(false)
}

/// What a cache mount is known by in shared caches.
fn key(identity: &Identity) -> Key {
    mount_key(&identity.id, &identity.beginning())
}

/// The folder of a cache mount, from the directory that is being filled in it.
fn folder_above(place: &Path) -> &Path {
    place.parent().unwrap_or(place)
}

/// Fetches and unpacks the layers of a cache mount.
fn fill(
    input: &RunInput<'_, '_>,
    found: &SharedMount,
    place: &Path,
    table: &mut SideTable,
) -> Result<()> {
    let (shared, store) = (input.shared, input.shared.store);
    for blob in &found.layers {
        shared.interrupt.check()?;
        let lenders = shared.caching.lenders;
        lenders.bring(store, &found.origin, blob)?;
    }
    let made = std::fs::DirBuilder::new().mode(0o755).create(place);
    made.map_err(|error| trouble(place, error))?;
    let layers = layers(&found.layers);
    with_layouts(input, &mut |layouts| {
        layouts.apply(&[], &layers, place, table)
    })?;
    let history = History {
        layers: found.layers.clone(),
        snapshot: Snapshot::take(store, place)?,
    };
    history.save(store, folder_above(place))
}

fn layers(blobs: &[Blob]) -> Vec<Layer> {
    let layers = blobs.iter();
    let layers = layers.map(|blob| Layer::made(blob.descriptor.clone(), blob.diff_id));
    layers.collect()
}

/// Exports the cache mounts that a build used to the shared caches that ask for them. What fails is the failure of those
/// caches.
pub(crate) fn export(shared: &Shared<'_>, sharing: &Sharing<'_>) {
    tell_unknown(shared, sharing);
    let Some(runner) = shared.runner else {
        return;
    };
    let mounts = std::mem::take(&mut *used(runner));
    for (identity, spoilt) in mounts {
        let id = &identity.id;
        if !sharing.exports(id) {
            continue;
        }
        match packed(shared, runner, &identity) {
            Ok(Some(layers)) => {
                let count = layers.len();
                let key = key(&identity);
                let record = Record::Mount { key, layers };
                for target in sharing.put_mount(shared.store, id, &record, spoilt) {
                    let message =
                        format!("the cache mount `{id}` went to `{target}` (layers: {count})");
                    shared.events.send(Event::Notice { message });
                }
            }
            Ok(None) => {}
            Err(error) => sharing.fail_mount(id, &error),
        }
    }
}

/// Tells of ids that `mounts=` names and no RUN has: nobody would notice a slip of the pen.
fn tell_unknown(shared: &Shared<'_>, sharing: &Sharing<'_>) {
    let mut unknown = sharing.named_mounts();
    for step in shared.plan.stages.iter().flat_map(|stage| &stage.steps) {
        let Step::Run(run) = &step.step else {
            continue;
        };
        for mount in &run.mounts {
            if let RunMountKind::Cache { id, .. } = &mount.kind {
                unknown.remove(id.as_str());
            }
        }
    }
    for id in unknown {
        let message = format!("no RUN of this build has a cache mount with the id `{id}`");
        shared.events.send(Event::Notice { message });
    }
}

/// The layers that a cache mount is now; none where there is nothing to export.
fn packed(
    shared: &Shared<'_>,
    runner: &Runner<'_>,
    identity: &Identity,
) -> Result<Option<Vec<Blob>>> {
    let (id, events) = (&identity.id, shared.events);
    let tell = |message| events.send(Event::Notice { message });
    let cache = match Cache::find(shared.store, runner.encoding(), identity)? {
        Found::Free(cache) => cache,
        Found::Absent => return Ok(None),
        Found::Busy => {
            tell(format!(
                "the cache mount `{id}` is not exported: another build is using it"
            ));
            return Ok(None);
        }
    };
    let table = SideTable::load(&cache.owners()).unwrap_or_default();
    let mount = Mount {
        shared,
        runner,
        cache: &cache,
        table: &table,
        identity,
    };
    let (history, left_out) = mount.pack()?;
    if left_out > 0 {
        tell(format!(
            "{left_out} files of the cache mount `{id}` don't travel: names that begin with `.wh.` mean deleted ones"
        ));
    }
    // Without it the next export packs all anew.
    let _ = history.save(shared.store, cache.folder());
    Ok(Some(history.layers).filter(|layers| !layers.is_empty()))
}

/// A cache mount that is packed.
struct Mount<'a> {
    shared: &'a Shared<'a>,
    runner: &'a Runner<'a>,
    cache: &'a Cache,
    table: &'a SideTable,
    identity: &'a Identity,
}

impl Mount<'_> {
    /// Packs what changed since it travelled last, or all of it; gives also how many files were left out.
    fn pack(&self) -> Result<(History, u64)> {
        let store = self.shared.store;
        if let Some(before) = History::load(store, self.cache.folder()) {
            let known = before.layers.len();
            let (after, left_out) = self.pack_since(before)?;
            let grown = after.layers.len() > known;
            if !grown || (after.layers.len() <= MOST_LAYERS && !is_wasteful(store, &after)?) {
                return Ok((after, left_out));
            }
        }
        self.pack_since(History {
            layers: Vec::new(),
            snapshot: Snapshot::nothing(store)?,
        })
    }

    fn pack_since(&self, before: History) -> Result<(History, u64)> {
        let shared = self.shared;
        // Times matter to those who use caches: no epoch clamps them.
        let options = LayerOptions {
            epoch: None,
            ..shared.options
        };
        let description = format!("the cache mount `{}`", self.identity);
        let base = View::new(shared.store, &layers(&before.layers), description)
            .with_source(shared.source);
        let mut sink = Sink {
            writer: LayerWriter::new(shared.store, &options)?,
            interrupt: shared.interrupt,
            left_out: 0,
        };
        let snapshot = rootfs::walk_changes(
            shared.store,
            &self.cache.data(),
            &before.snapshot,
            self.runner.encoding(),
            self.table,
            &base,
            &[],
            &mut sink,
        )?;
        let mut layers = before.layers;
        if sink.writer.files() > 0 {
            let made = sink.writer.finish()?;
            layers.push(Blob {
                form: cache::form(options.compression, None),
                diff_id: made.diff_id,
                descriptor: made.descriptor,
            });
        }
        Ok((History { layers, snapshot }, sink.left_out))
    }
}

/// Whether the layers hold much more than the directory does.
fn is_wasteful(store: &Store, history: &History) -> Result<bool> {
    let mut held = 0_u64;
    for blob in &history.layers {
        let Some(index) = LayerIndex::open(store, &blob.diff_id)? else {
            return Ok(true);
        };
        for record in &index {
            held = held.saturating_add(record?.entry.size());
        }
    }
    let needed = history.snapshot.file_bytes()?;
    Ok(held > needed.saturating_mul(2).saturating_add(SLACK))
}

/// Puts what is in a cache mount into a layer, but for what a layer can't hold.
struct Sink<'a> {
    writer: LayerWriter,
    interrupt: &'a Interrupt,
    left_out: u64,
}

impl Sink<'_> {
    /// Whether a name on the way to a path would be read as the mark of a deleted file.
    fn is_marker(path: &ImagePath) -> bool {
        let mut names = path.as_relative().split(|byte| *byte == b'/');
        names.any(|name| name.starts_with(b".wh."))
    }
}

impl ChangeSink for Sink<'_> {
    fn put(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        self.interrupt.check()?;
        let to_marker =
            matches!(&entry.kind, EntryKind::HardLink { target } if Self::is_marker(target));
        if to_marker || Self::is_marker(&entry.path) {
            self.left_out += 1;
            return Ok(());
        }
        match content {
            Some(bytes) => append(&mut self.writer, self.interrupt, entry, bytes),
            None => Ok(self.writer.append(entry, None)?),
        }
    }

    fn whiteout(&mut self, path: &ImagePath) -> Result<()> {
        Ok(self.writer.append_whiteout(path)?)
    }
}

fn trouble(path: &Path, error: std::io::Error) -> Error {
    let message = format!("cannot make the cache mount's `{}`", path.display());
    Error::new(ErrorKind::Store, message).with_source(error)
}
