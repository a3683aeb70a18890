//! What a file system holds after copying: sources put at destinations, over what is there already.
//!
//! A [`Graft`] says what goes where; [`merge`] walks all of it once, in the order of paths, and says for each path what
//! it ends as. The rules are those of COPY (`docs/dockerfile-support.md`, "COPY and ADD, in short"): a later source wins over an
//! earlier one and over what is there; a directory merges with a directory; a directory and anything else exclude
//! each other. What is there is asked only where a source's directory meets an existing one.

mod level;

use std::collections::BTreeMap;

use level::{Arrived, Level, Source};

use super::graft::{Graft, Item, Manner, Origin};
use super::{FileId, Node, Tree};
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;

/// One entry of the result.
pub struct Merged<'t> {
    /// The entry at its destination.
    pub entry: Entry,
    /// Where it comes from.
    pub origin: Origin,
    /// Where a regular file's bytes are; none for everything else, and for a second name of a file.
    pub content: Option<(&'t dyn Tree, Node)>,
}

impl std::fmt::Debug for Merged<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merged")
            .field("entry", &self.entry)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Two things that can't be at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Where.
    pub path: ImagePath,
    /// Whether a directory would replace something else; otherwise something else would replace a directory.
    pub directory_arrives: bool,
    /// What is there: "a directory", "a symbolic link", "a file".
    pub present: &'static str,
}

/// Walks everything that `graft` puts over `base` and hands each entry of the result to `sink`, in path order.
/// `made` is the pattern of directories that are made. The root itself is never handed over.
///
/// # Errors
/// Those of the trees and of the sink; a [`Conflict`] through `on_conflict`.
pub fn merge<'t>(
    graft: &Graft<'t>,
    base: Option<&dyn Tree>,
    made: &Entry,
    on_conflict: &dyn Fn(Conflict) -> Error,
    sink: &mut dyn FnMut(Merged<'t>) -> Result<()>,
) -> Result<()> {
    let mut walk = Walk {
        base,
        made,
        on_conflict,
        sink,
        links: BTreeMap::new(),
    };
    let sources = graft
        .items
        .iter()
        .filter(|item| item.node.entry.is_directory())
        .map(Source::of)
        .collect();
    let root = Level::open(ImagePath::root(), Some(graft), sources, base.is_some())?;
    walk.run(root)
}

/// What a path ends as.
enum Outcome<'t> {
    Directory {
        entry: Entry,
        origin: Origin,
        sources: Vec<Source<'t>>,
    },
    Other(Item<'t>),
}

struct Walk<'a, 't, 's> {
    base: Option<&'a dyn Tree>,
    made: &'a Entry,
    on_conflict: &'a dyn Fn(Conflict) -> Error,
    sink: &'s mut dyn FnMut(Merged<'t>) -> Result<()>,
    /// The first name of each file that has several.
    links: BTreeMap<(usize, FileId), ImagePath>,
}

impl<'t> Walk<'_, 't, '_> {
    /// Hands over what ends up below the root: one directory after the other, however deep they are.
    fn run<'g>(&mut self, root: Level<'g, 't>) -> Result<()> {
        let mut levels = vec![root];
        while let Some(level) = levels.last_mut() {
            match level.next()? {
                None => {
                    levels.pop();
                }
                Some(arrived) => levels.extend(self.path(arrived)?),
            }
        }
        Ok(())
    }

    /// Hands over what a path ends as; the directory that it is.
    fn path<'g>(&mut self, arrived: Arrived<'g, 't>) -> Result<Option<Level<'g, 't>>> {
        let Arrived {
            path,
            graft,
            items,
            parent_in_base,
        } = arrived;
        let existing = match self.base {
            Some(base) if parent_in_base => base.look_up(&path)?,
            _ => None,
        };
        let needs_directory =
            graft.is_some_and(|graft| !graft.children.is_empty() || graft.items.is_empty());
        let in_base = existing
            .as_ref()
            .is_some_and(|node| node.entry.is_directory());
        match self.settle(&path, existing, items, needs_directory)? {
            Outcome::Directory {
                entry,
                origin,
                sources,
            } => {
                (self.sink)(Merged {
                    entry,
                    origin,
                    content: None,
                })?;
                Level::open(path, graft, sources, in_base).map(Some)
            }
            Outcome::Other(item) => self.other(path, item).map(|()| None),
        }
    }

    /// Decides what a path ends as: what is there, then one source after the other.
    fn settle(
        &self,
        path: &ImagePath,
        existing: Option<Node>,
        arrivals: Vec<Item<'t>>,
        needs_directory: bool,
    ) -> Result<Outcome<'t>> {
        let mut present = existing.as_ref().map(|node| kind_name(&node.entry));
        let mut entry = existing
            .filter(|node| node.entry.is_directory())
            .map(|node| (node.entry, Origin::Existing));
        let mut sources = Vec::new();
        let mut file = None;
        if needs_directory {
            entry = Some(self.directory_entry(path, entry, None, present)?);
            present = Some("a directory");
        }
        for item in arrivals {
            if item.manner == Manner::Unpacked && is_conflict(present, &item.node.entry) {
                (entry, file, present) = (None, None, None);
                sources.clear();
            }
            if item.node.entry.is_directory() {
                entry = Some(self.directory_entry(path, entry, Some(&item), present)?);
                sources.push(Source::of(&item));
            } else {
                if present == Some("a directory") {
                    return Err(self.conflict(path, false, "a directory"));
                }
                file = Some(item.clone());
            }
            present = Some(kind_name(&item.node.entry));
        }
        match (file, entry) {
            (Some(item), _) => Ok(Outcome::Other(item)),
            (None, entry) => {
                let (entry, origin) = entry.unwrap_or_else(|| (self.made_at(path), Origin::Made));
                Ok(Outcome::Directory {
                    entry,
                    origin,
                    sources,
                })
            }
        }
    }

    /// The entry of a directory after `item` arrived on what was there; without an item it is only needed.
    fn directory_entry(
        &self,
        path: &ImagePath,
        entry: Option<(Entry, Origin)>,
        item: Option<&Item<'t>>,
        present: Option<&'static str>,
    ) -> Result<(Entry, Origin)> {
        if let Some(present) = present.filter(|present| *present != "a directory") {
            return Err(self.conflict(path, true, present));
        }
        if let Some(item) = item.filter(|item| item.node.passage) {
            return Ok(passed(path, entry, &item.node.entry));
        }
        let there = entry.unwrap_or_else(|| (self.made_at(path), Origin::Made));
        Ok(match item {
            None => there,
            Some(item) if item.manner == Manner::Contents => {
                let (mut entry, origin) = there;
                entry.mtime = item.node.entry.mtime;
                (entry, origin)
            }
            Some(item) if item.manner == Manner::Unpacked && item.node.implied => there,
            Some(item) => (
                Entry {
                    path: path.clone(),
                    ..item.node.entry.clone()
                },
                item.origin(),
            ),
        })
    }

    fn made_at(&self, path: &ImagePath) -> Entry {
        Entry {
            path: path.clone(),
            ..self.made.clone()
        }
    }

    fn conflict(&self, path: &ImagePath, directory_arrives: bool, present: &'static str) -> Error {
        (self.on_conflict)(Conflict {
            path: path.clone(),
            directory_arrives,
            present,
        })
    }

    /// Hands over what is no directory: the first name of a file, or a hard link to it.
    fn other(&mut self, path: ImagePath, item: Item<'t>) -> Result<()> {
        let origin = item.origin();
        let mut entry = Entry {
            path,
            ..item.node.entry.clone()
        };
        let mut content = None;
        let first = item
            .node
            .link
            .and_then(|link| self.links.get(&(item.ordinal, link)));
        if let Some(first) = first {
            entry.kind = EntryKind::HardLink {
                target: first.clone(),
            };
        } else {
            if let Some(link) = item.node.link {
                self.links.insert((item.ordinal, link), entry.path.clone());
            }
            if matches!(entry.kind, EntryKind::File { .. }) {
                content = Some((item.tree, item.node));
            }
        }
        (self.sink)(Merged {
            entry,
            origin,
            content,
        })
    }
}

/// A directory on the way to what is copied. One that is there keeps its owner and takes the mode of the source's as it
/// is, whatever the flags say: the flags are about what is copied, and this was there before.
fn passed(path: &ImagePath, there: Option<(Entry, Origin)>, source: &Entry) -> (Entry, Origin) {
    let Some((mut entry, origin)) = there else {
        let entry = Entry {
            path: path.clone(),
            ..source.clone()
        };
        return (entry, Origin::Passed);
    };
    entry.mode = source.mode;
    let origin = match origin {
        Origin::Copied | Origin::Passed => Origin::Unpacked,
        other => other,
    };
    (entry, origin)
}

/// Whether a directory meets something else.
fn is_conflict(present: Option<&str>, arriving: &Entry) -> bool {
    present.is_some_and(|present| (present == "a directory") != arriving.is_directory())
}

/// What a message calls an entry.
fn kind_name(entry: &Entry) -> &'static str {
    match entry.kind {
        EntryKind::Directory => "a directory",
        EntryKind::Symlink { .. } => "a symbolic link",
        _ => "a file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::timestamp::Timestamp;
    use crate::tree::files::{Content, Files};

    fn files(names: &[&str]) -> Files {
        let mut files = Files::default();
        for name in names {
            let entry = Entry::file(ImagePath::clean(name), 0, 0o644, Timestamp::default());
            files.add(entry, Content::Text(Vec::new()));
        }
        files
    }

    fn run(graft: &Graft<'_>, base: Option<&dyn Tree>) -> Result<Vec<String>> {
        let made = Entry::directory(ImagePath::root(), Timestamp::default());
        let conflict = |conflict: Conflict| {
            Error::new(
                ErrorKind::Dockerfile,
                format!("{} is {}", conflict.path, conflict.present),
            )
        };
        let mut seen = Vec::new();
        merge(graft, base, &made, &conflict, &mut |merged| {
            seen.push(format!("{} {:?}", merged.entry.path, merged.origin));
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn paths_come_in_order_with_the_directories_they_need() {
        let tree = files(&["a", "b"]);
        let root = tree.look_up(&ImagePath::root()).unwrap().unwrap();
        let mut graft = Graft::default();
        graft
            .at(&ImagePath::clean("/x/y"))
            .put_contents(0, &tree, root);
        let one = tree.look_up(&ImagePath::clean("a")).unwrap().unwrap();
        graft.at(&ImagePath::clean("/x.txt")).put(1, &tree, one);
        let expected = [
            "/x Made",
            "/x/y Made",
            "/x/y/a Copied",
            "/x/y/b Copied",
            "/x.txt Copied",
        ];
        assert_eq!(run(&graft, None).unwrap(), expected);
    }

    #[test]
    fn a_later_source_wins_and_kinds_exclude_each_other() {
        let (first, second) = (files(&["a", "b"]), files(&["b", "c"]));
        let mut graft = Graft::default();
        for (ordinal, tree) in [&first, &second].into_iter().enumerate() {
            let root = tree.look_up(&ImagePath::root()).unwrap().unwrap();
            graft
                .at(&ImagePath::clean("/x"))
                .put_contents(ordinal, tree, root);
        }
        let merged = run(&graft, None).unwrap();
        assert_eq!(
            merged,
            ["/x Made", "/x/a Copied", "/x/b Copied", "/x/c Copied"]
        );
        let base = files(&["x"]);
        let error = run(&graft, Some(&base)).unwrap_err();
        assert_eq!(error.message(), "/x is a file");
    }
}
