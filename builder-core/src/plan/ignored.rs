//! The check `CopyIgnoredFile`: COPY names a file that the ignore file leaves out of the context.
//!
//! Follows Docker's build check of that name.

use crate::diagnostic::Diagnostic;

use super::Plan;
use super::step::{CopyFrom, CopySource, Step};

/// A warning for each plain source of COPY and ADD that `is_ignored` knows to be left out. The closure gets a path
/// relative to the context, without a leading slash. To be called only where the ignore file has no `!` line, as
/// Docker does.
pub fn ignored_sources(plan: &Plan, is_ignored: &dyn Fn(&str) -> bool) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let Step::Copy(copy) = &step.step else {
            continue;
        };
        if copy.from != CopyFrom::Context {
            continue;
        }
        for source in &copy.sources {
            let CopySource::Path(path) = source else {
                continue;
            };
            let clean = super::config::clean(&path.value);
            let relative = clean.trim_start_matches('/');
            if !relative.is_empty() && is_ignored(relative) {
                let message = format!(
                    "`{}` is left out of the build context by the ignore file",
                    path.value
                );
                let warning = Diagnostic::warning("CopyIgnoredFile", path.span, message);
                found.push(warning.with_help("change the ignore file, or don't copy it"));
            }
        }
    }
    found
}
