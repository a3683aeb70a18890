//! What a stage starts with: the config and the names of an earlier stage, of a base image, or of nothing.

use std::collections::BTreeMap;

use crate::diagnostic::Diagnostic;
use crate::oci::config::ImageConfig;
use crate::plan::config;
use crate::plan::graph::{GraphStage, StageGraph};
use crate::plan::scope::Scope;
use crate::plan::step::StageBase;

/// How many stages start from each stage.
pub(super) fn children(graph: &StageGraph) -> BTreeMap<usize, usize> {
    let mut children = BTreeMap::new();
    for stage in graph.stages.iter().filter(|stage| stage.reachable) {
        if let StageBase::Stage(base) = stage.base {
            *children.entry(base).or_default() += 1;
        }
    }
    children
}

/// What a stage leaves to the stages that start from it, and is gone with the last of them.
#[derive(Clone)]
pub(super) struct Finished {
    pub(super) config: ImageConfig,
    pub(super) scope: Scope,
}

/// What a stage starts with; none where that is not known, which is reported or follows from what was.
pub(super) fn start(
    node: &GraphStage,
    done: &mut BTreeMap<usize, Finished>,
    children: &mut BTreeMap<usize, usize>,
    bases: &BTreeMap<usize, ImageConfig>,
    problems: &mut Vec<Diagnostic>,
) -> Option<Finished> {
    let mut config = match (&node.base, bases.get(&node.index)) {
        (StageBase::Stage(earlier), _) => {
            let left = children.entry(*earlier).or_default();
            *left = left.saturating_sub(1);
            return match left {
                0 => done.remove(earlier),
                _ => done.get(earlier).cloned(),
            };
        }
        (StageBase::Named(_), Some(config)) if *config == ImageConfig::default() => {
            empty_base(node)
        }
        (StageBase::Image { .. } | StageBase::Named(_), Some(config)) => {
            problems.extend(other_platform(node, config));
            config.clone()
        }
        (StageBase::Image { reference, .. }, None) => {
            let message = format!("the config of `{}` is not at hand", reference.value);
            problems.push(Diagnostic::error("base-config", reference.span, message));
            return None;
        }
        (StageBase::Scratch | StageBase::Named(_), _) => empty_base(node),
    };
    config.created = None;
    let directory = std::mem::take(&mut config.config.working_dir);
    config.config.working_dir = config::working_directory(directory);
    let mut scope = Scope::from_env(&config.config.env);
    scope.default_path();
    Some(Finished { config, scope })
}

/// The config of a base that is no image: nothing but a platform and the root directory.
fn empty_base(node: &GraphStage) -> ImageConfig {
    let mut config = ImageConfig::for_platform(&node.platform);
    "/".clone_into(&mut config.config.working_dir);
    config
}

/// The check that a base is of the platform that was asked for.
fn other_platform(node: &GraphStage, config: &ImageConfig) -> Option<Diagnostic> {
    let found = config.platform();
    if config.architecture.is_empty() || node.platform.accepts(&found) {
        return None;
    }
    let message = format!(
        "the base is an image for `{found}`, asked for was `{}`",
        node.platform
    );
    let warning = Diagnostic::warning("InvalidBaseImagePlatform", node.span, message);
    Some(warning.with_help(
        "choose a tag that has this platform, or ask for the other one with `--platform`",
    ))
}
