//! RUN: a command in the stage's root file system, and the layer of what it changed.
//!
//! Follows the Dockerfile reference, "RUN". The command sees the layers so far, never the host; what it changed is
//! found by the root's driver, without a scan where an overlay tells it.

mod agent;
mod beforehand;
mod caches;
pub(crate) mod failed;
mod failure;
mod files;
mod history;
mod keys;
mod mounts;
mod root;
mod session;
mod ssh;
mod travel;
mod user;
mod wire;

use std::io::Read;

use std::collections::BTreeMap;

use crate::build::layer::LayerMaker;
use crate::build::request::RunOptions;
use crate::build::session::OnFailure;
use crate::build::stage::Shared;
use crate::digest::Digest;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, StepId};
use crate::image::Layer;
use crate::image::view::View;
use crate::image_path::ImagePath;
use crate::interrupt::Interrupt;
use crate::layer::Layer as NewLayer;
use crate::owners::{OwnerEncoding, SideTable};
use crate::plan::step::{RunNetwork, RunStep, Step};
use crate::plan::{Plan, PlannedStep};
use crate::rootfs::ChangeSink;
use crate::sandbox::choose::choose;
use crate::sandbox::spec::{Bytes, Ended, RunSpec};
use crate::sandbox::{Engine, EngineCapabilities, Helper, Sandbox, Streams};
use crate::source::SourceFile;
use crate::store::Store;
pub(crate) use mounts::Sources;
use root::Prepared;
pub(crate) use root::StageRoot;
pub(crate) use session::{attend, look_at_last};
pub(crate) use travel::export as export_mounts;

/// The search path of a stage whose environment has none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What asks a RUN to end.
const SIGTERM: i32 = 15;

/// What executes the RUNs of a build.
#[derive(Debug)]
pub(crate) struct Runner<'a> {
    engine: Box<dyn Engine>,
    /// What it can do.
    capabilities: EngineCapabilities,
    /// How it executes RUN, for people.
    words: String,
    options: &'a RunOptions,
    shared_files: mounts::SharedFiles,
    used_mounts: travel::UsedMounts,
}

impl<'a> Runner<'a> {
    /// Finds out how RUN can be executed here. None where the plan has no RUN.
    ///
    /// # Errors
    /// [`ErrorKind::Run`], at the first RUN: no program to do it, or a machine that doesn't allow it; and at each RUN
    /// that asks for what can't be given.
    pub(crate) fn find(
        plan: &Plan,
        file: &SourceFile,
        store: &Store,
        options: &'a RunOptions,
        interrupt: &Interrupt,
    ) -> Result<Option<Self>> {
        let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
        let runs: Vec<(&PlannedStep, &RunStep)> = steps
            .filter_map(|step| match &step.step {
                Step::Run(run) => Some((step, &**run)),
                _ => None,
            })
            .collect();
        let Some((first, _)) = runs.first() else {
            return Ok(None);
        };
        let runner =
            Self::probe(store, options, interrupt).map_err(|error| error.at(file, first.span))?;
        for (planned, run) in runs {
            let checked = runner.check(run);
            checked.map_err(|error| error.at(file, planned.span))?;
        }
        Ok(Some(runner))
    }

    fn probe(store: &Store, options: &'a RunOptions, interrupt: &Interrupt) -> Result<Self> {
        let Some(program) = &options.sandbox_program else {
            let message = "RUN needs a program that can be started as the sandbox's helper";
            return Err(Error::new(ErrorKind::Run, message).with_help(
                "call `builder_core::sandbox::enter_if_asked()` first in `main`, and put the path of the own program \
                 into `BuildRequest.run.sandbox_program`",
            ));
        };
        let helper = Helper::new(program);
        let folder = store.temporary_directory()?;
        let probes = helper.probe(folder.path(), interrupt)?;
        let choice = choose(&probes, options.mode, options.ids)?;
        Ok(Self {
            engine: Box::new(Sandbox::new(helper, choice)),
            capabilities: choice.capabilities(),
            words: choice.describe(),
            options,
            shared_files: mounts::SharedFiles::default(),
            used_mounts: travel::UsedMounts::default(),
        })
    }

    /// Refuses what can't be given.
    fn check(&self, run: &RunStep) -> Result<()> {
        if run.insecure {
            let message =
                "`--security=insecure` can't be given: rbuild has no more rights than its caller";
            return Err(Error::new(ErrorKind::Run, message).with_help("leave the flag out"));
        }
        let shared = !self.capabilities.cuts_network;
        if self.options.network_of(run) == RunNetwork::None && shared {
            let message = "a RUN can't be cut off from the network here: this machine allows no network namespaces";
            return Err(Error::new(ErrorKind::Run, message)
                .with_help("leave `--network=none` out, or see `rbuild doctor`"));
        }
        Ok(())
    }

    /// How owners are held on the disk.
    pub(crate) fn encoding(&self) -> OwnerEncoding {
        self.capabilities.owners
    }

    /// How RUN is executed, for people.
    pub(crate) fn describe(&self) -> &str {
        &self.words
    }
}

/// A RUN and where it happens.
pub(crate) struct RunInput<'a, 's> {
    /// What executes it.
    pub(crate) runner: &'a Runner<'a>,
    /// The build.
    pub(crate) shared: &'a Shared<'s>,
    /// The step.
    pub(crate) step: &'a RunStep,
    /// Its number.
    pub(crate) id: StepId,
    /// The layers so far.
    pub(crate) layers: &'a [Layer],
    /// The same as a tree.
    pub(crate) base: &'a View<'s>,
    /// Where mounts take their files from.
    pub(crate) sources: &'a dyn Sources<'s>,
    /// What bind mounts show, as the step's key has it, by [`bound_name`](crate::build::keys::bound_name).
    pub(crate) bound: &'a BTreeMap<String, Digest>,
}

/// A RUN that may begin: its root, its mounts, and what is asked of the engine.
struct Ready {
    prepared: Prepared,
    world: mounts::World,
    spec: RunSpec,
}

/// Lays out the root, makes the mounts, finds the user.
fn ready(input: &RunInput<'_, '_>, root: &mut StageRoot, step: &RunStep) -> Result<Ready> {
    let runner = input.runner;
    beforehand::check_workdir(step, input.base)?;
    let prepared = root.prepare(input)?;
    let (user, home) = user::resolve(&step.user, input.base)?;
    let mut world = mounts::prepare(input, prepared.folder())?;
    let mut mounts = files::prepare(prepared.folder(), &runner.options.hosts, step)?;
    mounts.append(&mut world.mounts);
    let spec = RunSpec {
        argv: step.argv.clone(),
        env: environment(step, &world.env, home),
        cwd: step.workdir.clone(),
        user,
        root: prepared.root(),
        mounts,
        no_network: runner.options.network_of(step) == RunNetwork::None,
        hostname: step.hostname.clone(),
        tables: prepared.tables(world.tables()),
        read_only: false,
        stop_signal: SIGTERM,
        limits: runner.options.limits.clone(),
    };
    Ok(Ready {
        prepared,
        world,
        spec,
    })
}

/// Executes a RUN; its layer.
///
/// # Errors
/// [`ErrorKind::Run`] where the command fails, can't be started, or a mount can't be made.
pub(crate) fn execute(
    input: &RunInput<'_, '_>,
    root: &mut StageRoot,
    mut layer: LayerMaker<'_>,
) -> Result<NewLayer> {
    let (runner, shared, step) = (input.runner, input.shared, input.step);
    let mut ready = ready(input, root, step)?;
    let mut tail = failure::Tail::default();
    let mut output = |stream, bytes: &[u8]| {
        if bytes.is_empty() {
            return;
        }
        tail.push(bytes);
        shared.events.send(Event::StepOutput {
            id: input.id,
            stream,
            bytes: bytes.to_vec(),
        });
    };
    let streams = Streams::output(&mut output);
    let finished = runner.engine.run(&ready.spec, streams, shared.interrupt);
    let finished = finished.map_err(|error| beforehand::explain(step, input.base, error))?;
    if finished.status != Ended::Status(0) {
        let honours_setuid = runner.capabilities.honours_setuid;
        let failure = failure::of(finished.status, &tail, honours_setuid);
        let failure = failure::with_room(failure, ready.prepared.folder());
        return Err(after_failure(input, ready, &finished.table, failure)?);
    }
    ready.world.finish(&finished.table)?;
    for path in &finished.moved {
        shared.events.send(moved(path));
    }
    let (prepared, table) = (&ready.prepared, finished.table);
    root.changes(prepared, input, &table, &mut Sink(&mut layer))?;
    let made = layer.finish()?;
    root.keep(prepared, input, &made, &table)?;
    Ok(made)
}

/// Does what the caller wants of a root that a command left when it failed; gives the failure, with a word on that.
fn after_failure(
    input: &RunInput<'_, '_>,
    mut ready: Ready,
    table: &SideTable,
    failure: Error,
) -> Result<Error> {
    match input.shared.on_failure {
        None => ready.world.finish(table)?,
        Some(OnFailure::Shell { console, busybox }) => {
            let lent = (*console, busybox.as_deref());
            input.shared.events.send(Event::Notice {
                message: format!("{}: a shell in its root follows", failure.message()),
            });
            let looked = session::look_at(input, &mut ready, table, lent);
            ready.world.finish(table)?;
            looked?;
        }
        Some(OnFailure::Keep) => {
            ready.world.finish(table)?;
            failed::keep(input, ready, table)?;
            return Ok(failure.with_help("`rbuild shell --last-failed` shows the root as it is"));
        }
    }
    Ok(failure)
}

/// A mount point that could not be taken away again.
fn moved(path: &Bytes) -> Event {
    let path = path.as_path().display();
    Event::Notice {
        message: format!(
            "the RUN moved `{path}`, which was made for a mount, to another place: it stays in the layer there, empty"
        ),
    }
}

/// The whole environment of the command.
fn environment(
    step: &RunStep,
    secrets: &[(String, String)],
    home: Option<String>,
) -> Vec<(String, String)> {
    let mut all = step.env.clone();
    let missing = |all: &[(String, String)], name: &str| !all.iter().any(|(one, _)| one == name);
    if missing(&all, "PATH") {
        all.insert(0, ("PATH".to_owned(), PATH.to_owned()));
    }
    for (name, value) in step.proxies.iter().chain(secrets) {
        all.retain(|(one, _)| one != name || !secrets.iter().any(|(secret, _)| secret == name));
        if missing(&all, name) {
            all.push((name.clone(), value.clone()));
        }
    }
    if missing(&all, "HOME") {
        let home = home.unwrap_or_else(|| "/".to_owned());
        all.push(("HOME".to_owned(), home));
    }
    all
}

/// Puts changes into a layer.
struct Sink<'a, 'l>(&'a mut LayerMaker<'l>);

impl ChangeSink for Sink<'_, '_> {
    fn put(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        self.0.put(entry, content)
    }

    fn whiteout(&mut self, path: &ImagePath) -> Result<()> {
        self.0.whiteout(path)
    }
}
