//! The ARG lines above the first FROM.
//!
//! Follows the Dockerfile reference, "Understand how ARG and FROM interact", and the specification of
//! `SOURCE_DATE_EPOCH` of reproducible-builds.org.

use crate::diagnostic::Diagnostic;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::InstructionKind;
use crate::dockerfile::{Dockerfile, Stage};

use super::PlanOptions;
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
            globals.declare(name, value, declaration.name.span);
        }
    }
    globals
}

/// `SOURCE_DATE_EPOCH` from a build argument or an ARG above FROM.
pub(super) fn epoch(
    globals: &GlobalArgs,
    options: &PlanOptions,
    problems: &mut Vec<Diagnostic>,
) -> Option<i64> {
    let given = options.build_args.get("SOURCE_DATE_EPOCH").cloned();
    let value = given.or_else(|| globals.lookup("SOURCE_DATE_EPOCH"))?;
    if value.is_empty() {
        return None;
    }
    let found = value.parse().ok();
    if found.is_none() {
        let span = globals.declared("SOURCE_DATE_EPOCH").unwrap_or_default();
        let message =
            format!("`SOURCE_DATE_EPOCH` takes a number of seconds since 1970, found `{value}`");
        let problem = Diagnostic::error("source-date-epoch", span, message);
        problems
            .push(problem.with_help(
                "rbuild does not take times from a context or a stage; give the number",
            ));
    }
    found
}
