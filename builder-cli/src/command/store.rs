//! `rbuild store fsck`: everything in the store is read.

use std::fmt::Write as _;

use builder_core::cache::fsck;
use builder_core::interrupt::Interrupt;
use builder_core::{ErrorKind, Result};

use super::{open_store, print};
use crate::environment::Environment;
use crate::exit_code;
use crate::flags::store::FsckFlags;

/// Prints what is wrong, a line each; the status is that of a broken store where something is, and stays.
pub(crate) fn fsck(
    flags: &FsckFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<u8> {
    let store = open_store(&flags.store, environment)?;
    let report = fsck::check(&store, flags.repair, interrupt)?;
    let mut text = String::new();
    for problem in &report.problems {
        let done = if flags.repair { ": taken away" } else { "" };
        // Writing to a string can't fail.
        let _ = writeln!(text, "{}: {}{done}", problem.path.display(), problem.what);
    }
    let number = report.problems.len();
    let problems = if number == 1 { "problem" } else { "problems" };
    let _ = writeln!(text, "{} things read, {number} {problems}", report.checked);
    print(&text)?;
    Ok(if number == 0 || flags.repair {
        exit_code::DONE
    } else {
        exit_code::of(ErrorKind::Store)
    })
}
