//! The ARG lines above the first FROM.
//!
//! Follows the Dockerfile reference, "Understand how ARG and FROM interact", and the specification of
//! `SOURCE_DATE_EPOCH` of reproducible-builds.org.

use crate::diagnostic::Diagnostic;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::InstructionKind;
use crate::dockerfile::{Dockerfile, Stage};

use super::PlanOptions;
use super::epoch::{self, EpochSource};
use super::scope::GlobalArgs;

/// The ARGs above FROM. Without `given`, as if there were no `--build-arg` for them.
pub(super) fn global_args(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    given: bool,
    problems: &mut Vec<Diagnostic>,
) -> GlobalArgs {
    let last = dockerfile.stages.last().and_then(Stage::name);
    let mut globals = GlobalArgs::predefined(options, last.as_deref());
    for instruction in &dockerfile.global {
        let InstructionKind::Arg(arg) = &instruction.kind else {
            continue;
        };
        for declaration in &arg.args {
            let name = &declaration.name.text;
            let value = match (
                options.build_args.get(name).filter(|_| given),
                &declaration.default,
            ) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => {
                    let lookup = |name: &str| globals.lookup(name);
                    let expander = Expander {
                        escape: dockerfile.directives.escape,
                        lookup: &lookup,
                    };
                    match expander.word(default) {
                        Ok(expanded) => Some(expanded.value),
                        Err(problem) => {
                            problems.push(problem);
                            None
                        }
                    }
                }
                (None, None) => None,
            };
            // The number stands for the name that was given.
            let value = match options.epoch.filter(|_| name == epoch::NAME) {
                Some(found) => found.map(|seconds| seconds.to_string()),
                None => value,
            };
            globals.declare(name, value, declaration.name.span);
        }
    }
    globals
}

/// `SOURCE_DATE_EPOCH` in seconds: the argument's number, or what was found for the name in its place. Without the latter
/// a name is none.
pub(super) fn epoch(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    problems: &mut Vec<Diagnostic>,
) -> Option<i64> {
    if let Some(found) = options.epoch {
        return found;
    }
    match epoch::source(dockerfile, options) {
        Ok(Some(EpochSource::Seconds(seconds))) => Some(seconds),
        Ok(_) => None,
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}
