//! The whole build as a value: stages with fully expanded steps and the config that each stage ends with.
//!
//! Two pure steps: [`graph()`] needs the file alone and says which base images are needed; [`lower()`] needs their
//! configs and gives the [`Plan`]. Follows the Dockerfile reference; where rbuild differs on purpose (ENV always
//! overrides ARG) the code says so.
#![allow(
    clippy::result_large_err,
    reason = "an error here is a diagnostic, made at most once an instruction"
)]

pub mod config;
pub mod epoch;
mod from_line;
mod globals;
pub mod graph;
pub mod ignored;
pub mod lower;
pub mod outline;
pub mod ports;
pub mod print;
pub mod reference_text;
pub mod scope;
pub mod step;

use std::collections::{BTreeMap, BTreeSet};

use crate::event::StepId;
use crate::oci::config::ImageConfig;
use crate::platform::Platform;
use crate::source::Span;

pub use graph::{GraphStage, StageGraph, graph};
pub use lower::lower;
use step::{CopyFrom, StageBase, Step};

/// What the user chose beside the file.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// `--build-arg`, by name.
    pub build_args: BTreeMap<String, String>,
    /// `--target`: a stage's name in any case.
    pub target: Option<String>,
    /// `--platform`; none is the build platform.
    pub platform: Option<Platform>,
    /// The platform that builds.
    pub build_platform: Platform,
    /// `--label`, in order: applied last, to the target alone, not in the history.
    pub labels: Vec<(String, String)>,
    /// The names given with `--build-context`, as typed.
    pub named_contexts: BTreeSet<String>,
    /// `--ignore-syntax`: don't look at the `syntax` directive.
    pub ignore_syntax: bool,
    /// The seconds that were found for a `SOURCE_DATE_EPOCH` which names its source; the inner none where the source has
    /// no time.
    #[allow(
        clippy::option_option,
        reason = "not looked for, without a time, and a time are three things"
    )]
    pub epoch: Option<Option<i64>>,
}

impl PlanOptions {
    /// The choices of someone who gave no option.
    pub fn new(build_platform: Platform) -> Self {
        Self {
            build_args: BTreeMap::new(),
            target: None,
            platform: None,
            build_platform,
            labels: Vec::new(),
            named_contexts: BTreeSet::new(),
            ignore_syntax: false,
            epoch: None,
        }
    }

    /// Puts the seconds that were found in the place of the name that `SOURCE_DATE_EPOCH` was given.
    pub fn set_epoch(&mut self, found: Option<i64>) {
        self.epoch = Some(found);
        if self.build_args.remove(epoch::NAME).is_some() {
            let seconds = found.map(|seconds| (epoch::NAME.to_owned(), seconds.to_string()));
            self.build_args.extend(seconds);
        }
    }

    /// The platform that is built for.
    pub fn target_platform(&self) -> &Platform {
        self.platform.as_ref().unwrap_or(&self.build_platform)
    }
}

/// A build, fully expanded and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The stages that the target needs, in file order.
    pub stages: Vec<PlannedStage>,
    /// The target's index in the Dockerfile.
    pub target: usize,
    /// The config that the target ends with. `history` and `rootfs` are those of its base image; what this build adds to
    /// them follows from the steps. `created` is none. Other stages' configs end with the plan: a thousand stages one on
    /// the other would hold the same thousand times.
    pub config: ImageConfig,
    /// `SOURCE_DATE_EPOCH`: seconds since 1970 that no time of this build may exceed.
    pub epoch: Option<i64>,
}

impl Plan {
    /// The stage with an index in the Dockerfile, if the target needs it.
    pub fn stage(&self, index: usize) -> Option<&PlannedStage> {
        self.stages.iter().find(|stage| stage.index == index)
    }
}

/// One stage of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStage {
    /// Its index in the Dockerfile, from 0.
    pub index: usize,
    /// Its name in lower case.
    pub name: Option<String>,
    /// What it starts from.
    pub base: StageBase,
    /// Its platform.
    pub platform: Platform,
    /// The FROM line.
    pub span: Span,
    /// What it does, in order.
    pub steps: Vec<PlannedStep>,
}

impl PlannedStage {
    /// The stages whose results it uses, by their indexes in the Dockerfile; all are lower than its own.
    pub fn needs(&self) -> BTreeSet<usize> {
        let mut needs = BTreeSet::new();
        if let StageBase::Stage(index) = self.base {
            needs.insert(index);
        }
        for step in &self.steps {
            needs.extend(step.step.sources().filter_map(|from| match from {
                CopyFrom::Stage(index) => Some(*index),
                _ => None,
            }));
        }
        needs
    }
}

/// One step of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// Its number in the plan, from 1.
    pub id: StepId,
    /// The instruction; for a trigger of the base, the FROM line.
    pub span: Span,
    /// The instruction as the history shows it (`created_by`).
    pub text: String,
    /// Whether the history has an item for it; ONBUILD has none.
    pub in_history: bool,
    /// Whether it makes no layer.
    pub empty_layer: bool,
    /// What to do.
    pub step: Step,
}
