//! One step of a stage: its key, and its layer, from the cache or made now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::build::arrival::{self, Arrival, How, Origin};
use crate::build::caching::{Asked, Made};
use crate::build::copy::{self, CopyInput, Ground, Landing};
use crate::build::finder::{Finder, Source};
use crate::build::keys::{self, Given, Place, Reader};
use crate::build::layer::LayerMaker;
use crate::build::revisit::{self, Addition};
use crate::build::run::{self, RunInput, StageRoot};
use crate::build::stage::Shared;
use crate::build::workdir;
use crate::cache::Key;
use crate::cache::stat_index::Known;
use crate::digest::Digest;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::event::StepId;
use crate::image::Layer;
use crate::image::view::View;
use crate::image_path::ImagePath;
use crate::oci::Descriptor;
use crate::plan::step::{CopyStep, RunStep, Step};
use crate::plan::{PlannedStage, PlannedStep};
use crate::tree::graft::Graft;
use crate::tree::merge::merge;
use crate::tree::resolve::{Resolved, resolve};
use crate::tree::{Node, Tree};

/// A stage as far as it is built.
pub(crate) struct SoFar<'s, 'a> {
    /// Its layers, those of the base first.
    pub(crate) layers: &'s [Layer],
    /// How many of them are the base's.
    pub(crate) base: usize,
    /// The same as a tree.
    pub(crate) view: &'s View<'a>,
    /// The root file system of its RUNs.
    pub(crate) root: &'s mut StageRoot,
}

/// The layer of a step.
///
/// # Errors
/// Those of the step.
pub(crate) fn layer(
    finder: &Finder<'_, '_, '_>,
    planned: &PlannedStep,
    so_far: &mut SoFar<'_, '_>,
) -> Result<Made> {
    let shared = finder.shared;
    let asked = |keyword| Asked {
        shared,
        stage: finder.stage,
        id: planned.id,
        keyword,
    };
    match &planned.step {
        Step::Config => Ok(Made::Nothing),
        Step::Workdir(step) => {
            let asked = asked("WORKDIR");
            let place = Place::new(&asked, so_far.layers, so_far.base);
            let key = keys::workdir(&place, step);
            shared.caching.through(&asked, &key, |previous| {
                workdir::execute(
                    step,
                    so_far.view,
                    shared.now,
                    maker(finder, planned, previous)?,
                )
            })
        }
        Step::Copy(step) => {
            let asked = asked(if step.add { "ADD" } else { "COPY" });
            copy(finder, planned, &asked, so_far, step)
        }
        Step::Run(step) => run(finder, planned, &asked("RUN"), so_far, step),
    }
}

fn maker<'a>(
    finder: &Finder<'_, 'a, '_>,
    planned: &PlannedStep,
    previous: Option<&Descriptor>,
) -> Result<LayerMaker<'a>> {
    let shared = finder.shared;
    LayerMaker::new(
        shared.store,
        &shared.options,
        shared.interrupt,
        shared.events,
        planned.id,
        previous,
    )
}

/// COPY and ADD. Where nothing like the step was ever executed, the files are read once: the layer is made, and what it
/// was made of gives the key.
fn copy(
    finder: &Finder<'_, '_, '_>,
    planned: &PlannedStep,
    asked: &Asked<'_>,
    so_far: &SoFar<'_, '_>,
    step: &CopyStep,
) -> Result<Made> {
    let (shared, caching) = (finder.shared, finder.shared.caching);
    let Some(source) = finder.find_known(&step.from)? else {
        return Ok(Made::Unknown);
    };
    let heredocs = arrival::heredocs(&step.sources, shared.now);
    let fetches = step.sources.iter().any(revisit::is_elsewhere);
    let input = |unpack| CopyInput {
        step,
        source: source.tree(),
        file: shared.file,
        remote: &shared.remote,
        unpack,
    };
    // What is fetched is fetched once. What lies here is looked at twice rather than unpacked for nothing.
    let (whole, as_files) = (input(true), input(fetches));
    let reader = Reader {
        shared,
        directory: directory_of(finder, &source),
    };
    let ground = Ground {
        base: so_far.view,
        file: shared.file,
        now: shared.now,
    };
    let landing = Landing::of(step);
    let place = Place::new(asked, so_far.layers, so_far.base);
    let mut key = keys::copy(&place, &landing);
    if revisit::is_all_elsewhere(step) {
        let addition = Addition {
            asked,
            input: &whole,
            landing: &landing,
            ground: &ground,
            reader: &reader,
            maker: &|previous| maker(finder, planned, previous),
        };
        return addition.layer(key);
    }
    let land = |arrivals: Vec<Arrival<'_>>, maker: LayerMaker<'_>| {
        copy::execute(&landing, &ground, arrivals, maker)
    };
    let memo = keys::selection(&source, step);
    let known = memo
        .as_ref()
        .map(|memo| caching.selection(finder.stage, memo));
    if let Some(known) = known.transpose()?.flatten() {
        key.set("files", known.to_string());
        return caching.through(asked, &key, |previous| {
            let arrivals = arrival::collect(&whole, &heredocs)?;
            land(arrivals, maker(finder, planned, previous)?)
        });
    }
    let arrivals = arrival::collect(&as_files, &heredocs)?;
    let same = fetches || !step.add;
    let cold =
        caching.is_new(asked) && reader.directory.is_some() && !step.add && !shared.only_asks;
    let observer = observer(finder, reader.directory.as_deref(), !cold)?;
    let make = |arrivals: Option<Vec<Arrival<'_>>>, previous: Option<&Descriptor>| {
        let maker = maker(finder, planned, previous)?.observed(observer.as_deref());
        match arrivals {
            Some(arrivals) => land(arrivals, maker),
            None => land(arrival::collect(&whole, &heredocs)?, maker),
        }
    };
    if cold {
        let made = make(Some(arrival::collect(&as_files, &heredocs)?), None)?;
        key.set("files", reader.arrivals(&arrivals)?.to_string());
        return caching.keep(asked, &key, &made).map(Made::Layer);
    }
    let files = reader.arrivals(&arrivals)?;
    key.set("files", files.to_string());
    if let Some(memo) = memo {
        caching.put_selection(&memo, files)?;
    }
    caching.through(asked, &key, |previous| {
        make(same.then_some(arrivals), previous)
    })
}

/// The directory of the host behind a source.
fn directory_of(finder: &Finder<'_, '_, '_>, source: &Source<'_>) -> Option<PathBuf> {
    match source {
        Source::Shared(_) => finder.shared.context_path.map(Path::to_owned),
        Source::Context(_, path) => Some(path.clone()),
        _ => None,
    }
}

/// Remembers the digests of files that are copied anyway.
type Observe<'o> = Box<dyn Fn(&Node, Digest) -> Result<()> + 'o>;

fn observer<'o>(
    finder: &Finder<'_, '_, '_>,
    directory: Option<&Path>,
    keyed: bool,
) -> Result<Option<Observe<'o>>> {
    let shared = finder.shared;
    let Some(directory) = directory else {
        return Ok(None);
    };
    let index = shared.caching.index(shared.store, directory)?;
    Ok(Some(Box::new(move |node: &Node, digest| {
        match node.stamp {
            Some(stamp) => {
                let xattrs = node.entry.xattrs.clone();
                let known = Known { digest, xattrs };
                index.put(&node.entry.path, stamp, known, keyed)
            }
            None => Ok(()),
        }
    })))
}

/// RUN.
fn run(
    finder: &Finder<'_, '_, '_>,
    planned: &PlannedStep,
    asked: &Asked<'_>,
    so_far: &mut SoFar<'_, '_>,
    step: &RunStep,
) -> Result<Made> {
    let shared = finder.shared;
    let hosts = shared.run.host_names();
    let given = Given {
        network: shared.run.network_of(step),
        hosts: &hosts,
        limits: &shared.run.limits,
    };
    let (layers, base) = (so_far.layers, so_far.base);
    let place = Place::new(asked, layers, base);
    let mut key = keys::run(&place, step, given);
    let Some(bound) = bound(finder, step, &mut key)? else {
        return Ok(Made::Unknown);
    };
    let runner = || {
        let missing = || Error::new(ErrorKind::Internal, "a RUN was not prepared for");
        shared.runner.ok_or_else(missing)
    };
    let input = |runner| RunInput {
        runner,
        shared,
        step,
        id: planned.id,
        layers,
        base: so_far.view,
        sources: finder,
        bound: &bound,
    };
    if let Some(attached) = shared.session.filter(|_| is_last(finder, planned)) {
        let layer = attached.session.keep;
        let layer = layer.then(|| maker(finder, planned, None)).transpose()?;
        let made = run::attend(&input(runner()?), so_far.root, layer, attached)?;
        // Nobody will ask for it again: what was typed is no key.
        let layer = made.map(|made| Layer::made(made.descriptor, made.diff_id));
        return Ok(layer.map_or(Made::Nothing, Made::Layer));
    }
    shared.caching.through(asked, &key, |previous| {
        let maker = maker(finder, planned, previous)?;
        let made = run::execute(&input(runner()?), so_far.root, maker)?;
        // The command saw what lay there when it began; the key speaks of a moment before.
        if self::bound(finder, step, &mut key.clone())? != Some(bound.clone()) {
            shared.caching.distrust();
        }
        Ok(made)
    })
}

/// Whether a step is the last one of the target.
fn is_last(finder: &Finder<'_, '_, '_>, planned: &PlannedStep) -> bool {
    let last = finder.stage.steps.last();
    finder.stage.index == finder.shared.plan.target
        && last.is_some_and(|last| last.id == planned.id)
}

/// What the bind mounts of a step show, and what its caches begin with; it becomes part of the key. None where that is a stage that would have to be
/// built first, and nobody asked for that.
fn bound(
    finder: &Finder<'_, '_, '_>,
    step: &RunStep,
    key: &mut Key,
) -> Result<Option<BTreeMap<String, Digest>>> {
    let mut bound = BTreeMap::new();
    for (number, mount) in step.mounts.iter().enumerate() {
        if let Some((from, path)) = keys::bound(mount) {
            let Some(source) = finder.find_known(from)? else {
                return Ok(None);
            };
            let files = mounted(finder, &source, path);
            let files = files.map_err(|error| error.at(finder.shared.file, mount.span))?;
            key.set(format!("--mount {number} files"), files.to_string());
            bound.insert(keys::bound_name(from, path), files);
        }
    }
    Ok(Some(bound))
}

/// The digest of what a mount shows.
fn mounted(finder: &Finder<'_, '_, '_>, source: &Source<'_>, path: &str) -> Result<Digest> {
    let caching = finder.shared.caching;
    let memo = keys::mounted(source, path);
    let known = memo
        .as_ref()
        .map(|memo| caching.selection(finder.stage, memo));
    if let Some(known) = known.transpose()?.flatten() {
        return Ok(known);
    }
    let wanted = ImagePath::clean([b"/", path.as_bytes()].concat());
    let Resolved::Found(node) = resolve(source.tree(), &wanted, true)? else {
        let message = format!("`{path}` is not in {}", source.tree().describe());
        return Err(Error::new(ErrorKind::Run, message)
            .with_help("a mount's source must be there; the ignore file may exclude it"));
    };
    let reader = Reader {
        shared: finder.shared,
        directory: directory_of(finder, source),
    };
    let files = reader.mounted(source.tree(), node)?;
    if let Some(memo) = memo {
        caching.put_selection(&memo, files)?;
    }
    Ok(files)
}

/// One layer with all files of a directory: the base that a named directory is. `path` is the directory on the host.
///
/// # Errors
/// Those of reading it.
pub(crate) fn layer_of(
    shared: &Shared<'_>,
    stage: &PlannedStage,
    directory: &dyn Tree,
    path: Option<PathBuf>,
) -> Result<Made> {
    // A base has no number of its own: what is told of it is told of the first step.
    let id = stage.steps.first().map_or(StepId(0), |step| step.id);
    let asked = Asked {
        shared,
        stage,
        id,
        keyword: "FROM",
    };
    let Some(root) = directory.look_up(&ImagePath::root())? else {
        let message = format!("{} is not there any more", directory.describe());
        return Err(Error::new(ErrorKind::Context, message));
    };
    let reader = Reader {
        shared,
        directory: path,
    };
    let mut key = keys::directory(&Place::new(&asked, &[], 0));
    let all = Arrival {
        tree: Box::new(directory),
        node: root.clone(),
        how: How::Contents,
        origin: Origin::Path,
    };
    key.set("files", reader.arrivals(&[all])?.to_string());
    shared.caching.through(&asked, &key, |previous| {
        let mut maker = LayerMaker::new(
            shared.store,
            &shared.options,
            shared.interrupt,
            shared.events,
            id,
            previous,
        )?;
        let mut graft = Graft::default();
        graft.put_contents(0, directory, root);
        let made = Entry::directory(ImagePath::root(), shared.now);
        let conflict = |_| Error::new(ErrorKind::Internal, "a single tree is in its own way");
        merge(&graft, None, &made, &conflict, &mut |merged| {
            maker.append(merged, &|_| ())
        })?;
        maker.finish()
    })
}
