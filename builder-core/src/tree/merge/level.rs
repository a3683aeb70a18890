//! One directory of the result: what arrives in it from all sides, name by name.

use std::collections::btree_map;
use std::iter::Peekable;

use crate::error::{Error, ErrorKind, Result};
use crate::image_path::{DEEPEST, ImagePath, LONGEST};
use crate::tree::graft::{Graft, Item, Manner};
use crate::tree::{Listing, Node, Tree};

/// A directory that is merged at the place where the walk is.
pub(super) struct Source<'t> {
    ordinal: usize,
    tree: &'t dyn Tree,
    path: ImagePath,
    unpacked: bool,
}

impl<'t> Source<'t> {
    pub(super) fn of(item: &Item<'t>) -> Self {
        Self {
            ordinal: item.ordinal,
            tree: item.tree,
            path: item.node.entry.path.clone(),
            unpacked: item.manner == Manner::Unpacked,
        }
    }
}

/// A directory of the result while what is in it is handed over.
pub(super) struct Level<'g, 't> {
    path: ImagePath,
    grafts: Option<Peekable<btree_map::Iter<'g, Vec<u8>, Graft<'t>>>>,
    listings: Vec<(Source<'t>, Peekable<Listing<'t>>)>,
    /// Whether it is in the base already.
    in_base: bool,
}

/// One name of a directory, with all that arrives there.
pub(super) struct Arrived<'g, 't> {
    /// Where.
    pub(super) path: ImagePath,
    /// What is put at it or below it.
    pub(super) graft: Option<&'g Graft<'t>>,
    /// What arrives, in order.
    pub(super) items: Vec<Item<'t>>,
    /// Whether the directory above is in the base already.
    pub(super) parent_in_base: bool,
}

impl<'g, 't> Level<'g, 't> {
    pub(super) fn open(
        path: ImagePath,
        graft: Option<&'g Graft<'t>>,
        sources: Vec<Source<'t>>,
        in_base: bool,
    ) -> Result<Self> {
        let mut listings = Vec::with_capacity(sources.len());
        for source in sources {
            if source.path.is_too_deep() {
                return Err(too_deep(&source));
            }
            let listing = source.tree.list(&source.path)?.peekable();
            listings.push((source, listing));
        }
        Ok(Self {
            path,
            grafts: graft.map(|graft| graft.children.iter().peekable()),
            listings,
            in_base,
        })
    }

    /// The next name in the order of all that arrives.
    pub(super) fn next(&mut self) -> Result<Option<Arrived<'g, 't>>> {
        let grafted = self
            .grafts
            .as_mut()
            .and_then(|grafts| grafts.peek().copied());
        let next = grafted.map(|(name, _)| name.as_slice());
        let Some(name) = next_name(&mut self.listings, next)? else {
            return Ok(None);
        };
        let mut items = take_named(&mut self.listings, &name)?;
        let graft = grafted.filter(|(grafted, _)| **grafted == name);
        if let (Some(grafts), Some(_)) = (&mut self.grafts, graft) {
            grafts.next();
        }
        let graft = graft.map(|(_, graft)| graft);
        items.extend(
            graft
                .into_iter()
                .flat_map(|graft| graft.items.iter().cloned()),
        );
        items.sort_by_key(|item| item.ordinal);
        Ok(Some(Arrived {
            path: self.path.child(&name),
            graft,
            items,
            parent_in_base: self.in_base,
        }))
    }
}

/// The error for directories that are nested more deeply than an image's.
fn too_deep(source: &Source<'_>) -> Error {
    let message = format!(
        "`{}` in {} leads through more than {DEEPEST} directories, or has more than {LONGEST} bytes",
        source.path.shortened(),
        source.tree.describe()
    );
    Error::new(ErrorKind::Context, message)
        .with_help("leave it out, with `--exclude` or the ignore file")
}

/// The least name that any listing or graft has next.
fn next_name(
    listings: &mut [(Source<'_>, Peekable<Listing<'_>>)],
    graft: Option<&[u8]>,
) -> Result<Option<Vec<u8>>> {
    let mut least = graft.map(<[u8]>::to_vec);
    for (_, listing) in listings {
        if matches!(listing.peek(), Some(Err(_))) {
            listing.next().transpose()?;
        }
        if let Some(Ok(node)) = listing.peek() {
            let name = node.entry.path.file_name().unwrap_or_default();
            if least.as_deref().is_none_or(|least| name < least) {
                least = Some(name.to_vec());
            }
        }
    }
    Ok(least)
}

/// Takes the nodes called `name` off the listings.
fn take_named<'t>(
    listings: &mut [(Source<'t>, Peekable<Listing<'t>>)],
    name: &[u8],
) -> Result<Vec<Item<'t>>> {
    let mut taken = Vec::new();
    for (source, listing) in listings {
        let named = |next: &Result<Node>| {
            next.as_ref()
                .is_ok_and(|node| node.entry.path.file_name() == Some(name))
        };
        if let Some(node) = listing.next_if(named) {
            let (ordinal, tree) = (source.ordinal, source.tree);
            taken.push(Item {
                ordinal,
                tree,
                node: node?,
                manner: if source.unpacked {
                    Manner::Unpacked
                } else {
                    Manner::Whole
                },
            });
        }
    }
    Ok(taken)
}
