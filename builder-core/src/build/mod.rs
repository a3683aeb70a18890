//! A build from its request to its result: parse, resolve, plan, execute, commit, output.
//!
//! Each stage returns a value to this corridor; nobody holds a reference back.

mod arrival;
mod copy;
pub mod git;
mod images;
mod layer;
mod owner;
mod permissions;
mod remote;
pub mod request;
mod stage;
mod target;
mod workdir;

use std::collections::BTreeMap;

use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, ImageId};
use crate::dockerfile::Dockerfile;
use crate::dockerfile::parse::{ParseOptions, parse_with};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventSink};
use crate::image::{Committed, Image};
use crate::interrupt::Interrupt;
use crate::layer::LayerOptions;
use crate::oci::config::ImageConfig;
use crate::output::{self, Bundle};
use crate::plan::step::{StageBase, Step};
use crate::plan::{self, Plan, StageGraph};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::Store;
use crate::timestamp::Timestamp;
use images::{Found, Images};
use remote::Remote;
use request::{BuildRequest, ContextSource};
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
    let mut images = Images::new(store, &named);
    let planned = make_plan(&request, &mut images)?;
    let file = &request.dockerfile;
    for diagnostic in planned.warnings {
        events.send(Event::Diagnostic {
            file: file.clone(),
            diagnostic,
        });
    }
    let context = open_context(store, &request)?;
    refuse_run(&planned.plan, &request)?;
    let plan = &planned.plan;
    let epoch = plan.epoch.map(Timestamp::from_seconds).or(request.epoch);
    let now = epoch.unwrap_or(request.now);
    let shared = Shared {
        file,
        store,
        context: match (&context, &request.context) {
            (Some(context), _) => Some(context),
            (None, ContextSource::Archive(archive)) => Some(&**archive),
            (None, _) => None,
        },
        remote: Remote {
            store,
            transport: request.transport.as_deref().map(|transport| transport as _),
            git: &request.git,
            interrupt,
        },
        options: LayerOptions {
            compression: request.compression,
            epoch,
            threads: request.threads.max(1),
        },
        now,
        plan,
        events,
        interrupt,
    };
    announce(&shared);
    let image = execute(&shared, planned.bases, &mut images)?;
    let committed = commit(&shared, image, &request)?;
    let bundle = Bundle {
        image: &committed,
        references: &request.references,
        time: now,
        epoch,
    };
    for mut output in outputs {
        output::write(store, &bundle, &mut output, events, interrupt)?;
    }
    Ok(built(&committed, request.references, &planned.plan))
}

/// Makes the plan of a request without executing anything, with the warnings found on the way.
///
/// # Errors
/// Every problem of the Dockerfile at once, and base images that can't be found.
pub fn plan(store: &Store, request: &BuildRequest) -> Result<(Plan, Vec<Diagnostic>)> {
    let mut images = Images::new(store, &request.named_contexts);
    let planned = make_plan(request, &mut images)?;
    Ok((planned.plan, planned.warnings))
}

fn parse_options(request: &BuildRequest) -> ParseOptions {
    let syntax = request.build_args.get("BUILDKIT_SYNTAX").cloned();
    ParseOptions {
        ignore_syntax: request.ignore_syntax,
        syntax,
    }
}

/// Every problem of a Dockerfile, errors and warnings, in the order of the file. A base image that can't be found is
/// taken for an empty one: its own errors come with the build.
///
/// # Errors
/// A context or an ignore file that can't be read.
pub fn check(store: &Store, request: &BuildRequest) -> Result<Vec<Diagnostic>> {
    let file = &request.dockerfile;
    let options = request.plan_options();
    let (parsed, mut diagnostics) = parse_with(file, &parse_options(request));
    let (graph, found) = plan::graph(file, &parsed, &options);
    diagnostics.extend(found);
    if let Some(graph) = graph {
        let mut images = Images::new(store, &request.named_contexts);
        let mut configs = BTreeMap::new();
        for stage in graph.stages.iter().filter(|stage| stage.reachable) {
            let config = match images.base(&stage.base, &stage.platform) {
                Ok(Found::Image(base)) => base.image.config,
                _ => ImageConfig::for_platform(&stage.platform),
            };
            configs.insert(stage.index, config);
        }
        diagnostics.extend(plan::lower(file, &parsed, &graph, &configs, &options).1);
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    diagnostics.dedup();
    Ok(diagnostics)
}

struct Planned {
    plan: Plan,
    warnings: Vec<Diagnostic>,
    /// What the stages start from, by stage.
    bases: BTreeMap<usize, Found>,
}

fn make_plan(request: &BuildRequest, images: &mut Images<'_>) -> Result<Planned> {
    let file = &request.dockerfile;
    let options = request.plan_options();
    let (parsed, mut diagnostics) = parse_with(file, &parse_options(request));
    let (graph, found) = plan::graph(file, &parsed, &options);
    diagnostics.extend(found);
    let Some(graph) = graph else {
        return Err(Error::from_diagnostics(file, diagnostics));
    };
    if diagnostics.iter().any(Diagnostic::is_error) {
        // Lowering would find more, but not without the configs of the bases.
        return Err(Error::from_diagnostics(
            file,
            with_lowered(request, &parsed, &graph, diagnostics),
        ));
    }
    let bases = find_bases(request, &graph, images)?;
    let configs = configs(&bases);
    let (plan, found) = plan::lower(file, &parsed, &graph, &configs, &options);
    diagnostics.extend(found);
    match plan {
        Some(plan) if !diagnostics.iter().any(Diagnostic::is_error) => Ok(Planned {
            plan,
            warnings: diagnostics,
            bases,
        }),
        _ => Err(Error::from_diagnostics(file, diagnostics)),
    }
}

/// Adds what lowering finds with empty bases to the problems that there are already.
fn with_lowered(
    request: &BuildRequest,
    parsed: &Dockerfile,
    graph: &StageGraph,
    mut diagnostics: Vec<Diagnostic>,
) -> Vec<Diagnostic> {
    let (_, found) = plan::lower(
        &request.dockerfile,
        parsed,
        graph,
        &BTreeMap::new(),
        &request.plan_options(),
    );
    for diagnostic in found {
        if diagnostic.is_error()
            && !diagnostics
                .iter()
                .any(|known| known.span == diagnostic.span)
        {
            diagnostics.push(diagnostic);
        }
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    diagnostics
}

fn find_bases(
    request: &BuildRequest,
    graph: &StageGraph,
    images: &mut Images<'_>,
) -> Result<BTreeMap<usize, Found>> {
    let mut bases = BTreeMap::new();
    for stage in graph.stages.iter().filter(|stage| stage.reachable) {
        let found = images.base(&stage.base, &stage.platform);
        bases.insert(
            stage.index,
            found.map_err(|error| error.at(&request.dockerfile, stage.span))?,
        );
    }
    Ok(bases)
}

fn configs(bases: &BTreeMap<usize, Found>) -> BTreeMap<usize, ImageConfig> {
    let config = |found: &Found| match found {
        Found::Nothing => None,
        Found::Directory(_) => Some(ImageConfig::default()),
        Found::Image(base) => Some(base.image.config.clone()),
    };
    bases
        .iter()
        .filter_map(|(index, found)| Some((*index, config(found)?)))
        .collect()
}

fn open_context(store: &Store, request: &BuildRequest) -> Result<Option<Context>> {
    match &request.context {
        ContextSource::Empty | ContextSource::Archive(_) => Ok(None),
        ContextSource::Directory { path, ignore_files } => {
            let outputs = output::record::outputs_in(store, path);
            Context::open(path, ignore_files, &outputs, "the build context").map(Some)
        }
    }
}

/// Refuses a plan that needs RUN, after everything else has been checked.
fn refuse_run(plan: &Plan, request: &BuildRequest) -> Result<()> {
    let mut steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    match steps.find(|step| matches!(step.step, Step::Run(_))) {
        Some(step) => Err(stage::refuse_run().at(&request.dockerfile, step.span)),
        None => Ok(()),
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

/// Executes the stages in the order of the file, in which every stage comes after what it needs.
fn execute(
    shared: &Shared<'_>,
    mut bases: BTreeMap<usize, Found>,
    images: &mut Images<'_>,
) -> Result<Image> {
    let mut done: BTreeMap<usize, Image> = BTreeMap::new();
    for planned in &shared.plan.stages {
        let base = match (&planned.base, bases.remove(&planned.index)) {
            (StageBase::Stage(index), _) => done.get(index).cloned().unwrap_or_default(),
            (_, Some(Found::Image(base))) => base.image,
            (StageBase::Named(name), Some(Found::Directory(path))) => {
                let directory = images::open_named(name, &path)?;
                Image {
                    layers: vec![stage::layer_of(shared, &directory)?],
                    ..Image::default()
                }
            }
            _ => Image::default(),
        };
        let (stage, text) = (stage::name(planned), stage::base_text(planned));
        shared
            .events
            .send(Event::StageStarted { stage, base: text });
        let image = stage::execute(shared, planned, base, images, &done)?;
        done.insert(planned.index, image);
    }
    done.remove(&shared.plan.target)
        .ok_or_else(|| Error::new(ErrorKind::Internal, "the target was not built"))
}

fn commit(shared: &Shared<'_>, mut image: Image, request: &BuildRequest) -> Result<Committed> {
    image.config.created = Some(shared.now.to_rfc3339());
    let committed = image.commit(shared.store, request.annotations.clone())?;
    for reference in &request.references {
        let tag = reference.tag().unwrap_or("latest");
        shared
            .store
            .tag(&reference.to_string(), tag, &committed.manifest)?;
    }
    let references = request.references.iter().map(Reference::familiar).collect();
    shared.events.send(Event::ImageWritten {
        references,
        digest: committed.digest(),
    });
    Ok(committed)
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
