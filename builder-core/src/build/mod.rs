//! A build from its request to its result: parse, resolve, plan, execute, commit, output.
//!
//! Each stage returns a value to this corridor; nobody holds a reference back.

mod arrival;
mod caching;
mod checkout;
mod commit;
mod copy;
mod corridor;
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

use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, ImageId};
use crate::error::Result;
use crate::event::EventSink;
use crate::interrupt::Interrupt;
use crate::output::{self};
use crate::plan::Plan;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::retry::SystemClock;
use crate::store::Store;
pub use questions::{check, outline, targets};

use corridor::{Purpose, registry, with_result};
use deliver::{built, commit, deliver, names};
use images::Images;
use remote::Remote;
use request::BuildRequest;
use session::OnFailure;

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
/// See [`ErrorKind`](crate::ErrorKind). Nothing is half done: an image that failed has no name, and an output that
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

/// Tells which steps a build would execute and why, and executes none: [`Event::StepCached`](crate::event::Event::StepCached) for a step whose result is
/// known, [`Event::StepMissed`](crate::event::Event::StepMissed) for the first of a stage that isn't. What comes after that one depends on its result.
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
