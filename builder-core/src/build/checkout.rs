//! A commit's files, checked out by `git`.
//!
//! The checkout is shallow; files get mode 0644 or 0755 and the time of the commit, so that the same commit gives the
//! same layer. A `.git` that is kept answers as after a clone: where it came from, which branch or tag it is.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use crate::build::git::{Git, GitOptions, GitSource};
use crate::error::{Error, ErrorKind, Result};
use crate::http::without_user;
use crate::image_path::ImagePath;
use crate::interrupt::Interrupt;
use crate::store::TemporaryDirectory;
use crate::timestamp::Timestamp;
use crate::tree::directory::Directory;
use crate::tree::filter::{Filtered, Keep};
use crate::tree::pattern::PatternList;
use crate::tree::{Listing, Node, Tree};

/// A commit's files in a directory, with `.git`. They are gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Checkout {
    place: TemporaryDirectory,
    /// When the commit was made.
    pub(crate) time: Timestamp,
    /// The commit's id.
    pub(crate) commit: String,
}

/// Checks a repository out into `place`.
pub(crate) fn make(
    source: &GitSource,
    place: TemporaryDirectory,
    options: &GitOptions,
    interrupt: &Interrupt,
) -> Result<Checkout> {
    let git = Git {
        directory: place.path(),
        source,
        options,
        interrupt,
    };
    // Without the user's template: its hooks and attributes are not for what others wrote.
    git.run(&["init", "--quiet", "--template=", "."])?;
    // Relative URLs of submodules are relative to it.
    git.run(&["remote", "add", "--", "origin", &source.remote])?;
    fetch(&git)?;
    let head = git.run(&["rev-parse", "HEAD"])?;
    check_commit(source, head.trim())?;
    if source.submodules {
        git.run(&[
            "submodule",
            "--quiet",
            "update",
            "--init",
            "--recursive",
            "--depth=1",
        ])?;
    }
    let time = git.run(&["log", "-1", "--format=%ct"])?;
    let time = Timestamp::from_seconds(time.trim().parse().unwrap_or(0));
    if source.keep_git_dir && source.subdirectory.is_none() {
        tidy(&git, head.trim())?;
    }
    Ok(Checkout {
        place,
        time,
        commit: head.trim().to_owned(),
    })
}

/// Fetches and checks out the reference.
fn fetch(git: &Git<'_>) -> Result<()> {
    let reference = git.source.reference.as_deref().unwrap_or("HEAD");
    let shallow = git.run(&["fetch", "--quiet", "--depth=1", "--", "origin", reference]);
    match shallow {
        Ok(_) => git.run(&["checkout", "--quiet", "--detach", "FETCH_HEAD"])?,
        // A commit that no branch or tag names: not every server hands it out alone.
        Err(_) if is_commit(reference) => {
            git.run(&["fetch", "--quiet", "--tags", "--", "origin"])?;
            git.run(&["checkout", "--quiet", "--detach", reference])?
        }
        Err(error) => return Err(error),
    };
    Ok(())
}

fn check_commit(source: &GitSource, head: &str) -> Result<()> {
    let expected = source.commit.as_deref().unwrap_or_default();
    if head.starts_with(expected) {
        return Ok(());
    }
    let message = format!(
        "`{}` is not at the commit that `--checksum` says",
        without_user(&source.remote)
    );
    Err(Error::new(ErrorKind::Context, message)
        .with_note(format!("expected {expected}"))
        .with_note(format!("found    {head}")))
}

fn is_commit(reference: &str) -> bool {
    reference.len() >= 7 && reference.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What a repository forgets before others see it: when and from where it was fetched by whom, and what the files were
/// on this machine. An index without that says the same of the files, in the same bytes each time.
const FORGET: &str = "git reflog expire --all --expire=now && git read-tree HEAD && \
    rm -f \"$(git rev-parse --git-dir)/FETCH_HEAD\"";

/// Makes of `.git` what it is to be in the image.
fn tidy(git: &Git<'_>, head: &str) -> Result<()> {
    name_head(git, head)?;
    let shown = without_user(&git.source.remote);
    git.run(&["remote", "set-url", "origin", &shown])?;
    if git.source.submodules {
        // Where their URLs are relative, the password of the remote is in them.
        git.run(&["submodule", "--quiet", "sync", "--recursive"])?;
        git.run(&["submodule", "--quiet", "foreach", "--recursive", FORGET])?;
    }
    git.run(&["reflog", "expire", "--all", "--expire=now"])?;
    git.run(&["read-tree", "HEAD"])?;
    let list = git.directory.join(".git/FETCH_HEAD");
    match std::fs::remove_file(&list) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let message = format!("cannot remove `{}`", list.display());
            Err(Error::new(ErrorKind::Store, message).with_source(error))
        }
        _ => Ok(()),
    }
}

/// Gives the commit the name that it was asked for by: a tag, with its message, or a branch. A commit that was asked for
/// by its id gets the tags that name it.
fn name_head(git: &Git<'_>, head: &str) -> Result<()> {
    let reference = git.source.reference.as_deref();
    if reference.is_some_and(is_commit) {
        let listed = git.run(&["ls-remote", "--tags", "--", "origin"])?;
        return tags_of(&listed, head).iter().try_for_each(|tag| {
            let both = format!("{tag}:{tag}");
            git.run(&["fetch", "--quiet", "--depth=1", "--", "origin", &both])
                .map(|_| ())
        });
    }
    let path = git.directory.join(".git/FETCH_HEAD");
    let fetched = std::fs::read_to_string(&path).map_err(|error| {
        Error::new(
            ErrorKind::Store,
            format!("cannot read `{}`", path.display()),
        )
        .with_source(error)
    })?;
    let name = match fetched_name(&fetched) {
        Some(name) => Some(name),
        None if reference.is_none() => {
            let listed = git.run(&["ls-remote", "--symref", "--", "origin", "HEAD"])?;
            let target = listed.lines().find_map(|line| line.strip_prefix("ref: "));
            target.and_then(|line| Some(line.split_once('\t')?.0.to_owned()))
        }
        None => None,
    };
    if let Some(name) = name {
        let id = fetched.split('\t').next().unwrap_or(head);
        git.run(&["update-ref", &name, id])?;
    }
    Ok(())
}

/// The full name of what was fetched, from what git wrote about it (git-fetch(1), `FETCH_HEAD`).
fn fetched_name(text: &str) -> Option<String> {
    let description = text.lines().next()?.rsplit('\t').next()?;
    let (kind, rest) = description.split_once(" '")?;
    let (name, _) = rest.rsplit_once("' of ")?;
    match kind {
        "tag" => Some(format!("refs/tags/{name}")),
        "branch" => Some(format!("refs/heads/{name}")),
        _ => None,
    }
}

/// The tags that name a commit, from the lines of `git ls-remote`.
fn tags_of(listed: &str, commit: &str) -> Vec<String> {
    let lines = listed.lines().filter_map(|line| line.split_once('\t'));
    let named = lines.filter(|(id, _)| *id == commit);
    let mut tags: Vec<String> = named
        .map(|(_, name)| name.trim_end_matches("^{}").to_owned())
        .collect();
    tags.sort();
    tags.dedup();
    tags
}

/// A checkout as a tree. Its files are gone when it is dropped.
#[derive(Debug)]
pub(crate) struct CheckedOut {
    files: Filtered<Directory>,
    time: Timestamp,
    _place: TemporaryDirectory,
}

impl CheckedOut {
    /// Opens what [`make`] made, without `.git` unless it is kept.
    pub(crate) fn open(checkout: Checkout, source: &GitSource) -> Result<Self> {
        let Checkout { place, time, .. } = checkout;
        let subdirectory = ImagePath::clean(source.subdirectory.as_deref().unwrap_or(""));
        let mut path = place.path().to_owned();
        for component in subdirectory.components() {
            path.push(OsStr::from_bytes(component));
            if path
                .symlink_metadata()
                .is_ok_and(|found| found.is_symlink())
            {
                let message = format!(
                    "`{subdirectory}` of `{}` is a symbolic link",
                    without_user(&source.remote)
                );
                return Err(Error::new(ErrorKind::Context, message));
            }
        }
        let description = format!("the repository `{}`", without_user(&source.remote));
        let directory = Directory::open(&path, &description)?;
        let hidden = [ImagePath::clean("/.git")];
        let hidden = if source.keep_git_dir {
            PatternList::default()
        } else {
            PatternList::from_literals(&hidden)
        };
        let files = Filtered::new(
            directory,
            ImagePath::root(),
            Arc::new(hidden),
            Keep::Unmatched,
            "git's own",
        );
        Ok(Self {
            files,
            time,
            _place: place,
        })
    }

    /// When the commit was made.
    pub(crate) fn time(&self) -> Timestamp {
        self.time
    }

    fn normalise(&self, mut node: Node) -> Node {
        let executable = node.entry.mode & 0o100 != 0;
        if !node.entry.is_symlink() {
            node.entry.mode = if node.entry.is_directory() || executable {
                0o755
            } else {
                0o644
            };
        }
        node.entry.mtime = self.time;
        node.link = None;
        node
    }
}

impl Tree for CheckedOut {
    fn look_up(&self, path: &ImagePath) -> Result<Option<Node>> {
        Ok(self.files.look_up(path)?.map(|node| self.normalise(node)))
    }

    fn list(&self, path: &ImagePath) -> Result<Listing<'_>> {
        Ok(Box::new(
            self.files
                .list(path)?
                .map(|node| node.map(|node| self.normalise(node))),
        ))
    }

    fn open(&self, node: &mut Node) -> Result<Box<dyn Read + Send + '_>> {
        let mut found = node.clone();
        let reader = self.files.open(&mut found)?;
        *node = self.normalise(found);
        Ok(reader)
    }

    fn describe(&self) -> String {
        self.files.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_has_a_name() {
        for (line, expected) in [
            ("a1\t\ttag 'v1.2' of git://h/r", Some("refs/tags/v1.2")),
            (
                "a1\t\tbranch 'x/it's' of https://h/r",
                Some("refs/heads/x/it's"),
            ),
            ("a1\t\thttps://h/r", None),
            ("a1\t\t'refs/changes/1' of https://h/r", None),
            ("", None),
        ] {
            assert_eq!(fetched_name(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn tags_name_a_commit_or_a_tag_of_it() {
        let listed =
            "a\trefs/tags/light\nb\trefs/tags/v1\na\trefs/tags/v1^{}\nc\trefs/tags/other\n";
        assert_eq!(tags_of(listed, "a"), ["refs/tags/light", "refs/tags/v1"]);
        assert!(tags_of(listed, "d").is_empty());
    }
}
