//! The corridor of a build: plan, execute, and hand the result over, for each purpose that it is walked for.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::caching::Caching;
use super::images::{Found, Images};
use super::lending::{Lenders, Lending};
use super::remote::Remote;
use super::request::{BuildRequest, ContextSource};
use super::run::Runner;
use super::session::{Attached, OnFailure};
use super::sharing::Sharing;
use super::stage::Shared;
use super::{damage, planning, run, schedule};
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventSink};
use crate::image::Image;
use crate::image::replaced::Replacements;
use crate::image::summary::Summaries;
use crate::interrupt::Interrupt;
use crate::layer::LayerOptions;
use crate::plan::Plan;
use crate::registry::Registry;
use crate::registry::retry::SystemClock;
use crate::store::{Lock, Store};
use crate::timestamp::Timestamp;
use crate::tree::Tree;

/// What the corridor is walked for.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
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
pub(super) struct Done<'d, 'a> {
    pub(super) shared: &'d Shared<'a>,
    pub(super) image: Option<Image>,
    pub(super) registry: Option<&'d Registry<'d>>,
}

/// Keeps a collection away, after one that is under way.
fn lock(store: &Store, events: &dyn EventSink, interrupt: &Interrupt) -> Result<Lock> {
    let mut waits = || {
        let root = store.root().display();
        let message = format!("the store `{root}` is being cleaned: waiting for that to end");
        events.send(Event::Notice { message });
    };
    let lock = store.lock_for_use_until(interrupt, &mut waits)?;
    lock.ok_or_else(|| Error::new(ErrorKind::Interrupted, "interrupted"))
}

/// The corridor: from the request to the target's image, which is handed to `finish`.
pub(super) fn with_result<T>(
    store: &Store,
    request: &BuildRequest,
    purpose: Purpose<'_>,
    events: &dyn EventSink,
    interrupt: &Interrupt,
    finish: impl FnOnce(Done<'_, '_>) -> Result<T>,
) -> Result<T> {
    let _in_use = lock(store, events, interrupt)?;
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
pub(super) fn registry<'a>(
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
