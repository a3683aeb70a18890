//! Destinations as a tree: which source goes to which path.

use std::collections::BTreeMap;

use super::{Node, Tree};
use crate::image_path::ImagePath;

/// A tree of destinations.
#[derive(Default)]
pub struct Graft<'t> {
    pub(super) children: BTreeMap<Vec<u8>, Graft<'t>>,
    pub(super) items: Vec<Item<'t>>,
}

/// One source at its destination.
#[derive(Clone)]
pub(super) struct Item<'t> {
    /// The number of the source in the instruction: a later one wins, and hard links are kept within one.
    pub(super) ordinal: usize,
    pub(super) tree: &'t dyn Tree,
    pub(super) node: Node,
    pub(super) manner: Manner,
}

/// How a source meets what is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Copied; a directory with its own mode and owner.
    Whole,
    /// Copied; of the directory that is named itself only the content.
    Contents,
    /// Unpacked, as tar does: a member replaces whatever is at its path, and a directory that is only implied keeps
    /// what is there.
    Unpacked,
}

impl Item<'_> {
    /// Where an entry that comes from this item comes from.
    pub(super) fn origin(&self) -> Origin {
        match self.manner {
            Manner::Unpacked => Origin::Unpacked,
            Manner::Whole | Manner::Contents => Origin::Copied,
        }
    }
}

impl std::fmt::Debug for Graft<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graft")
            .field("children", &self.children)
            .field("items", &self.items.len())
            .finish()
    }
}

impl<'t> Graft<'t> {
    /// Whether nothing goes anywhere.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty() && self.items.is_empty()
    }

    /// The place at `path`; it and the directories above it will be made where they are missing.
    pub fn at(&mut self, path: &ImagePath) -> &mut Self {
        path.components().fold(self, |graft, name| {
            graft.children.entry(name.to_vec()).or_default()
        })
    }

    /// Puts a file here, or a directory with its own mode and owner.
    pub fn put(&mut self, ordinal: usize, tree: &'t dyn Tree, node: Node) {
        self.items.push(Item {
            ordinal,
            tree,
            node,
            manner: Manner::Whole,
        });
    }

    /// Puts the content of a directory here.
    pub fn put_contents(&mut self, ordinal: usize, tree: &'t dyn Tree, node: Node) {
        self.items.push(Item {
            ordinal,
            tree,
            node,
            manner: Manner::Contents,
        });
    }

    /// Unpacks the content of an archive's directory here.
    pub fn put_unpacked(&mut self, ordinal: usize, tree: &'t dyn Tree, node: Node) {
        self.items.push(Item {
            ordinal,
            tree,
            node: Node {
                stamp: None,
                implied: true,
                ..node
            },
            manner: Manner::Unpacked,
        });
    }
}

/// Where an entry of the result comes from, and so which flags apply to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there, and stays as it is; it is named because something below it changes.
    Existing,
    /// A directory that is made because a destination needs it.
    Made,
    /// Copied from a source.
    Copied,
    /// A new directory that is copied only because something below it is.
    Passed,
    /// A member of an archive, or a directory that an earlier source brought and a later one passes: the flag for
    /// owners holds for it, the one for modes does not.
    Unpacked,
}
