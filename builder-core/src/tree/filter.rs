//! A tree less what patterns exclude, or only what patterns include.
//!
//! One mechanism serves three callers: the ignore file of a context and `--exclude` hide what is matched, `--parents`
//! shows only what is matched. A directory that is itself hidden shows where something below it is visible, with its
//! own metadata, because a file can't be without its directory. A hidden directory is not walked unless a pattern
//! could make something below it visible.

use std::io::Read;
use std::sync::Arc;

use super::pattern::{MatchState, PatternList};
use super::{Listing, Node, Tree};
use crate::error::Result;
use crate::image_path::ImagePath;

/// Which of the matched and the unmatched are visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// What no pattern matches.
    Unmatched,
    /// What a pattern matches, and everything below it.
    Matched,
}

/// A tree seen through patterns. Paths are compared relative to `base`.
#[derive(Debug)]
pub struct Filtered<T> {
    inner: T,
    base: ImagePath,
    patterns: Arc<PatternList>,
    keep: Keep,
    origin: String,
    marks: bool,
}

impl<T: Tree> Filtered<T> {
    /// Sees `inner` through `patterns`, which are relative to `base`. `origin` is what the patterns come from, for
    /// [`Tree::explain_absence`]: `.dockerignore`, `--exclude`.
    pub fn new(
        inner: T,
        base: ImagePath,
        patterns: Arc<PatternList>,
        keep: Keep,
        origin: &str,
    ) -> Self {
        Self {
            inner,
            base,
            patterns,
            keep,
            origin: origin.to_owned(),
            marks: false,
        }
    }

    /// This filter, which says of each hidden directory that it is a mere [passage](Node::passage).
    #[must_use]
    pub fn marking_passages(mut self) -> Self {
        self.marks = true;
        self
    }

    /// The path that patterns are compared with; none where it is not below the base.
    fn relative(&self, path: &ImagePath) -> Option<ImagePath> {
        path.strip_prefix(&self.base)
    }

    fn state(&self, path: &ImagePath) -> MatchState {
        self.relative(path).map_or_else(
            || self.patterns.root_state(),
            |path| self.patterns.state_of(&path),
        )
    }

    fn is_kept(&self, state: &MatchState) -> bool {
        state.matched == (self.keep == Keep::Matched)
    }

    /// Whether a child is visible, given its state.
    fn shows(&self, node: &Node, state: &MatchState) -> Result<bool> {
        if self.is_kept(state) {
            return Ok(true);
        }
        Ok(node.entry.is_directory() && self.shows_below(&node.entry.path, state)?)
    }

    /// A child as it is seen, given its state; none where it is hidden.
    fn seen(&self, mut node: Node, state: &MatchState) -> Result<Option<Node>> {
        if !self.shows(&node, state)? {
            return Ok(None);
        }
        node.passage |= self.marks && !self.is_kept(state);
        Ok(Some(node))
    }

    /// Whether anything below a hidden directory is visible.
    fn shows_below(&self, path: &ImagePath, state: &MatchState) -> Result<bool> {
        let Some(relative) = self.relative(path) else {
            return Ok(false);
        };
        if !self
            .patterns
            .may_change_below(state, relative.as_relative())
        {
            return Ok(false);
        }
        for child in self.inner.list(path)? {
            let child = child?;
            let below = self.child_state(state, &child.entry.path);
            if self.shows(&child, &below)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn child_state(&self, parent: &MatchState, path: &ImagePath) -> MatchState {
        self.relative(path).map_or_else(
            || self.patterns.root_state(),
            |path| self.patterns.enter(parent, path.as_relative()),
        )
    }
}

impl<T: Tree> Tree for Filtered<T> {
    fn look_up(&self, path: &ImagePath) -> Result<Option<Node>> {
        let Some(node) = self.inner.look_up(path)? else {
            return Ok(None);
        };
        if path.is_root() || *path == self.base {
            return Ok(Some(node));
        }
        self.seen(node, &self.state(path))
    }

    fn list(&self, path: &ImagePath) -> Result<Listing<'_>> {
        let state = self.state(path);
        if !self.is_kept(&state)
            && !self.relative(path).is_some_and(|relative| {
                relative.is_root()
                    || self
                        .patterns
                        .may_change_below(&state, relative.as_relative())
            })
        {
            return Ok(Box::new(std::iter::empty()));
        }
        let children = self.inner.list(path)?;
        Ok(Box::new(children.filter_map(move |child| {
            let node = match child {
                Ok(node) => node,
                Err(error) => return Some(Err(error)),
            };
            let below = self.child_state(&state, &node.entry.path);
            self.seen(node, &below).transpose()
        })))
    }

    fn open(&self, node: &mut Node) -> Result<Box<dyn Read + Send + '_>> {
        self.inner.open(node)
    }

    fn explain_absence(&self, path: &ImagePath) -> Option<String> {
        if self.keep == Keep::Matched || !matches!(self.inner.look_up(path), Ok(Some(_))) {
            return self.inner.explain_absence(path);
        }
        let pattern = self.patterns.get(self.state(path).decided_by?)?;
        Some(match pattern.line {
            0 => format!("left out of the context as {}", self.origin),
            line => format!("excluded by {}:{line} `{}`", self.origin, pattern.text),
        })
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::directory::Directory;

    fn check(keep: Keep, patterns: &[&str], expected: &[&str]) {
        let home = tempfile::tempdir().unwrap();
        for file in ["a/x.md", "a/y", "b/c/x.md", "b/c/z", "d/only", "top"] {
            let path = home.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        let directory = Directory::open(home.path(), "test").unwrap();
        let patterns = PatternList::from_patterns(patterns.iter().copied()).unwrap();
        let tree = Filtered::new(
            directory,
            ImagePath::root(),
            Arc::new(patterns),
            keep,
            "ignore",
        );
        let mut found = Vec::new();
        collect(&tree, &ImagePath::root(), &mut found);
        assert_eq!(found, expected);
        for path in [
            "/a",
            "/a/x.md",
            "/a/y",
            "/b",
            "/b/c",
            "/b/c/x.md",
            "/b/c/z",
            "/d",
            "/d/only",
            "/top",
        ] {
            let visible = tree.look_up(&ImagePath::clean(path)).unwrap().is_some();
            assert_eq!(visible, expected.contains(&path), "{path}");
        }
    }

    fn collect(tree: &dyn Tree, path: &ImagePath, found: &mut Vec<String>) {
        for node in tree.list(path).unwrap() {
            let path = node.unwrap().entry.path;
            found.push(path.to_string());
            collect(tree, &path, found);
        }
    }

    #[test]
    fn hides_what_is_matched() {
        check(
            Keep::Unmatched,
            &["**/*.md", "d"],
            &["/a", "/a/y", "/b", "/b/c", "/b/c/z", "/top"],
        );
        check(
            Keep::Unmatched,
            &["*", "!b/c/x.md"],
            &["/b", "/b/c", "/b/c/x.md"],
        );
        check(Keep::Unmatched, &["*", "!**/only"], &["/d", "/d/only"]);
    }

    #[test]
    fn shows_only_what_is_matched() {
        check(
            Keep::Matched,
            &["**/*.md"],
            &["/a", "/a/x.md", "/b", "/b/c", "/b/c/x.md"],
        );
        check(
            Keep::Matched,
            &["b"],
            &["/b", "/b/c", "/b/c/x.md", "/b/c/z"],
        );
    }
}
