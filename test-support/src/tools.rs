//! Other people's programs that judge our output.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The path of a program. Where it is missing the test is skipped by name, except in CI, where it fails.
pub fn require(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(tool))
        .find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("{tool} is not installed"));
    }
    found
}

/// Says that the running test is skipped, and why; in CI nothing is skipped.
pub fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{test} can't be skipped in CI: {why}"
    );
    eprintln!("skipped: {test} ({why})");
}

/// Whether a test may take minutes: `scripts/test --long` says so by `RBUILD_LONG=1`.
pub fn is_long() -> bool {
    std::env::var_os("RBUILD_LONG").is_some_and(|value| value == "1")
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a program to its good end.
#[track_caller]
pub fn run(program: &Path, arguments: &[&str]) -> Output {
    try_run(program, arguments).unwrap_or_else(|problem| panic!("{problem}"))
}

/// Runs a program to its end.
///
/// # Errors
/// What it said, where it failed.
pub fn try_run(program: &Path, arguments: &[&str]) -> Result<Output, String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let problem = format!("{} {arguments:?}: {said}", program.display());
    if output.status.success() {
        Ok(output)
    } else {
        Err(problem)
    }
}

/// Whether a program ends well.
pub fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}
