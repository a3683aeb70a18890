//! One stage, step by step. The only place that gives an error the place of its instruction.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use crate::build::caching::{Caching, Made};
use crate::build::finder::Finder;
use crate::build::images::Images;
use crate::build::remote::Remote;
use crate::build::request::RunOptions;
use crate::build::run::{Runner, StageRoot};
use crate::build::session::{Attached, OnFailure};
use crate::build::step::{self, SoFar};
use crate::diagnostic::Diagnostic;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventSink};
use crate::image::Image;
use crate::image::replaced::Replacements;
use crate::image::summary::Summaries;
use crate::image::view::View;
use crate::interrupt::Interrupt;
use crate::layer::LayerOptions;
use crate::oci::config::History;
use crate::plan::step::{CopyFrom, StageBase};
use crate::plan::{Plan, PlannedStage, PlannedStep};
use crate::source::{SourceFile, Span};
use crate::store::{BlobSource, Store};
use crate::timestamp::Timestamp;
use crate::tree::Tree;

/// What all stages of a build share.
pub(crate) struct Shared<'a> {
    /// The Dockerfile.
    pub(crate) file: &'a SourceFile,
    /// The store.
    pub(crate) store: &'a Store,
    /// The build context, where there is one.
    pub(crate) context: Option<&'a dyn Tree>,
    /// The means of ADD.
    pub(crate) remote: Remote<'a>,
    /// How layers are made.
    pub(crate) options: LayerOptions,
    /// The time of what is made now, clamped already.
    pub(crate) now: Timestamp,
    /// What RUN is given.
    pub(crate) run: &'a RunOptions,
    /// The session that is the last step, where there is one.
    pub(crate) session: Option<&'a Attached<'a>>,
    /// What happens when a RUN fails.
    pub(crate) on_failure: Option<&'a OnFailure<'a>>,
    /// Nothing is executed: the question is what would be.
    pub(crate) only_asks: bool,
    /// What executes RUN, where the plan has any.
    pub(crate) runner: Option<&'a Runner<'a>>,
    /// The build cache.
    pub(crate) caching: &'a Caching<'a>,
    /// The directory of the host that the context is.
    pub(crate) context_path: Option<&'a Path>,
    /// The plan.
    pub(crate) plan: &'a Plan,
    /// Where to tell.
    pub(crate) events: &'a dyn EventSink,
    /// Where the layers are that the store doesn't hold.
    pub(crate) source: Option<&'a dyn BlobSource>,
    /// What layers replace without naming it.
    pub(crate) replacements: &'a Replacements,
    /// What the stage that ended last knew of its layers.
    pub(crate) summaries: &'a Summaries,
    /// Whether to stop.
    pub(crate) interrupt: &'a Interrupt,
}

/// Executes a stage on top of what it starts from. `done` holds the results of earlier stages. None where a step would
/// have to be executed, and nobody asked for that.
pub(crate) fn execute(
    shared: &Shared<'_>,
    stage: &PlannedStage,
    base: Image,
    images: &Mutex<Images<'_>>,
    done: &BTreeMap<usize, Image>,
) -> Result<Option<Image>> {
    let mut image = base;
    let base = image.layers.len();
    let mut view = View::new(shared.store, &image.layers, describe(stage))
        .with_source(shared.source)
        .with_replacements(Some(shared.replacements))
        .with_summaries(shared.summaries);
    let mut root = StageRoot::default();
    let finder = Finder {
        shared,
        stage,
        images,
        done,
    };
    for step in &stage.steps {
        shared.interrupt.check()?;
        let started = begin(shared, stage, step);
        let mut so_far = SoFar {
            layers: &image.layers,
            base,
            view: &view,
            root: &mut root,
        };
        let made = step::layer(&finder, step, &mut so_far);
        let copies = |from: &CopyFrom| !matches!(from, CopyFrom::Context);
        let is_step = step.step.sources().any(copies);
        warn_of_replaced(shared, if is_step { step.span } else { stage.span });
        let layer = match made.map_err(|error| blame(error, shared, stage, step))? {
            Made::Nothing => None,
            Made::Layer(layer) => Some(layer),
            Made::Unknown => return Ok(None),
        };
        if step.in_history {
            image
                .config
                .history
                .push(history(shared, step, layer.is_none()));
        }
        let layer_bytes = layer.as_ref().map(|layer| layer.descriptor.size);
        // Of a layer that nobody has, nothing is known.
        let layer_bytes = layer_bytes.filter(|bytes| *bytes > 0);
        if let Some(layer) = layer {
            view.push(layer.clone());
            image.layers.push(layer);
        }
        shared.events.send(Event::StepFinished {
            id: step.id,
            elapsed: started.elapsed(),
            layer_bytes,
        });
    }
    Ok(Some(image))
}

/// How messages name a stage.
pub(crate) fn describe(stage: &PlannedStage) -> String {
    format!("stage `{}`", name(stage))
}

/// A stage's name, or its number from 0.
pub(crate) fn name(stage: &PlannedStage) -> String {
    stage
        .name
        .clone()
        .unwrap_or_else(|| stage.index.to_string())
}

/// What a stage starts from, for people.
pub(crate) fn base_text(stage: &PlannedStage) -> String {
    match &stage.base {
        StageBase::Scratch => "scratch".to_owned(),
        StageBase::Stage(index) => format!("stage {index}"),
        StageBase::Named(name) => name.clone(),
        StageBase::Image { reference, .. } => reference.value.clone(),
    }
}

/// Gives an error its line: that of the step, or of FROM where the base itself is to blame.
fn blame(error: Error, shared: &Shared<'_>, stage: &PlannedStage, step: &PlannedStep) -> Error {
    let of_base = error.kind() == ErrorKind::BaseImage
        && matches!(stage.base, StageBase::Image { .. } | StageBase::Named(_))
        && step
            .step
            .sources()
            .all(|from| !matches!(from, CopyFrom::Image(_) | CopyFrom::Named(_)));
    if !of_base {
        return error.at(shared.file, step.span);
    }
    let image = base_text(stage);
    error
        .with_note(format!("it is a layer of the base `{image}`"))
        .moved_to(shared.file, stage.span)
}

/// Says which layers have files below what is no directory in a lower layer: tools disagree about them. `span` is the
/// line that names the image: FROM, or that of the step that takes it from elsewhere.
pub(crate) fn warn_of_replaced(shared: &Shared<'_>, span: Span) {
    for found in shared.replacements.take() {
        let what = if found.symlink {
            "a symbolic link"
        } else {
            "no directory"
        };
        let (layer, path) = (found.layer, found.path);
        let message = format!(
            "the layer {layer} has files below `{path}`, which is {what} in a lower layer: it is a directory in the image"
        );
        let diagnostic = Diagnostic::warning("directory-replaces", span, message).with_help(
            "a container on overlay mounts shows the same, some tools follow the link; have the layer made again with the \
             directories named in it",
        );
        let file = shared.file.clone();
        shared.events.send(Event::Diagnostic { file, diagnostic });
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the elapsed time of a step is told, and reaches no byte"
)]
fn begin(shared: &Shared<'_>, stage: &PlannedStage, step: &PlannedStep) -> Instant {
    let (text, span) = (step.text.clone(), step.span);
    shared.events.send(Event::StepStarted {
        id: step.id,
        stage: name(stage),
        text,
        span,
    });
    Instant::now()
}

fn history(shared: &Shared<'_>, step: &PlannedStep, empty_layer: bool) -> History {
    History {
        created: Some(shared.now.to_rfc3339()),
        created_by: step.text.clone(),
        comment: "buildkit.dockerfile.v0".to_owned(),
        empty_layer,
        ..History::default()
    }
}
