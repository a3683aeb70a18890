//! The only reader of variables, home, clock, working directory, terminal and the number of processors.

#![expect(
    clippy::disallowed_methods,
    reason = "this file is where the environment is read"
)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use builder_core::timestamp::Timestamp;

/// What the world looked like when the program started.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    /// All variables.
    pub(crate) variables: BTreeMap<OsString, OsString>,
    /// Where the program was started.
    pub(crate) directory: PathBuf,
    /// The time.
    pub(crate) now: Timestamp,
    /// Whether standard error is a terminal.
    pub(crate) terminal: bool,
    /// Whether standard input is a terminal.
    pub(crate) input_terminal: bool,
    /// Whether standard output is a terminal.
    pub(crate) output_terminal: bool,
    /// This program's own file.
    pub(crate) program: Option<PathBuf>,
    /// How many threads run at once.
    pub(crate) processors: usize,
}

impl Environment {
    /// Reads all of it, once.
    pub(crate) fn read() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            now: Timestamp::from_system_time(SystemTime::now()),
            terminal: std::io::stderr().is_terminal(),
            input_terminal: std::io::stdin().is_terminal(),
            output_terminal: std::io::stdout().is_terminal(),
            program: std::env::current_exe().ok(),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }

    /// A variable that is set and not empty.
    pub(crate) fn path(&self, name: &str) -> Option<&Path> {
        self.variables
            .get(OsStr::new(name))
            .filter(|value| !value.is_empty())
            .map(Path::new)
    }

    /// A variable that is set and is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.variables.get(OsStr::new(name))?.to_str()
    }

    /// Whether colours are wanted on standard error (no-color.org, `CLICOLOR_FORCE`).
    pub(crate) fn colour(&self) -> bool {
        let forced = self
            .path("CLICOLOR_FORCE")
            .is_some_and(|value| value != Path::new("0"));
        forced
            || self.terminal && self.path("NO_COLOR").is_none() && self.text("TERM") != Some("dumb")
    }

    /// The store: `--root`, `$RBUILD_ROOT`, `$XDG_DATA_HOME/rbuild`, `~/.local/share/rbuild`.
    pub(crate) fn store(&self, flag: Option<&Path>) -> Option<PathBuf> {
        if let Some(root) = flag.or_else(|| self.path("RBUILD_ROOT")) {
            return Some(self.directory.join(root));
        }
        let data = self
            .path("XDG_DATA_HOME")
            .filter(|path| path.is_absolute())
            .map(Path::to_owned);
        data.or_else(|| Some(self.path("HOME")?.join(".local/share")))
            .map(|data| data.join("rbuild"))
    }

    /// The user's configuration: `$XDG_CONFIG_HOME` or `~/.config`.
    pub(crate) fn config(&self) -> Option<PathBuf> {
        let named = self
            .path("XDG_CONFIG_HOME")
            .filter(|path| path.is_absolute())
            .map(Path::to_owned);
        named.or_else(|| Some(self.path("HOME")?.join(".config")))
    }

    /// Docker's directory of configuration: `$DOCKER_CONFIG` or `~/.docker`.
    pub(crate) fn docker_config(&self) -> Option<PathBuf> {
        let named = self.path("DOCKER_CONFIG").map(Path::to_owned);
        named
            .or_else(|| Some(self.path("HOME")?.join(".docker")))
            .map(|directory| directory.join("config.json"))
    }
}
