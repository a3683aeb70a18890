//! Git repositories: which one a URL names, and how `git` is called about it.
//!
//! The forms of the URL, its fragment `#ref[:subdir]` and its query are those of Docker's reference, "ADD", "Adding
//! files from a Git repository".

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, ErrorKind, Result};
use crate::http::without_user;
use crate::interrupt::Interrupt;
use crate::program::{self, Finished, Problem};

/// How git is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitOptions {
    /// The program; looked up in the caller's PATH where it has no `/`.
    pub program: PathBuf,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
}

impl Default for GitOptions {
    fn default() -> Self {
        Self {
            program: PathBuf::from("git"),
            environment: Vec::new(),
        }
    }
}

/// A repository, and what of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GitSource {
    /// The URL without fragment and query.
    pub(super) remote: String,
    /// A branch, a tag, a commit; none for what the repository itself points to.
    pub(super) reference: Option<String>,
    /// The directory that arrives; none for all.
    pub(super) subdirectory: Option<String>,
    /// The commit that it must be, or the beginning of its id.
    pub(super) commit: Option<String>,
    /// Whether `.git` arrives too.
    pub(super) keep_git_dir: bool,
    /// Whether submodules are checked out.
    pub(super) submodules: bool,
}

impl GitSource {
    /// Reads a URL. `keep_git_dir` and `checksum` are the flags, which must not contradict the query.
    pub(crate) fn parse(
        url: &str,
        keep_git_dir: Option<bool>,
        checksum: Option<&str>,
    ) -> Result<Self> {
        let problem = |what: String| {
            Error::new(
                ErrorKind::Dockerfile,
                format!("`{}`: {what}", without_user(url)),
            )
        };
        let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
        let (remote, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let mut source = Self {
            remote: remote.to_owned(),
            reference: some(reference),
            subdirectory: some(subdirectory),
            commit: checksum.map(str::to_owned),
            keep_git_dir: keep_git_dir.unwrap_or(false),
            submodules: true,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let flag = matches!(value, "" | "1" | "true");
            match key {
                "ref" => source.set_reference(value.to_owned()).map_err(problem)?,
                "branch" => source
                    .set_reference(format!("refs/heads/{value}"))
                    .map_err(problem)?,
                "tag" => source
                    .set_reference(format!("refs/tags/{value}"))
                    .map_err(problem)?,
                "subdir" if source.subdirectory.is_none() => source.subdirectory = some(value),
                "checksum" | "commit" => source.commit = some(value),
                "keep-git-dir" => source.keep_git_dir = flag,
                "submodules" => source.submodules = flag,
                "mtime" | "fetch-by-commit" => {}
                _ => {
                    return Err(problem(format!(
                        "the query has `{key}`, which is unknown or given twice"
                    )));
                }
            }
        }
        let option_like =
            |text: &Option<String>| text.as_deref().is_some_and(|text| text.starts_with('-'));
        if source.remote.starts_with('-') || option_like(&source.reference) {
            return Err(problem("a name can't begin with `-`".to_owned()));
        }
        Ok(source)
    }

    fn set_reference(&mut self, reference: String) -> Result<(), String> {
        if self.reference.is_some() {
            return Err("the reference is given twice".to_owned());
        }
        self.reference = Some(reference);
        Ok(())
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// What holds for every call: nothing of this machine is a repository, whatever a submodule says, files arrive as they
/// were committed, and no hook of the user's is run in what others wrote.
const SETTINGS: [&str; 8] = [
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "protocol.file.allow=never",
    "-c",
    "core.autocrlf=false",
    "-c",
    "core.hooksPath=/dev/null",
];

/// What the environment may say of a repository that git is called in: inside a hook it says where the user's own is,
/// and a call elsewhere would change that one. The names of `git rev-parse --local-env-vars`, of which later versions
/// have more, those of older versions, and of a push that is being received.
const LOCAL: [&str; 19] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DEFAULT_HASH",
    "GIT_DEFAULT_REF_FORMAT",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// The beginnings of further such names: what a hook is told, and templates and attributes of another repository.
const LOCAL_PREFIXES: [&str; 6] = [
    "GIT_CONFIG_KEY_",
    "GIT_CONFIG_VALUE_",
    "GIT_QUARANTINE_",
    "GIT_PUSH_",
    "GIT_TEMPLATE_",
    "GIT_ATTR_SOURCE",
];

/// Whether a variable is about some repository of the caller's.
fn is_local(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let begins = |prefix: &str| name.starts_with(prefix.as_bytes());
    LOCAL.iter().any(|local| local.as_bytes() == name)
        || LOCAL_PREFIXES.iter().any(|prefix| begins(prefix))
}

/// A call of git about a repository.
pub(super) struct Git<'a> {
    /// Where it is called.
    pub(super) directory: &'a Path,
    /// The repository.
    pub(super) source: &'a GitSource,
    /// How.
    pub(super) options: &'a GitOptions,
    /// Ends it.
    pub(super) interrupt: &'a Interrupt,
}

impl Git<'_> {
    /// Runs one command and returns its standard output.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<String> {
        self.interrupt.check()?;
        let shown = without_user(&self.source.remote);
        let finished = program::run(&mut self.command(arguments), b"", self.interrupt);
        let finished = finished.map_err(|problem| match problem {
            Problem::Interrupted => Error::new(ErrorKind::Interrupted, "interrupted"),
            Problem::Start(error) => Error::new(
                ErrorKind::Context,
                format!("`git` can't be started, and `{shown}` needs it"),
            )
            .with_help("install git")
            .with_source(error),
            problem @ Problem::TooMuch => Error::new(
                ErrorKind::Context,
                format!("`git` was ended while it asked `{shown}`"),
            )
            .with_source(problem),
        })?;
        if finished.success {
            return Ok(String::from_utf8_lossy(&finished.stdout).into_owned());
        }
        Err(self.failure(&finished))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "git is called here, with the environment that was handed in"
    )]
    fn command(&self, arguments: &[&str]) -> Command {
        let given = self.options.environment.iter();
        let given = given.filter(|(name, _)| !is_local(name));
        let mut command = Command::new(&self.options.program);
        command
            .args(SETTINGS)
            .args(arguments)
            .current_dir(self.directory)
            .env_clear()
            // The process group of its own may not use the terminal, so ssh would be stopped in its question.
            .env("SSH_ASKPASS", "false")
            .env("SSH_ASKPASS_REQUIRE", "force")
            .envs(given.map(|(name, value)| (name, value)))
            .env("GIT_TERMINAL_PROMPT", "0")
            // A repository around the store is none of ours.
            .env(
                "GIT_CEILING_DIRECTORIES",
                self.directory.parent().unwrap_or(self.directory),
            )
            .stderr(Stdio::piped());
        command
    }

    fn failure(&self, finished: &Finished) -> Error {
        let shown = without_user(&self.source.remote);
        let said = String::from_utf8_lossy(&finished.stderr);
        let said = said.replace(&self.source.remote, &shown);
        let lines: Vec<&str> = said.lines().collect();
        let message = format!("`{shown}` can't be checked out");
        let last = lines[lines.len().saturating_sub(3)..].iter();
        last.fold(Error::new(ErrorKind::Context, message), |error, line| {
            error.with_note(format!("git: {}", line.trim()))
        })
        .with_help("check the URL, the reference, and that git can log in without asking")
    }
}

/// Reads a URL, for the fuzzer.
#[cfg(fuzzing)]
pub fn fuzz_url(url: &str) {
    let _ = GitSource::parse(url, None, None);
    let _ = GitSource::parse(url, Some(true), Some("0123456789"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls() {
        let check = |url: &str| GitSource::parse(url, None, None);
        let source = check("https://h/r.git#v1:sub/dir").unwrap();
        assert_eq!(source.remote, "https://h/r.git");
        assert_eq!(source.reference.as_deref(), Some("v1"));
        assert_eq!(source.subdirectory.as_deref(), Some("sub/dir"));
        let source =
            check("git@h:r.git?branch=main&subdir=x&keep-git-dir=1&submodules=false").unwrap();
        assert_eq!(source.reference.as_deref(), Some("refs/heads/main"));
        assert!(source.keep_git_dir && !source.submodules);
        for url in [
            "https://h/r.git?what=1",
            "https://h/r.git?tag=a&branch=b",
            "https://h/r.git#--upload-pack=x",
        ] {
            assert!(check(url).is_err(), "{url}");
        }
    }

    /// What this machine's git calls local is left out, and what has to do with logins and the network is not.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the names are asked of git itself"
    )]
    fn the_local_environment_of_git_is_known() {
        if test_support::tools::require("git").is_none() {
            return;
        }
        let output = Command::new("git")
            .args(["rev-parse", "--local-env-vars"])
            .output()
            .unwrap();
        let names = String::from_utf8(output.stdout).unwrap();
        assert!(names.contains("GIT_DIR"));
        let unknown: Vec<&str> = names
            .lines()
            .filter(|name| !is_local(OsStr::new(name)))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        for (name, local) in [
            ("GIT_CONFIG_KEY_0", true),
            ("GIT_CONFIG_VALUE_12", true),
            ("GIT_QUARANTINE_PATH", true),
            ("GIT_CONFIG_GLOBAL", false),
            ("GIT_CONFIG_NOSYSTEM", false),
            ("GIT_SSH_COMMAND", false),
            ("GIT_ASKPASS", false),
            ("GIT_SSL_CAINFO", false),
            ("GIT_EXEC_PATH", false),
            ("HOME", false),
        ] {
            assert_eq!(is_local(OsStr::new(name)), local, "{name}");
        }
    }
}
