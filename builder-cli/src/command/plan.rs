//! `rbuild plan`: the build as a value, printed.

use builder_core::interrupt::Interrupt;
use builder_core::{Result, build};

use super::{prepare, print};
use crate::environment::Environment;
use crate::flags::BuildFlags;
use crate::render::snippet;

/// Prints the plan; executes and writes nothing.
pub(crate) fn run(
    flags: &BuildFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<()> {
    use std::io::Write as _;
    let (store, request) = prepare(flags, environment, interrupt)?;
    let (plan, warnings) = build::plan(&store, &request)?;
    let renderer = snippet::renderer(environment.colour());
    for warning in &warnings {
        let _ = writeln!(
            std::io::stderr().lock(),
            "{}\n",
            snippet::diagnostic(&renderer, &request.dockerfile, warning)
        );
    }
    print(&plan.to_string())
}
