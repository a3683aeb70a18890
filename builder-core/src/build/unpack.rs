//! Where the members of an archive go when a directory that the archive only implies is a link in the stage.
//!
//! An archive with `lib/y` and no entry for `lib` adds to whatever `lib` is, as tar does: where the stage has the link
//! `lib -> usr/lib`, the file becomes `usr/lib/y`. A directory that the archive names replaces the link.

use std::io::Read;
use std::sync::Arc;

use crate::build::arrival::{Arrival, How, Origin};
use crate::build::copy::shown;
use crate::build::target::Target;
use crate::entry::EntryKind;
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;
use crate::layer::archive::ArchiveTree;
use crate::tree::filter::{Filtered, Keep};
use crate::tree::pattern::PatternList;
use crate::tree::resolve::{Resolved, resolve};
use crate::tree::{Listing, Node, Tree};

/// Splits off the parts of archives that go elsewhere, and finds what their hard links lead to in the stage.
pub(crate) fn redirect<'a>(
    arrivals: Vec<Arrival<'a>>,
    target: &Target,
    base: Option<&'a dyn Tree>,
) -> Result<Vec<Arrival<'a>>> {
    let mut settled = Vec::new();
    for arrival in arrivals {
        let How::Unpacked(archive, None) = &arrival.how else {
            settled.push(arrival);
            continue;
        };
        let (archive, place) = (Arc::clone(archive), target.directory()?);
        match base {
            Some(base) => {
                let whole = Whole {
                    base,
                    place: &place,
                    origin: arrival.origin,
                };
                split(&archive, &whole, &mut settled)?;
            }
            None => settled.push(Arrival {
                tree: Box::new(Linked {
                    inner: Arc::clone(&archive),
                    base: None,
                }),
                ..arrival
            }),
        }
    }
    Ok(settled)
}

/// What an archive is unpacked over, and where.
struct Whole<'a, 'p> {
    base: &'a dyn Tree,
    place: &'p ImagePath,
    origin: Origin,
}

/// Puts an archive at its place, and each part that a link leads elsewhere at its own.
fn split<'a>(
    archive: &Arc<ArchiveTree>,
    whole: &Whole<'a, '_>,
    settled: &mut Vec<Arrival<'a>>,
) -> Result<()> {
    let mut open = vec![(archive.root(), whole.place.clone())];
    while let Some((node, place)) = open.pop() {
        let mut led = find_links(archive, &node.entry.path, &place, whole.base)?;
        let hidden: Vec<ImagePath> = led
            .iter()
            .map(|(node, _)| node.entry.path.clone())
            .collect();
        let linked = Linked {
            inner: Arc::clone(archive),
            base: Some((whole.base, whole.place.clone())),
        };
        let tree = Filtered::new(
            linked,
            ImagePath::root(),
            Arc::new(PatternList::from_literals(&hidden)),
            Keep::Unmatched,
            "a link",
        );
        settled.push(Arrival {
            tree: Box::new(tree),
            node,
            how: How::Unpacked(Arc::clone(archive), Some(place)),
            origin: whole.origin,
        });
        // The first of them is the next.
        led.reverse();
        open.append(&mut led);
    }
    Ok(())
}

/// The implied directories of an archive below `directory` that are links in the base below `place`, with where they
/// lead.
fn find_links(
    archive: &ArchiveTree,
    directory: &ImagePath,
    place: &ImagePath,
    base: &dyn Tree,
) -> Result<Vec<(Node, ImagePath)>> {
    let mut led = Vec::new();
    let mut levels = vec![(archive.list(directory)?, place.clone())];
    while let Some((listing, place)) = levels.last_mut() {
        let Some(child) = listing.next().transpose()? else {
            levels.pop();
            continue;
        };
        if !child.implied {
            continue;
        }
        let here = place.child(child.entry.path.file_name().unwrap_or_default());
        match base.look_up(&here)? {
            Some(found) if found.entry.is_symlink() => {
                if let Resolved::Found(found) = resolve(base, &here, true)?
                    && found.entry.is_directory()
                {
                    led.push((child, found.entry.path));
                }
            }
            Some(found) if found.entry.is_directory() => {
                levels.push((archive.list(&child.entry.path)?, here));
            }
            _ => {}
        }
    }
    Ok(led)
}

/// An archive whose hard links may lead to files of the stage, as link(2) finds them where it is unpacked. Such a file
/// arrives with the stage's bytes and what the link's own header says of it.
struct Linked<'a> {
    inner: Arc<ArchiveTree>,
    /// The stage, and where in it the archive is unpacked; none where the stage is not asked.
    base: Option<(&'a dyn Tree, ImagePath)>,
}

impl Linked<'_> {
    /// What a link of the archive leads to in the stage.
    fn in_stage(&self, target: &ImagePath) -> Result<Option<(&dyn Tree, Node)>> {
        let Some((base, place)) = &self.base else {
            return Ok(None);
        };
        let found = match resolve(*base, &place.append(target), false)? {
            Resolved::Found(node) if !node.entry.is_directory() => Some((*base, node)),
            _ => None,
        };
        Ok(found)
    }

    fn resolved(&self, mut node: Node) -> Result<Node> {
        let EntryKind::HardLink { target } = &node.entry.kind else {
            return Ok(node);
        };
        let Some((_, found)) = self.in_stage(target)? else {
            let message = format!(
                "{} can't be unpacked: its hard link `{}` leads to `{}`, which is neither in the archive before it nor in the stage",
                self.inner.describe(),
                shown(node.entry.path.as_relative()),
                shown(target.as_relative()),
            );
            return Err(Error::new(ErrorKind::Context, message)
                .with_help("pack the file that the link leads to as well"));
        };
        node.entry.kind = found.entry.kind;
        node.entry.xattrs = found.entry.xattrs;
        Ok(node)
    }
}

impl Tree for Linked<'_> {
    fn look_up(&self, path: &ImagePath) -> Result<Option<Node>> {
        let found = self.inner.look_up(path)?;
        found.map(|node| self.resolved(node)).transpose()
    }

    fn list(&self, path: &ImagePath) -> Result<Listing<'_>> {
        let all = self.inner.list(path)?;
        Ok(Box::new(all.map(|node| self.resolved(node?))))
    }

    fn open(&self, node: &mut Node) -> Result<Box<dyn Read + Send + '_>> {
        // The archive's own files have a place in it.
        if node.place.is_some() {
            return self.inner.open(node);
        }
        let raw = self.inner.look_up(&node.entry.path)?;
        let Some(EntryKind::HardLink { target }) = raw.map(|raw| raw.entry.kind) else {
            return self.inner.open(node);
        };
        let Some((base, mut found)) = self.in_stage(&target)? else {
            return self.inner.open(node);
        };
        let reader = base.open(&mut found)?;
        node.entry.kind = found.entry.kind;
        node.entry.xattrs = found.entry.xattrs;
        Ok(reader)
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}
