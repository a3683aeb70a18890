//! Hard links of a tar: what file each of them names, found when the whole is known.
//!
//! A link names what its target was when the link was made: the last entry of that path before it, even if the tar
//! replaces it later (`tar -r`). It may name anything but a directory (link(2)); links on the way to the target are
//! followed inside the tar.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::error::TarProblem;
use super::index::LayerIndex;
use super::index_writer::{IndexWriter, Problem};
use super::record::{Mark, Record};
use crate::entry::{Entry, EntryKind};
use crate::image_path::ImagePath;
use crate::store::{Store, TemporaryFile};

/// More links on one way are a loop (`path_resolution(7)`).
const LINKS: usize = 40;

/// What is known of the hard links of a tar before its index is complete.
#[derive(Debug, Default)]
pub(super) struct Links {
    targets: BTreeSet<ImagePath>,
    /// What targets were before something else came in their place.
    replaced: BTreeMap<ImagePath, Vec<(Record, u64)>>,
    outwards: bool,
}

/// What a hard link leads to.
#[derive(Debug)]
enum Target {
    /// An entry, its number, and whether its name is another thing's in the end.
    Found(Record, u64, bool),
    /// A path that this tar doesn't hold.
    Outside(ImagePath),
}

/// Finds what hard links lead to, each link on a way once: a chain of them costs its length, not the square.
struct Finder<'a> {
    links: &'a Links,
    index: &'a LayerIndex,
    /// By the number of a link that another link leads to.
    known: BTreeMap<u64, Rc<Target>>,
}

impl Links {
    pub(super) fn new(targets: BTreeSet<ImagePath>, outwards: bool) -> Self {
        Self {
            targets,
            replaced: BTreeMap::new(),
            outwards,
        }
    }

    /// Keeps an entry whose path another one takes, if a link may mean it.
    pub(super) fn note_replaced(&mut self, last: &Record, number: u64, next: &Record) {
        let says = |record: &Record| record.mark == Mark::Present && !record.implicit;
        let path = &last.entry.path;
        if says(last) && says(next) && !last.is_directory() && self.targets.contains(path) {
            let versions = self.replaced.entry(path.clone()).or_default();
            versions.push((last.clone(), number));
        }
    }

    /// Writes the index again, with hard links that know their file.
    pub(super) fn resolve(
        &self,
        store: &Store,
        file: TemporaryFile,
    ) -> Result<TemporaryFile, Problem> {
        let first = LayerIndex::from_temporary(file)?;
        let mut finder = Finder {
            links: self,
            index: &first,
            known: BTreeMap::new(),
        };
        let mut groups = Vec::new();
        for numbered in first.numbered() {
            let (record, number) = numbered?;
            if matches!(record.entry.kind, EntryKind::HardLink { .. })
                && let Target::Found(_, group, _) = &*finder.find(&record, number)?
            {
                groups.push(*group);
            }
        }
        groups.sort_unstable();
        groups.dedup();

        let mut second = IndexWriter::new(store)?;
        for numbered in first.numbered() {
            let (mut record, number) = numbered?;
            if matches!(record.entry.kind, EntryKind::HardLink { .. }) {
                match &*finder.find(&record, number)? {
                    Target::Found(file, group, replaced) => {
                        record = named(record.entry.path, file.clone(), *group, *replaced);
                    }
                    Target::Outside(target) => {
                        let target = target.clone();
                        record.entry.kind = EntryKind::HardLink { target };
                    }
                }
            } else if is_file(&record) && groups.binary_search(&number).is_ok() {
                record.link_group = Some(number);
            }
            second.push(record, number)?;
        }
        second.finish_resolved()
    }
}

impl Finder<'_> {
    /// What a hard link leads to, through other hard links. A target must come before its link.
    fn find(&mut self, link: &Record, number: u64) -> Result<Rc<Target>, Problem> {
        let dangling = || Problem::Tar(link.entry.path.clone(), TarProblem::DanglingLink);
        let (mut here, mut place, mut replaced) = (link.clone(), number, false);
        let mut way = Vec::new();
        let found = loop {
            let EntryKind::HardLink { target } = &here.entry.kind else {
                break Rc::new(Target::Found(here, place, replaced));
            };
            if let Some(known) = self.known.get(&place) {
                break Rc::clone(known);
            }
            if place != number || self.links.targets.contains(&link.entry.path) {
                way.push(place);
            }
            match self.version(target, place)? {
                Some((found, ..)) if found.entry.is_directory() => return Err(dangling()),
                Some(found) => (here, place, replaced) = found,
                None if self.links.outwards => break Rc::new(Target::Outside(target.clone())),
                None => return Err(dangling()),
            }
        };
        let known = way.into_iter().map(|place| (place, Rc::clone(&found)));
        self.known.extend(known);
        Ok(found)
    }

    /// The last entry at `target` before number `before`, and whether another one took its place later.
    fn version(
        &self,
        target: &ImagePath,
        before: u64,
    ) -> Result<Option<(Record, u64, bool)>, Problem> {
        let mut target = target.clone();
        for _ in 0..LINKS {
            if let Some((found, number)) = self.index.get_numbered(&target)?
                && found.mark == Mark::Present
                && number < before
            {
                return Ok(Some((found, number, false)));
            }
            let versions = self
                .links
                .replaced
                .get(&target)
                .map_or(&[][..], Vec::as_slice);
            let earlier = versions.partition_point(|(_, number)| *number < before);
            if let Some((found, number)) = versions[..earlier].last() {
                return Ok(Some((found.clone(), *number, true)));
            }
            match through_link(self.index, &target)? {
                Some(next) => target = next,
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}

impl LayerIndex {
    /// What this layer has at the target of a hard link whose own record knows no file: none where the target is not of
    /// this layer, or came later than the link.
    ///
    /// # Errors
    /// A damaged index.
    pub fn linked(&self, link: &Record) -> super::error::Result<Option<Record>> {
        let EntryKind::HardLink { target } = &link.entry.kind else {
            return Ok(None);
        };
        let (Some((_, number)), Some((found, earlier))) = (
            self.get_numbered(&link.entry.path)?,
            self.get_numbered(target)?,
        ) else {
            return Ok(None);
        };
        let is_there = found.mark == Mark::Present && earlier < number;
        let is_link = matches!(found.entry.kind, EntryKind::HardLink { .. });
        Ok((is_there && !is_link).then_some(found))
    }
}

/// Where a path leads whose first symbolic link on the way is followed; none without one.
fn through_link(index: &LayerIndex, path: &ImagePath) -> Result<Option<ImagePath>, Problem> {
    for place in path.ancestors_below(None) {
        let Some(found) = index.get(&place)? else {
            continue;
        };
        if let EntryKind::Symlink { target } = &found.entry.kind {
            let rest = path.strip_prefix(&place).unwrap_or_default();
            let from = place.parent().unwrap_or_default();
            return Ok(Some(from.join(target).append(&rest)));
        }
    }
    Ok(None)
}

fn is_file(record: &Record) -> bool {
    !record.implicit && matches!(record.entry.kind, EntryKind::File { .. })
}

/// The record of another name of `file`. Only regular files are one file under several names; a link, a pipe or a
/// device is the same thing twice. So is what a file was whose first name is another one's by now.
fn named(path: ImagePath, file: Record, group: u64, replaced: bool) -> Record {
    let shared = is_file(&file);
    let kind = match file.entry.kind {
        EntryKind::File { .. } if !replaced => EntryKind::HardLink {
            target: file.entry.path.clone(),
        },
        kind => kind,
    };
    let entry = Entry {
        path,
        kind,
        ..file.entry
    };
    Record {
        link_group: shared.then_some(group),
        ..Record::present(entry, file.data)
    }
}
