//! A build from its request to its result: parse, resolve, plan, execute, commit, output.
//!
//! Each stage returns a value to this corridor; nobody holds a reference back.

mod arrival;
mod caching;
mod copy;
pub mod elsewhere;
mod finder;
pub mod git;
mod images;
mod keys;
mod layer;
mod owner;
mod permissions;
mod planning;
pub mod remote;
pub mod request;
mod rewrite;
mod run;
mod schedule;
mod stage;
mod step;
mod target;
mod unpack;
mod workdir;

use std::sync::Mutex;

use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, ImageId};
use crate::error::Result;
use crate::event::{Event, EventSink};
use crate::image::{Committed, Image};
use crate::interrupt::Interrupt;
use crate::layer::LayerOptions;
use crate::output::{self, Bundle, Output};
use crate::plan::Plan;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::Registry;
use crate::registry::retry::SystemClock;
use crate::store::{BlobSource as _, Store};
use crate::timestamp::Timestamp;
use caching::{Caching, Wishes};
use images::Images;
use remote::Remote;
use request::{BuildRequest, ContextSource};
use run::Runner;
use stage::Shared;

/// What a build made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The digest of the manifest: what `-q` prints.
    pub digest: Digest,
    /// The digest of the config.
    pub image_id: ImageId,
    /// The names it has in the store.
    pub references: Vec<Reference>,
    /// The platform it is for.
    pub platform: Platform,
    /// The size of the manifest's layers in bytes, as stored.
    pub layer_bytes: u64,
}

/// Builds an image: into the store, under its references, and to every output.
///
/// # Errors
/// See [`ErrorKind`]. Nothing is half done: an image that failed has no name, and an output that failed isn't there.
pub fn build(
    store: &Store,
    mut request: BuildRequest,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<Built> {
    let _in_use = store.lock_for_use()?;
    request.outputs.iter().try_for_each(output::check)?;
    let outputs = std::mem::take(&mut request.outputs);
    let named = request.named_contexts.clone();
    let clock = SystemClock::default();
    let registry = registry(&request, &clock, events, interrupt);
    let (transport, git) = (request.transport.clone(), request.git.clone());
    let remote = Remote {
        store,
        transport: transport.as_deref().map(|transport| transport as _),
        git: &git,
        events,
        interrupt,
    };
    let mut images = Images::new(store, &named)
        .with_registry(registry.as_ref(), request.pull)
        .with_remote(remote);
    let mut planned = planning::plan(&request, &mut images)?;
    let file = &request.dockerfile;
    let context = open_context(store, &request)?;
    planned.add_ignored_sources(context.as_ref());
    planning::refuse_findings(file, &planned.warnings)?;
    for diagnostic in std::mem::take(&mut planned.warnings) {
        events.send(Event::Diagnostic {
            file: file.clone(),
            diagnostic,
        });
    }
    let plan = &planned.plan;
    let runner = Runner::find(plan, file, store, &request.run, interrupt)?;
    if let Some(runner) = &runner {
        let message = format!("RUN is executed by {}", runner.describe());
        events.send(Event::Notice { message });
    }
    let epoch = plan.epoch.map(Timestamp::from_seconds).or(request.epoch);
    let now = epoch.unwrap_or(request.now);
    let options = LayerOptions {
        compression: request.compression,
        epoch,
        threads: request.threads.max(1),
    };
    let context_path = match &request.context {
        ContextSource::Directory { path, .. } => Some(path.as_path()),
        _ => None,
    };
    let place = context_path.map_or_else(String::new, |path| path.display().to_string());
    let wishes = Wishes {
        off: request.no_cache,
        off_stages: &request.no_cache_filter,
        place: &format!("{place}\0{}", file.name),
    };
    let caching = Caching::new(store, &options, &wishes);
    let shared = Shared {
        file,
        store,
        context: match (&context, &request.context) {
            (Some(context), _) => Some(context),
            (None, ContextSource::Archive(archive)) => Some(&**archive),
            (None, ContextSource::Fetched(fetched)) => Some(&**fetched),
            (None, _) => None,
        },
        remote,
        options,
        now,
        runner: runner.as_ref(),
        caching: &caching,
        context_path,
        plan,
        events,
        source: registry.as_ref().map(|registry| registry as _),
        interrupt,
    };
    announce(&shared);
    let executed = schedule::execute(&shared, planned.bases, &Mutex::new(images), request.jobs);
    caching.save()?;
    let image = executed?;
    let committed = commit(&shared, image, &request)?;
    deliver(&shared, &committed, outputs, &request, registry.as_ref())?;
    Ok(built(&committed, request.references.clone(), &planned.plan))
}

/// Writes the outputs, sends the image to its registries, and gives it its names, in this order.
fn deliver(
    shared: &Shared<'_>,
    committed: &Committed,
    outputs: Vec<Output>,
    request: &BuildRequest,
    registry: Option<&Registry<'_>>,
) -> Result<()> {
    let store = shared.store;
    let bundle = Bundle {
        image: committed,
        references: &request.references,
        time: shared.now,
        epoch: shared.options.epoch,
    };
    if let (Some(registry), false) = (registry, outputs.is_empty()) {
        let layers = committed.layers.iter().map(|layer| &layer.descriptor);
        registry.fetch(store, &store.missing(layers)?)?;
    }
    for mut output in outputs {
        output::write(store, &bundle, &mut output, shared.events, shared.interrupt)?;
    }
    if let (Some(registry), true) = (registry, request.push) {
        registry.push(store, &committed.manifest, &request.references)?;
    }
    tag(shared, committed, &request.references)
}

/// The registries, where the request gives the means to reach them.
fn registry<'a>(
    request: &'a BuildRequest,
    clock: &'a SystemClock,
    events: &'a dyn EventSink,
    interrupt: &'a Interrupt,
) -> Option<Registry<'a>> {
    let (transport, access) = request
        .transport
        .as_deref()
        .zip(request.registry.as_ref())?;
    Some(Registry::new(
        transport,
        clock,
        &*access.credentials,
        &access.options,
        events,
        interrupt,
    ))
}

/// Makes the plan of a request without executing anything, with the warnings found on the way.
///
/// # Errors
/// Every problem of the Dockerfile at once, and base images that can't be found.
pub fn plan(store: &Store, request: &BuildRequest) -> Result<(Plan, Vec<Diagnostic>)> {
    let (clock, interrupt) = (SystemClock::default(), Interrupt::default());
    let registry = registry(request, &clock, &crate::event::Silent, &interrupt);
    let remote = Remote {
        store,
        transport: request.transport.as_deref().map(|transport| transport as _),
        git: &request.git,
        events: &crate::event::Silent,
        interrupt: &interrupt,
    };
    let mut images = Images::new(store, &request.named_contexts)
        .with_registry(registry.as_ref(), request.pull)
        .with_remote(remote);
    let planned = planning::plan(request, &mut images)?;
    Ok((planned.plan, planned.warnings))
}

/// Every problem of a Dockerfile, errors and warnings, in the order of the file; of all stages unless a target is
/// named. A base image that isn't in the store is taken for an empty one: its own errors come with the build.
///
/// # Errors
/// A context or an ignore file that can't be read.
pub fn check(store: &Store, request: &BuildRequest) -> Result<Vec<Diagnostic>> {
    let mut images = Images::new(store, &request.named_contexts);
    let context = open_context(store, request)?;
    Ok(planning::check(request, &mut images, context.as_ref()))
}

fn open_context(store: &Store, request: &BuildRequest) -> Result<Option<Context>> {
    match &request.context {
        ContextSource::Empty | ContextSource::Archive(_) | ContextSource::Fetched(_) => Ok(None),
        ContextSource::Directory { path, ignore_files } => {
            let outputs = output::record::outputs_in(store, path);
            Context::open(path, ignore_files, &outputs, "the build context").map(Some)
        }
    }
}

fn announce(shared: &Shared<'_>) {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let steps = shared
        .plan
        .stages
        .iter()
        .map(|stage| stage.steps.len())
        .sum();
    shared.events.send(Event::Planned {
        steps: count(steps),
        stages: count(shared.plan.stages.len()),
        file: shared.file.clone(),
    });
}

fn commit(shared: &Shared<'_>, mut image: Image, request: &BuildRequest) -> Result<Committed> {
    image.config.created = Some(shared.now.to_rfc3339());
    let committed = image.commit(shared.store, request.annotations.clone())?;
    Ok(committed)
}

/// Gives the image its names, when everything else is done.
fn tag(shared: &Shared<'_>, committed: &Committed, references: &[Reference]) -> Result<()> {
    for reference in references {
        let tag = reference.tag().unwrap_or("latest");
        shared
            .store
            .tag(&reference.to_string(), tag, &committed.manifest)?;
    }
    let references = references.iter().map(Reference::familiar).collect();
    let digest = committed.digest();
    shared
        .events
        .send(Event::ImageWritten { references, digest });
    Ok(())
}

fn built(committed: &Committed, references: Vec<Reference>, plan: &Plan) -> Built {
    let target = plan.stages.iter().find(|stage| stage.index == plan.target);
    Built {
        digest: committed.digest(),
        image_id: ImageId(committed.config.digest),
        references,
        platform: target.map_or_else(Platform::host, |stage| stage.platform.clone()),
        layer_bytes: committed
            .layers
            .iter()
            .map(|layer| layer.descriptor.size)
            .sum(),
    }
}
