//! Git repositories: which one a URL names, and how `git` is called about it.
//!
//! The forms of the URL, its fragment `#ref[:subdir]` and its query are those of Docker's reference, "ADD", "Adding
//! files from a Git repository".

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::error::{Error, ErrorKind, Result};
use crate::http::without_user;
use crate::interrupt::Interrupt;

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

/// What holds for every call: nothing of this machine is a repository, whatever a submodule says, and files arrive as
/// they were committed.
const SETTINGS: [&str; 6] = [
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "protocol.file.allow=never",
    "-c",
    "core.autocrlf=false",
];

/// A call of git about a repository.
pub(super) struct Git<'a> {
    /// Where it is called.
    pub(super) directory: &'a Path,
    /// The repository.
    pub(super) source: &'a GitSource,
    /// How.
    pub(super) options: &'a GitOptions,
    /// Is looked at before and after.
    pub(super) interrupt: &'a Interrupt,
}

impl Git<'_> {
    /// Runs one command and returns its standard output.
    #[expect(
        clippy::disallowed_methods,
        reason = "git is called here, with the environment that was handed in"
    )]
    pub(super) fn run(&self, arguments: &[&str]) -> Result<String> {
        self.interrupt.check()?;
        let shown = without_user(&self.source.remote);
        let output = std::process::Command::new(&self.options.program)
            .args(SETTINGS)
            .args(arguments)
            .current_dir(self.directory)
            .env_clear()
            .envs(
                self.options
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .env("GIT_TERMINAL_PROMPT", "0")
            // A repository around the store is none of ours.
            .env(
                "GIT_CEILING_DIRECTORIES",
                self.directory.parent().unwrap_or(self.directory),
            )
            .stdin(Stdio::null())
            .output()
            .map_err(|error| {
                Error::new(
                    ErrorKind::Context,
                    format!("`git` can't be started, and `{shown}` needs it"),
                )
                .with_help("install git")
                .with_source(error)
            })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        // A Ctrl-C reaches git too.
        self.interrupt.check()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.replace(&self.source.remote, &shown);
        let mut error = Error::new(
            ErrorKind::Context,
            format!("`{shown}` can't be checked out"),
        );
        for line in said
            .lines()
            .rev()
            .take(3)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            error = error.with_note(format!("git: {}", line.trim()));
        }
        Err(error.with_help("check the URL, the reference, and that git can log in without asking"))
    }
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
}
