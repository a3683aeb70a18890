//! The sources of COPY and ADD -> the things that arrive at the destination, in the order of the instruction.

use std::sync::Arc;

use crate::build::copy::{CopyInput, place, shown};
use crate::build::missing::{leading_link, missing, missing_kind, warn_of_socket};
use crate::build::parents;
use crate::build::remote::Remote;
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::http::without_user;
use crate::image_path::ImagePath;
use crate::layer::archive::ArchiveTree;
use crate::plan::step::{CopySource, CopyStep, Spanned};
use crate::source::to_bytes;
use crate::timestamp::Timestamp;
use crate::tree::files::{Content, Files};
use crate::tree::filter::{Filtered, Keep};
use crate::tree::glob;
use crate::tree::pattern::PatternList;
use crate::tree::resolve::Resolved;
use crate::tree::select::{Selected, Selection, select};
use crate::tree::{Node, Tree};

/// One thing to copy, and the tree that it is in.
pub(crate) struct Arrival<'a> {
    /// The tree, seen through `--exclude` and `--parents`.
    pub(crate) tree: Box<dyn Tree + 'a>,
    /// What is copied.
    pub(crate) node: Node,
    /// How.
    pub(crate) how: How,
    /// Whence.
    pub(crate) origin: Origin,
}

/// What kind of source an [`Arrival`] comes from. It decides what is said of times, which no list of files tells: a file
/// of the Dockerfile is new, one of a commit as old as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A path in a tree.
    Path,
    /// The Dockerfile.
    Heredoc,
    /// A server.
    Url,
    /// A repository.
    Git,
}

/// How an [`Arrival`] is put at the destination.
#[derive(Clone, Debug)]
pub(crate) enum How {
    /// A file, under this name where the destination is a directory.
    File(Vec<u8>),
    /// The same of a file that is unpacked if it turns out to be an archive: nobody has looked into it yet. A key can be
    /// made of it, but no layer.
    Unopened(Vec<u8>),
    /// The content of a directory.
    Contents,
    /// The members of an archive, at another place than the destination where there is one.
    Unpacked(Arc<ArchiveTree>, Option<ImagePath>),
}

/// The heredocs of an instruction as files of mode 0644.
pub(crate) fn heredocs(sources: &[CopySource], now: Timestamp) -> Files {
    let mut files = Files::default();
    for source in sources {
        if let CopySource::Heredoc { name, content, .. } = source {
            let path = ImagePath::root().child(name.as_bytes());
            let bytes = to_bytes(content);
            let entry = Entry::file(path, bytes.len() as u64, 0o644, now);
            files.add(entry, Content::Text(bytes));
        }
    }
    files
}

/// Looks up every source.
///
/// # Errors
/// A source that isn't there or can't be read, at its word.
pub(crate) fn collect<'a>(input: &CopyInput<'a>, heredocs: &'a Files) -> Result<Vec<Arrival<'a>>> {
    let exclude = exclusions(input.step)?;
    let mut arrivals = Vec::new();
    for source in &input.step.sources {
        match source {
            CopySource::Path(word) if input.step.parents => {
                arrivals.extend(
                    parents::arrivals(input, word, &exclude)
                        .map_err(place(input.file, word.span))?,
                );
            }
            CopySource::Path(word) => {
                arrivals.extend(path(input, word, &exclude).map_err(place(input.file, word.span))?);
            }
            CopySource::Heredoc { name, .. } => {
                let found = heredocs.look_up(&ImagePath::root().child(name.as_bytes()))?;
                arrivals.extend(found.map(|node| Arrival {
                    origin: Origin::Heredoc,
                    ..file(heredocs, name.as_bytes(), node)
                }));
            }
            CopySource::Url(url) => {
                let download = || {
                    let found = input.remote.fetch(&url.value, &without_user(&url.value))?;
                    input.remote.downloaded(input.step, url, found)
                };
                arrivals.push(download().map_err(place(input.file, url.span))?);
            }
            CopySource::Git(url) => {
                let check_out = || {
                    let repository = Remote::repository(input.step, url)?;
                    input.remote.checked_out(input.step, &repository)
                };
                let (arrival, _) = check_out().map_err(place(input.file, url.span))?;
                arrivals.push(arrival);
            }
        }
    }
    Ok(arrivals)
}

/// The patterns of `--exclude`.
///
/// # Errors
/// A broken pattern, which lowering has refused before.
pub(crate) fn exclusions(step: &CopyStep) -> Result<Arc<PatternList>> {
    let list = PatternList::from_patterns(step.exclude.iter().map(|one| one.value.as_str()));
    list.map(Arc::new).map_err(|problems| {
        let first = problems.first();
        let message = first.map_or_else(String::new, ToString::to_string);
        Error::new(ErrorKind::Dockerfile, message)
    })
}

fn file<'a>(tree: &'a dyn Tree, name: &[u8], node: Node) -> Arrival<'a> {
    Arrival {
        tree: Box::new(tree),
        node,
        how: How::File(name.to_vec()),
        origin: Origin::Path,
    }
}

/// The content of a directory, without what `--exclude` leaves out.
pub(crate) fn directory<'a>(
    tree: impl Tree + 'a,
    node: Node,
    exclude: &Arc<PatternList>,
) -> Arrival<'a> {
    let (base, how) = (node.entry.path.clone(), How::Contents);
    let tree: Box<dyn Tree + 'a> = if exclude.is_empty() {
        Box::new(tree)
    } else {
        let unmatched = Keep::Unmatched;
        let exclude = Arc::clone(exclude);
        Box::new(Filtered::new(tree, base, exclude, unmatched, "--exclude").marking_passages())
    };
    let origin = Origin::Path;
    Arrival {
        tree,
        node,
        how,
        origin,
    }
}

/// What `text`, a word or the beginning of one, names in the source.
///
/// # Errors
/// A plain path that names nothing, and a broken pattern.
pub(crate) fn found(
    input: &CopyInput<'_>,
    word: &Spanned<String>,
    text: &str,
) -> Result<Vec<Selected>> {
    match select(input.source, text)? {
        Selection::Found(found) => Ok(found),
        Selection::Missing(at) => Err(unresolved(input, word, Resolved::Missing(at))),
        Selection::NotADirectory(at) => Err(unresolved(input, word, Resolved::NotADirectory(at))),
        Selection::Loop(at) => Err(unresolved(input, word, Resolved::Loop(at))),
        Selection::BadPattern => {
            let message = format!("`{}` is not a pattern: {}", word.value, glob::BadPattern);
            Err(Error::new(ErrorKind::Dockerfile, message)
                .with_help("write `[[]` to mean the character `[`"))
        }
    }
}

/// An error for what a word names and what isn't there.
fn unresolved(input: &CopyInput<'_>, word: &Spanned<String>, what: Resolved) -> Error {
    match what {
        Resolved::Missing(at) => missing(input, word, &at),
        Resolved::NotADirectory(at) => {
            missing(input, word, &at).with_note(format!("`{at}` is a file"))
        }
        Resolved::Loop(at) => missing(input, word, &at)
            .with_note(format!("`{at}` is part of a circle of symbolic links")),
        Resolved::Found(node) => missing(input, word, &node.entry.path),
    }
}

/// What a match of wildcards leads to.
///
/// # Errors
/// A link that leads nowhere.
pub(crate) fn followed(
    input: &CopyInput<'_>,
    word: &Spanned<String>,
    selected: Selected,
) -> Result<Node> {
    let Selected { named, found } = selected;
    match found {
        Resolved::Found(node) => Ok(node),
        other => {
            let lost = format!("`{}` matches the link `{named}`", word.value);
            let mut error = Error::new(
                missing_kind(input.step),
                format!("{lost}, which leads to nothing"),
            );
            if let Some(note) = leading_link(input.source, &named) {
                error = error.with_note(note);
            }
            if let Resolved::Loop(at) = other {
                error = error.with_note(format!("`{at}` is part of a circle of symbolic links"));
            }
            Err(error.with_help("remove the link, mend it, or leave it out with `--exclude`"))
        }
    }
}

/// The things that one word names.
fn path<'a>(
    input: &CopyInput<'a>,
    word: &Spanned<String>,
    exclude: &Arc<PatternList>,
) -> Result<Vec<Arrival<'a>>> {
    let found = found(input, word, &word.value)?;
    let mut arrivals = Vec::with_capacity(found.len());
    for selected in found {
        let named = selected.named.clone();
        let name = named.file_name().unwrap_or_default();
        let excluded = exclude.enter(&exclude.root_state(), name).matched;
        if excluded && !selected.leads_to_directory() {
            continue;
        }
        let node = followed(input, word, selected)?;
        if node.entry.is_directory() {
            arrivals.push(directory(input.source, node, exclude));
            continue;
        }
        if node.entry.kind == EntryKind::Socket {
            warn_of_socket(input, word, &named);
        }
        let mut arrival = file(input.source, name, node);
        if is_unpacked(input.step, &arrival.node) {
            if !input.unpack {
                arrival.how = How::Unopened(name.to_vec());
            } else if let Some(unpacked) = unpack(input, &arrival.node)? {
                arrival = unpacked;
            }
        }
        arrivals.push(arrival);
    }
    Ok(arrivals)
}

/// Whether a source is unpacked if it is an archive.
fn is_unpacked(step: &CopyStep, node: &Node) -> bool {
    let regular = matches!(node.entry.kind, EntryKind::File { .. });
    regular && step.add && step.unpack != Some(false)
}

/// The members of a file that ADD finds to be an archive.
fn unpack<'a>(input: &CopyInput<'a>, node: &Node) -> Result<Option<Arrival<'a>>> {
    let mut node = node.clone();
    let size = node.entry.size();
    let mut reader = input.source.open(&mut node)?;
    input
        .remote
        .unpack(&shown(node.entry.path.as_relative()), size, &mut *reader)
}
