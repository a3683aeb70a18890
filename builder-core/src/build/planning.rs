//! From a request to its plan: parse, resolve, find the bases, lower, check. Nothing is executed or written.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::build::epoch;
use crate::build::images::{Found, Images};
use crate::build::request::{BuildRequest, ContextSource};
use crate::build::session::{self, Attached, Place};
use crate::cache::shared::{CacheFrom, CacheTarget};
use crate::context::Context;
use crate::diagnostic::{Diagnostic, Severity};
use crate::digest::Digest;
use crate::dockerfile::Dockerfile;
use crate::dockerfile::lint::{self, CheckSettings};
use crate::dockerfile::parse::{ParseOptions, parse_with};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::oci::config::ImageConfig;
use crate::output;
use crate::plan::ignored::ignored_sources;
use crate::plan::outline::{Outline, Target};
use crate::plan::step::StageBase;
use crate::plan::{self, GraphStage, Plan, PlanOptions, StageGraph};
use crate::source::SourceFile;
use crate::store::Store;
use crate::tree::Tree as _;

/// A plan, and what was found on the way to it.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) warnings: Vec<Diagnostic>,
    /// What the stages start from, by stage.
    pub(crate) bases: BTreeMap<usize, Found>,
    settings: CheckSettings,
    parsed: Dockerfile,
}

impl Planned {
    /// Adds what only the context's ignore file can tell.
    pub(crate) fn add_ignored_sources(&mut self, context: Option<&Context>) {
        let found = ignored(&self.plan, context);
        self.warnings
            .extend(self.settings.apply(&self.parsed, found));
        self.warnings.sort_by_key(|warning| warning.span);
    }
}

fn ignored(plan: &Plan, context: Option<&Context>) -> Vec<Diagnostic> {
    let Some(context) = context.filter(|context| !context.ignore().patterns.has_negation()) else {
        return Vec::new();
    };
    let is_ignored = |path: &str| {
        let state = context.ignore().patterns.state_of(&ImagePath::clean(path));
        state.matched && !matches!(context.look_up(&ImagePath::clean(path)), Ok(Some(_)))
    };
    ignored_sources(plan, &is_ignored)
}

/// Opens the build context, where it is a directory, without what rbuild itself wrote into it.
///
/// # Errors
/// A directory or an ignore file that can't be read.
pub(crate) fn open_context(store: &Store, request: &BuildRequest) -> Result<Option<Context>> {
    match &request.context {
        ContextSource::Empty { .. } | ContextSource::Archive(_) | ContextSource::Fetched(_) => {
            Ok(None)
        }
        ContextSource::Directory { path, ignore_files } => {
            let mut hidden = output::record::outputs_in(store, path);
            hidden.extend(own_in(store, request, path));
            Context::open(path, ignore_files, &hidden, "the build context").map(Some)
        }
    }
}

/// The store, and the caches of `--cache-from` and `--cache-to`, that lie in the context: what one build left there is no
/// input of the next.
fn own_in(store: &Store, request: &BuildRequest, context: &Path) -> Vec<ImagePath> {
    let from = request.cache_from.iter().filter_map(|from| match from {
        CacheFrom::Local(path, _) => Some(path),
        _ => None,
    });
    let to = request.cache_to.iter().filter_map(|to| match &to.target {
        CacheTarget::Local(path) => Some(path),
        _ => None,
    });
    let Ok(context) = context.canonicalize() else {
        return Vec::new();
    };
    let inside = |path: &Path| {
        // One that is not there yet will be made.
        let path = match (path.canonicalize(), path.parent(), path.file_name()) {
            (Ok(path), ..) => path,
            (_, Some(parent), Some(name)) => parent.canonicalize().ok()?.join(name),
            _ => return None,
        };
        let inside = path.strip_prefix(&context).ok()?;
        Some(ImagePath::clean(inside.as_os_str().as_bytes()))
    };
    let all = from.chain(to).map(PathBuf::as_path);
    let found = all.chain([store.root()]).filter_map(inside);
    found.filter(|path| !path.is_root()).collect()
}

/// Makes the plan.
///
/// # Errors
/// Every problem of the Dockerfile at once; base images that can't be found.
pub(crate) fn plan(
    request: &BuildRequest,
    attached: Option<&Attached<'_>>,
    images: &mut Images<'_>,
) -> Result<Planned> {
    let file = &request.dockerfile;
    let mut options = request.plan_options();
    let (mut parsed, mut diagnostics) = parse(request);
    let place = attached.map(|attached| attached.session.place);
    if let Some(place) = place
        && !diagnostics.iter().any(Diagnostic::is_error)
    {
        let target = options.target.take();
        session::append(&mut parsed, file, place, target.as_deref())?;
    }
    epoch::resolve(request, &parsed, images, &mut options)?;
    let (graph, found) = plan::graph(file, &parsed, &options);
    diagnostics.extend(found);
    let Some(mut graph) = graph else {
        return Err(Error::from_diagnostics(file, sorted(diagnostics)));
    };
    if diagnostics.iter().any(Diagnostic::is_error) {
        diagnostics.extend(lowered_without_bases(file, &parsed, &graph, &options));
        return Err(Error::from_diagnostics(file, sorted(diagnostics)));
    }
    let bases = match find_bases(request, place, (&parsed, &mut graph), images) {
        Ok(bases) => bases,
        Err(error) => {
            // What is wrong in the file itself matters more than a base that can't be had.
            let found = lowered_without_bases(file, &parsed, &graph, &options);
            if found.iter().any(Diagnostic::is_error) {
                return Err(Error::from_diagnostics(file, sorted(found)));
            }
            return Err(error);
        }
    };
    let (plan, found) = plan::lower(file, &parsed, &graph, &configs(&bases), &options);
    diagnostics.extend(found);
    let settings = settings(request, &parsed);
    let diagnostics = settings.apply(&parsed, diagnostics);
    match plan {
        Some(mut plan) => {
            if let Some(attached) = attached {
                session::name_step(&mut plan, attached.session)?;
            }
            Ok(Planned {
                plan,
                warnings: sorted(diagnostics),
                bases,
                settings,
                parsed,
            })
        }
        None => Err(Error::from_diagnostics(file, sorted(diagnostics))),
    }
}

/// All problems of a file, sorted.
pub(crate) fn check(
    request: &BuildRequest,
    images: &mut Images<'_>,
    context: Option<&Context>,
) -> Vec<Diagnostic> {
    let file = &request.dockerfile;
    let options = request.plan_options();
    let (parsed, mut diagnostics) = parse(request);
    let (graph, found) = plan::graph(file, &parsed, &options);
    diagnostics.extend(found);
    if let Some(mut graph) = graph {
        if request.target.is_none() {
            graph
                .stages
                .iter_mut()
                .for_each(|stage| stage.reachable = true);
        }
        let bases = known_bases(&graph, images);
        let (plan, found) = plan::lower(file, &parsed, &graph, &bases, &options);
        diagnostics.extend(found);
        diagnostics.extend(plan.into_iter().flat_map(|plan| ignored(&plan, context)));
    }
    sorted(settings(request, &parsed).apply(&parsed, diagnostics))
}

/// What the target takes from outside.
///
/// # Errors
/// Every problem of the file at once.
pub(super) fn outline(request: &BuildRequest, images: &mut Images<'_>) -> Result<Outline> {
    let file = &request.dockerfile;
    let options = request.plan_options();
    let (parsed, mut diagnostics) = parse(request);
    let (graph, found) = plan::graph(file, &parsed, &options);
    diagnostics.extend(found);
    let broken = |found: Vec<Diagnostic>| {
        let errors = found.into_iter().filter(Diagnostic::is_error).collect();
        Error::from_diagnostics(file, sorted(errors))
    };
    let Some(graph) = graph.filter(|_| !diagnostics.iter().any(Diagnostic::is_error)) else {
        return Err(broken(diagnostics));
    };
    let bases = known_bases(&graph, images);
    let (outline, found) = plan::outline::outline(file, &parsed, &graph, &bases, &options);
    outline.ok_or_else(|| broken(found))
}

/// The stages that may be built.
///
/// # Errors
/// Every problem of the text at once.
pub(super) fn targets(request: &BuildRequest) -> Result<Vec<Target>> {
    let (parsed, found) = parse(request);
    let errors: Vec<Diagnostic> = found.into_iter().filter(Diagnostic::is_error).collect();
    if !errors.is_empty() {
        return Err(Error::from_diagnostics(&request.dockerfile, sorted(errors)));
    }
    Ok(plan::outline::targets(&parsed))
}

/// The configs of the bases, as far as they are at hand; empty ones for the others.
fn known_bases(graph: &StageGraph, images: &mut Images<'_>) -> BTreeMap<usize, ImageConfig> {
    let reachable = graph.stages.iter().filter(|stage| stage.reachable);
    let bases = reachable.map(|stage| {
        let found = images.base(&stage.base, &stage.platform);
        let unknown = || ImageConfig::for_platform(&stage.platform);
        let config = found.ok().as_ref().and_then(config);
        (stage.index, config.unwrap_or_else(unknown))
    });
    bases.collect()
}

/// Fails where `# check=error=true` made errors of warnings.
///
/// # Errors
/// All findings, if one of them is an error.
pub(crate) fn refuse_findings(file: &SourceFile, findings: &[Diagnostic]) -> Result<()> {
    if findings.iter().any(|one| one.severity == Severity::Error) {
        return Err(Error::from_diagnostics(file, findings.to_vec()));
    }
    Ok(())
}

fn parse(request: &BuildRequest) -> (Dockerfile, Vec<Diagnostic>) {
    let syntax = request.build_args.get("BUILDKIT_SYNTAX").cloned();
    let options = ParseOptions {
        ignore_syntax: request.ignore_syntax,
        syntax,
    };
    let (parsed, mut diagnostics) = parse_with(&request.dockerfile, &options);
    diagnostics.extend(lint::check(&parsed));
    (parsed, diagnostics)
}

fn settings(request: &BuildRequest, parsed: &Dockerfile) -> CheckSettings {
    let given = request.build_args.get("BUILDKIT_DOCKERFILE_CHECK");
    CheckSettings::new(parsed, given.map(String::as_str))
}

/// The errors that lowering finds whatever the bases hold.
fn lowered_without_bases(
    file: &SourceFile,
    parsed: &Dockerfile,
    graph: &StageGraph,
    options: &PlanOptions,
) -> Vec<Diagnostic> {
    let reachable = graph.stages.iter().filter(|stage| stage.reachable);
    let bases = reachable.map(|stage| (stage.index, ImageConfig::for_platform(&stage.platform)));
    let (_, found) = plan::lower(file, parsed, graph, &bases.collect(), options);
    found.into_iter().filter(Diagnostic::is_error).collect()
}

/// In the order of the file, each once.
fn sorted(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    diagnostics.dedup();
    diagnostics
}

/// What the stages start from. Triggers of a base may need more stages, whose bases are found too.
fn find_bases(
    request: &BuildRequest,
    place: Option<Place>,
    (parsed, graph): (&Dockerfile, &mut StageGraph),
    images: &mut Images<'_>,
) -> Result<BTreeMap<usize, Found>> {
    let mut bases = BTreeMap::new();
    loop {
        let missing = |stage: &&GraphStage| stage.reachable && !bases.contains_key(&stage.index);
        let Some(stage) = graph.stages.iter().find(missing) else {
            return Ok(bases);
        };
        let (index, span) = (stage.index, stage.span);
        let found = images.base(&stage.base, &stage.platform);
        let found = found.map_err(|error| {
            let error = match &stage.base {
                StageBase::Image { reference, .. } => {
                    not_a_stage(graph, index, &reference.value, error)
                }
                _ => error,
            };
            error.at(&request.dockerfile, span)
        })?;
        if let (Some(config), true) = (config(&found), place != Some(Place::Image)) {
            graph.add_triggers(parsed, index, &config.config.on_build);
        }
        bases.insert(index, found);
    }
}

/// Says of an image that can't be had whether it was meant to be a stage.
fn not_a_stage(graph: &StageGraph, index: usize, name: &str, error: Error) -> Error {
    let lower = name.to_lowercase();
    let below = graph.stages.iter().skip(index + 1);
    let mut below = below.filter(|stage| stage.name.as_ref() == Some(&lower));
    if below.next().is_some() {
        return error
            .with_note(format!(
                "a stage `{name}` stands below, and FROM sees only stages above it"
            ))
            .with_help("move that stage up");
    }
    if name
        .parse::<usize>()
        .is_ok_and(|number| number < graph.stages.len())
    {
        return error
            .with_note(format!(
                "`{name}` is taken for an image: FROM knows stages by name alone"
            ))
            .with_help("give the stage a name with `FROM … AS name`, and start from that");
    }
    error
}

/// The config of what a stage starts from. A directory has none: it is like `scratch` with files.
fn config(found: &Found) -> Option<ImageConfig> {
    match found {
        Found::Nothing | Found::Directory(_) | Found::Fetched(_) => None,
        Found::Image(base) => Some(base.image.config.clone()),
    }
}

fn configs(bases: &BTreeMap<usize, Found>) -> BTreeMap<usize, ImageConfig> {
    let configs = bases
        .iter()
        .filter_map(|(index, found)| Some((*index, config(found)?)));
    configs.collect()
}

/// The layers that outputs hold from the image that the result's stage starts from, directly or through other stages.
pub(super) fn layers_to_keep(
    wanted: bool,
    plan: &Plan,
    bases: &BTreeMap<usize, Found>,
) -> BTreeSet<Digest> {
    if !wanted {
        return BTreeSet::new();
    }
    let mut index = plan.target;
    while let Some(StageBase::Stage(below)) = plan
        .stages
        .iter()
        .find(|stage| stage.index == index)
        .map(|stage| &stage.base)
    {
        index = *below;
    }
    match bases.get(&index) {
        Some(Found::Image(base)) => {
            let layers = base.image.layers.iter();
            layers.map(|layer| layer.descriptor.digest).collect()
        }
        _ => BTreeSet::new(),
    }
}
