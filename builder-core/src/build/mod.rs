//! A build from its request to its result: parse, resolve, plan, execute, commit, output.
//!
//! Each stage returns a value to this corridor; nobody holds a reference back.

mod arrival;
mod caching;
mod checkout;
mod commit;
mod copy;
mod damage;
mod deliver;
mod download;
pub mod elsewhere;
mod epoch;
mod finder;
pub mod git;
mod health;
mod images;
mod keys;
mod layer;
mod lending;
mod lookup;
mod missing;
mod owner;
mod parents;
mod permissions;
mod planning;
mod questions;
pub mod remote;
pub mod request;
mod revisit;
mod rewrite;
mod run;
mod schedule;
pub mod session;
mod sharing;
mod stage;
mod step;
mod target;
mod unpack;
mod workdir;

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, ImageId};
use crate::error::{ErrorKind, Result};
use crate::event::{Event, EventSink};
use crate::image::Image;
use crate::image::replaced::Replacements;
use crate::image::summary::Summaries;
use crate::interrupt::Interrupt;
use crate::layer::LayerOptions;
use crate::output::{self};
use crate::plan::Plan;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::Registry;
use crate::registry::retry::SystemClock;
use crate::store::Store;
use crate::timestamp::Timestamp;
use crate::tree::Tree;
pub use questions::{check, outline, targets};

use caching::Caching;
use deliver::{built, commit, deliver, names};
use images::{Found, Images};
use lending::{Lenders, Lending};
use remote::Remote;
use request::{BuildRequest, ContextSource};
use run::Runner;
use session::{Attached, OnFailure};
use sharing::Sharing;
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
/// See [`ErrorKind`]. Nothing is half done: an image that failed has no name, and an output that
/// failed isn't there.
pub fn build(
    store: &Store,
    request: BuildRequest,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<Built> {
    build_with(store, request, None, events, interrupt)
}

/// The same; when a RUN fails, somebody may look at its root before the build fails.
///
/// # Errors
/// As for [`build`].
pub fn build_with(
    store: &Store,
    mut request: BuildRequest,
    on_failure: Option<&OnFailure<'_>>,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<Built> {
    request.outputs.iter().try_for_each(output::check)?;
    let outputs = std::mem::take(&mut request.outputs);
    let purpose = Purpose::Build {
        bytes: !outputs.is_empty(),
        on_failure,
    };
    let request = &request;
    with_result(store, request, purpose, events, interrupt, |done| {
        let image = done.image.unwrap_or_default();
        let (committed, time) = commit(done.shared, image, request, done.registry)?;
        let made = (&committed, time);
        deliver(done.shared, made, outputs, request, done.registry)?;
        let plan = done.shared.plan;
        Ok(built(&committed, names(&committed, request), plan))
    })
}

/// Tells which steps a build would execute and why, and executes none: [`Event::StepCached`] for a step whose result is
/// known, [`Event::StepMissed`] for the first of a stage that isn't. What comes after that one depends on its result.
///
/// # Errors
/// As for a build, up to where something would be executed.
pub fn why(
    store: &Store,
    request: &BuildRequest,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<()> {
    with_result(store, request, Purpose::Ask, events, interrupt, |_| Ok(()))
}

/// What the corridor is walked for.
#[derive(Clone, Copy)]
enum Purpose<'a> {
    /// To know what would be executed.
    Ask,
    /// For the image.
    Build {
        /// Whether its layers' bytes are needed here.
        bytes: bool,
        /// What happens when a RUN fails.
        on_failure: Option<&'a OnFailure<'a>>,
    },
    /// For a command in a root file system.
    Session(&'a Attached<'a>),
}

impl<'a> Purpose<'a> {
    fn only_asks(self) -> bool {
        matches!(self, Self::Ask)
    }

    /// Whether the bytes of the result's layers are needed here.
    fn wants_bytes(self) -> bool {
        match self {
            Self::Ask => false,
            Self::Build { bytes, .. } => bytes,
            Self::Session(attached) => attached.session.keep,
        }
    }

    fn session(self) -> Option<&'a Attached<'a>> {
        match self {
            Self::Session(attached) => Some(attached),
            _ => None,
        }
    }

    fn on_failure(self) -> Option<&'a OnFailure<'a>> {
        match self {
            Self::Build { on_failure, .. } => on_failure,
            _ => None,
        }
    }
}

/// What the corridor has at its end.
struct Done<'d, 'a> {
    shared: &'d Shared<'a>,
    image: Option<Image>,
    registry: Option<&'d Registry<'d>>,
}

/// The corridor: from the request to the target's image, which is handed to `finish`.
fn with_result<T>(
    store: &Store,
    request: &BuildRequest,
    purpose: Purpose<'_>,
    events: &dyn EventSink,
    interrupt: &Interrupt,
    finish: impl FnOnce(Done<'_, '_>) -> Result<T>,
) -> Result<T> {
    let _in_use = store.lock_for_use()?;
    let clock = SystemClock::default();
    let registry = registry(request, &clock, events, interrupt);
    let remote = Remote {
        store,
        transport: request.transport.as_deref().map(|transport| transport as _),
        git: &request.git,
        events,
        interrupt,
    };
    let mut images = Images::new(store, &request.named_contexts)
        .with_registry(registry.as_ref(), request.pull)
        .with_remote(remote);
    let mut planned = planning::plan(request, purpose.session(), &mut images)?;
    let context = planning::open_context(store, request)?;
    planned.add_ignored_sources(context.as_ref());
    tell_warnings(request, &mut planned.warnings, events)?;
    let plan = &planned.plan;
    let runner = match purpose {
        Purpose::Ask => None,
        Purpose::Build { .. } | Purpose::Session(_) => {
            find_runner(plan, store, request, events, interrupt)?
        }
    };
    let epoch = plan.epoch.map(Timestamp::from_seconds);
    let options = LayerOptions {
        compression: request.compression,
        epoch,
        threads: request.threads.max(1),
    };
    let lending = Lending::default();
    let kept = planning::layers_to_keep(purpose.wants_bytes(), plan, &planned.bases);
    let lenders = Lenders {
        kept: &kept,
        registry: registry.as_ref(),
        lending: &lending,
        decides: true,
    };
    let sharing = Sharing::open(request, purpose.only_asks(), &lenders, events)?;
    let caching = Caching::new(store, &options, request, plan, &sharing, &lenders);
    let shared = Shared {
        file: &request.dockerfile,
        store,
        context: tree_of(context.as_ref(), request),
        remote,
        options,
        now: epoch.unwrap_or(request.now),
        runner: runner.as_ref(),
        run: &request.run,
        session: purpose.session(),
        on_failure: purpose.on_failure(),
        only_asks: purpose.only_asks(),
        caching: &caching,
        context_path: request.context.directory(),
        plan,
        events,
        source: Some(&lenders),
        replacements: &Replacements::default(),
        summaries: &Summaries::default(),
        interrupt,
    };
    let images = Mutex::new(images);
    let exporting = Lenders {
        decides: false,
        ..lenders
    };
    let result = while_exporting(&sharing, &shared, &exporting, || {
        let image = execute(&shared, &planned.bases, &images, request.jobs, purpose)?;
        let result = finish(Done {
            shared: &shared,
            image,
            registry: registry.as_ref(),
        })?;
        run::export_mounts(&shared, &sharing);
        Ok(result)
    });
    let exported = sharing.finish(events);
    damage::tell(store, events);
    result.and_then(|result| exported.map(|()| result))
}

/// The build context, wherever it came from.
fn tree_of<'a>(directory: Option<&'a Context>, request: &'a BuildRequest) -> Option<&'a dyn Tree> {
    match (directory, &request.context) {
        (Some(context), _) => Some(context),
        (None, ContextSource::Archive(archive)) => Some(&**archive),
        (None, ContextSource::Fetched(fetched)) => Some(&**fetched),
        (None, _) => None,
    }
}

/// Does a build's work while other threads export what it makes.
fn while_exporting<T>(
    sharing: &Sharing<'_>,
    shared: &Shared<'_>,
    lenders: &Lenders<'_>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    std::thread::scope(|scope| {
        let export = || sharing.work(shared.store, lenders, shared.interrupt);
        let mut alone = sharing.workers() > 0;
        for _ in 0..sharing.workers() {
            let started = std::thread::Builder::new().spawn_scoped(scope, export);
            alone &= started.is_err();
        }
        let closing = sharing.closing();
        let done = work();
        drop(closing);
        if alone {
            export();
        }
        done
    })
}

/// Executes the plan: again where a layer that was counted on can't be had, without counting on it.
fn execute(
    shared: &Shared<'_>,
    bases: &BTreeMap<usize, Found>,
    images: &Mutex<Images<'_>>,
    jobs: usize,
    purpose: Purpose<'_>,
) -> Result<Option<Image>> {
    announce(shared);
    let mut mended = 0;
    loop {
        let executed = schedule::execute(shared, bases.clone(), images, jobs);
        let settled = executed.and_then(|mut image| {
            if let (Some(image), false) = (&mut image, purpose.only_asks()) {
                let bytes = purpose.wants_bytes();
                shared.caching.settle(shared, image, bytes)?;
            }
            Ok(image)
        });
        shared.caching.save()?;
        let again = shared.caching.begin_anew();
        match settled {
            // A command that fails would fail again.
            Err(error)
                if again
                    && !matches!(error.kind(), ErrorKind::Run | ErrorKind::NotStarted)
                    && !shared.interrupt.is_set() =>
            {
                let message = format!(
                    "a cached layer can't be had and is made anew: {}",
                    error.message()
                );
                shared.events.send(Event::Notice { message });
            }
            // What was damaged is gone: each try takes one thing away at least.
            Err(_)
                if mended < damage::MENDED
                    && damage::tell(shared.store, shared.events)
                    && !shared.interrupt.is_set() =>
            {
                mended += 1;
            }
            settled => return settled,
        }
    }
}

/// Refuses a build over findings that the file says to be errors, and tells the others.
fn tell_warnings(
    request: &BuildRequest,
    warnings: &mut Vec<Diagnostic>,
    events: &dyn EventSink,
) -> Result<()> {
    let file = &request.dockerfile;
    planning::refuse_findings(file, warnings)?;
    for diagnostic in std::mem::take(warnings) {
        let file = file.clone();
        events.send(Event::Diagnostic { file, diagnostic });
    }
    Ok(())
}

/// Finds out how RUN is executed, where the plan has any, and says so.
fn find_runner<'a>(
    plan: &Plan,
    store: &Store,
    request: &'a BuildRequest,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<Option<Runner<'a>>> {
    let runner = Runner::find(plan, &request.dockerfile, store, &request.run, interrupt)?;
    if let Some(runner) = &runner {
        let message = format!("RUN is executed by {}", runner.describe());
        events.send(Event::Notice { message });
    }
    Ok(runner)
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
    let planned = planning::plan(request, None, &mut images)?;
    Ok((planned.plan, planned.warnings))
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
