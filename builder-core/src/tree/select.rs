//! The sources of COPY and ADD: words of an instruction -> what they name in a tree.
//!
//! A word is a path from the tree's root, wherever it is written from; `..` can't leave. A word with wildcards names
//! everything that matches, in the order of a walk; links before the first wildcard are followed, those behind are
//! not. What is named is followed if it is a link, and keeps the link's name.

use super::Tree;
use super::glob;
use super::resolve::{Resolved, resolve};
use crate::error::Result;
use crate::image_path::ImagePath;

/// One thing that a word names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The path as named, cleaned: its last component is the name that a copy gets.
    pub named: ImagePath,
    /// What is there, links followed. Nothing, where wildcards match a link that leads nowhere: the match is named all
    /// the same, so it must not be lost in silence.
    pub found: Resolved,
}

impl Selected {
    /// Whether a directory is there.
    pub fn leads_to_directory(&self) -> bool {
        matches!(&self.found, Resolved::Found(node) if node.entry.is_directory())
    }
}

/// What a word names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// A plain path that exists, or everything that wildcards match, which may be nothing.
    Found(Vec<Selected>),
    /// A plain path that names nothing; with the path where nothing is.
    Missing(ImagePath),
    /// A component of a plain path is a file.
    NotADirectory(ImagePath),
    /// Links in a circle.
    Loop(ImagePath),
    /// The wildcards are malformed.
    BadPattern,
}

/// Looks up one word.
///
/// # Errors
/// Those of reading the tree.
pub fn select(tree: &dyn Tree, word: &str) -> Result<Selection> {
    if glob::has_wildcard(word) {
        return select_matches(tree, word);
    }
    let named = ImagePath::clean(word);
    Ok(match resolve(tree, &named, true)? {
        found @ Resolved::Found(_) => Selection::Found(vec![Selected { named, found }]),
        Resolved::Missing(path) => Selection::Missing(path),
        Resolved::NotADirectory(path) => Selection::NotADirectory(path),
        Resolved::Loop(path) => Selection::Loop(path),
    })
}

fn select_matches(tree: &dyn Tree, word: &str) -> Result<Selection> {
    if glob::matches(word, b"").is_err() {
        return Ok(Selection::BadPattern);
    }
    let cleaned = ImagePath::clean(word).as_relative().to_vec();
    let cleaned = String::from_utf8_lossy(&cleaned).into_owned();
    let components: Vec<&str> = cleaned.split('/').collect();
    let literal = components
        .iter()
        .take_while(|component| !glob::has_wildcard(component))
        .count();
    let prefix = ImagePath::clean(components[..literal].join("/"));
    let Resolved::Found(start) = resolve(tree, &prefix, true)? else {
        return Ok(Selection::Found(Vec::new()));
    };
    let mut found = Vec::new();
    if start.entry.is_directory() && literal < components.len() {
        found = descend(tree, &start.entry.path, prefix, &components[literal..])?;
    }
    Ok(Selection::Found(found))
}

/// Matches one component after the other, from `place`, which the word calls `named`. As many listings are open as the
/// word has components.
fn descend(
    tree: &dyn Tree,
    place: &ImagePath,
    named: ImagePath,
    components: &[&str],
) -> Result<Vec<Selected>> {
    let mut found = Vec::new();
    let mut levels = vec![(tree.list(place)?, named)];
    while let Some((listing, named)) = levels.last_mut() {
        let Some(child) = listing.next().transpose()? else {
            levels.pop();
            continue;
        };
        let name = child.entry.path.file_name().unwrap_or_default();
        let named = named.child(name);
        let depth = levels.len();
        let pattern = components.get(depth - 1).copied().unwrap_or_default();
        if !glob::matches(pattern, name).unwrap_or(false) {
            continue;
        }
        if depth == components.len() {
            found.push(Selected {
                named,
                found: resolve(tree, &child.entry.path, true)?,
            });
        } else if child.entry.is_directory() {
            levels.push((tree.list(&child.entry.path)?, named));
        }
    }
    Ok(found)
}
