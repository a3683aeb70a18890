//! The sources of COPY and ADD -> the things that arrive at the destination, in the order of the instruction.

use std::sync::Arc;

use crate::build::copy::{CopyInput, place, shown};
use crate::build::remote::Remote;
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::http::without_user;
use crate::image_path::ImagePath;
use crate::layer::archive::ArchiveTree;
use crate::nearest::nearest;
use crate::plan::step::{CopyFrom, CopySource, CopyStep, Spanned};
use crate::timestamp::Timestamp;
use crate::tree::files::{Content, Files};
use crate::tree::filter::{Filtered, Keep};
use crate::tree::glob;
use crate::tree::pattern::PatternList;
use crate::tree::resolve::{Resolved, resolve};
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
}

/// How an [`Arrival`] is put at the destination.
#[derive(Clone, Debug)]
pub(crate) enum How {
    /// A file, under this name where the destination is a directory.
    File(Vec<u8>),
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
            let entry = Entry::file(path, content.len() as u64, 0o644, now);
            files.add(entry, Content::Text(content.clone().into_bytes()));
        }
    }
    files
}

/// Looks up every source.
///
/// # Errors
/// A source that isn't there or can't be read, at its word.
pub(crate) fn collect<'a>(input: &CopyInput<'a>, heredocs: &'a Files) -> Result<Vec<Arrival<'a>>> {
    let exclude = exclusions(input)?;
    let mut arrivals = Vec::new();
    for source in &input.step.sources {
        match source {
            CopySource::Path(word) if input.step.parents => {
                arrivals.extend(
                    with_parents(input, word, &exclude).map_err(place(input.file, word.span))?,
                );
            }
            CopySource::Path(word) => {
                arrivals.extend(path(input, word, &exclude).map_err(place(input.file, word.span))?);
            }
            CopySource::Heredoc { name, .. } => {
                let found = heredocs.look_up(&ImagePath::root().child(name.as_bytes()))?;
                arrivals.extend(found.map(|node| file(heredocs, name.as_bytes(), node)));
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
                    input.remote.checked_out(&repository)
                };
                let (arrival, _) = check_out().map_err(place(input.file, url.span))?;
                arrivals.push(arrival);
            }
        }
    }
    Ok(arrivals)
}

fn exclusions(input: &CopyInput<'_>) -> Result<Arc<PatternList>> {
    let patterns = &input.step.exclude;
    let list = PatternList::from_patterns(patterns.iter().map(|one| one.value.as_str()));
    list.map(Arc::new).map_err(|problems| {
        // Patterns are numbered from 1, as lines of a file are.
        let first = problems.first().map_or(1, |problem| problem.line);
        let span = patterns
            .get(first - 1)
            .map_or(input.step.destination.span, |one| one.span);
        let message = problems
            .first()
            .map_or_else(String::new, ToString::to_string);
        Error::new(ErrorKind::Dockerfile, message)
            .with_help("write `\\[` to mean the character")
            .at(input.file, span)
    })
}

fn file<'a>(tree: &'a dyn Tree, name: &[u8], node: Node) -> Arrival<'a> {
    Arrival {
        tree: Box::new(tree),
        node,
        how: How::File(name.to_vec()),
    }
}

fn directory<'a>(tree: &'a dyn Tree, node: Node, exclude: &Arc<PatternList>) -> Arrival<'a> {
    if exclude.is_empty() {
        return Arrival {
            tree: Box::new(tree),
            node,
            how: How::Contents,
        };
    }
    let base = node.entry.path.clone();
    let tree = Filtered::new(
        tree,
        base,
        Arc::clone(exclude),
        Keep::Unmatched,
        "--exclude",
    );
    Arrival {
        tree: Box::new(tree),
        node,
        how: How::Contents,
    }
}

/// The things that one word names.
fn path<'a>(
    input: &CopyInput<'a>,
    word: &Spanned<String>,
    exclude: &Arc<PatternList>,
) -> Result<Vec<Arrival<'a>>> {
    let found = match select(input.source, &word.value)? {
        Selection::Found(found) => found,
        Selection::Missing(at) => return Err(missing(input, word, &at)),
        Selection::NotADirectory(at) => {
            return Err(missing(input, word, &at).with_note(format!("`{at}` is a file")));
        }
        Selection::Loop(at) => {
            return Err(missing(input, word, &at)
                .with_note(format!("`{at}` is part of a circle of symbolic links")));
        }
        Selection::BadPattern => {
            let message = format!("`{}` is not a pattern: {}", word.value, glob::BadPattern);
            return Err(Error::new(ErrorKind::Dockerfile, message)
                .with_help("write `[[]` to mean the character `[`"));
        }
    };
    let mut arrivals = Vec::with_capacity(found.len());
    for Selected { named, node } in found {
        if node.entry.is_directory() {
            arrivals.push(directory(input.source, node, exclude));
            continue;
        }
        let name = named.file_name().unwrap_or_default();
        if exclude.enter(&exclude.root_state(), name).matched {
            continue;
        }
        arrivals.push(match unpack(input, &node)? {
            Some(unpacked) => unpacked,
            None => file(input.source, name, node),
        });
    }
    Ok(arrivals)
}

/// The members of a file that ADD finds to be an archive.
fn unpack<'a>(input: &CopyInput<'a>, node: &Node) -> Result<Option<Arrival<'a>>> {
    let step = input.step;
    if !input.unpack
        || !step.add
        || step.unpack == Some(false)
        || !matches!(node.entry.kind, EntryKind::File { .. })
    {
        return Ok(None);
    }
    let mut node = node.clone();
    let size = node.entry.size();
    let mut reader = input.source.open(&mut node)?;
    input
        .remote
        .unpack(&shown(node.entry.path.as_relative()), size, &mut *reader)
}

/// `--parents`: the pivot `/./` splits what is dropped from what is kept, and the kept part is a pattern of
/// [`PatternList`]'s language.
fn with_parents<'a>(
    input: &CopyInput<'a>,
    word: &Spanned<String>,
    exclude: &Arc<PatternList>,
) -> Result<Vec<Arrival<'a>>> {
    let text = word.value.strip_prefix("./").unwrap_or(&word.value);
    let (dropped, kept) = text.split_once("/./").unwrap_or(("", text));
    let base = match resolve(input.source, &ImagePath::clean(dropped), true)? {
        Resolved::Found(node) if node.entry.is_directory() => node,
        _ => return Err(missing(input, word, &ImagePath::clean(dropped))),
    };
    let kept_path = ImagePath::clean(kept);
    if !glob::has_wildcard(kept) {
        let wanted = base.entry.path.append(&kept_path);
        if input.source.look_up(&wanted)?.is_none() {
            return Err(missing(input, word, &wanted));
        }
        if kept_path.is_root() {
            return Ok(vec![directory(input.source, base, exclude)]);
        }
    }
    let include = PatternList::from_patterns([kept]).map_err(|problems| {
        Error::new(
            ErrorKind::Dockerfile,
            problems
                .first()
                .map_or_else(String::new, ToString::to_string),
        )
    })?;
    let place = base.entry.path.clone();
    let included = Filtered::new(
        input.source,
        place.clone(),
        Arc::new(include),
        Keep::Matched,
        "--parents",
    );
    let tree: Box<dyn Tree + 'a> = if exclude.is_empty() {
        Box::new(included)
    } else {
        Box::new(Filtered::new(
            included,
            place,
            Arc::clone(exclude),
            Keep::Unmatched,
            "--exclude",
        ))
    };
    Ok(vec![Arrival {
        tree,
        node: base,
        how: How::Contents,
    }])
}

/// An error for a source that isn't there, with what is known of why.
fn missing(input: &CopyInput<'_>, word: &Spanned<String>, at: &ImagePath) -> Error {
    let source = input.source;
    let kind = match input.step.from {
        CopyFrom::Context | CopyFrom::Named(_) => ErrorKind::Context,
        CopyFrom::Stage(_) | CopyFrom::Image(_) => ErrorKind::Dockerfile,
    };
    let error = Error::new(
        kind,
        format!("no file in {} matches `{}`", source.describe(), word.value),
    );
    if let Some(reason) = source
        .explain_absence(at)
        .or_else(|| source.explain_absence(&ImagePath::clean(&word.value)))
    {
        let help = if reason.starts_with("excluded") {
            let name = shown(at.as_relative());
            format!("add `!{name}` below that line, or copy from elsewhere")
        } else {
            "write the output elsewhere with `-o`, or give this file another name".to_owned()
        };
        return error.with_note(reason).with_help(help);
    }
    if let Some(note) = leading_link(source, &ImagePath::clean(&word.value)) {
        return error
            .with_note(note)
            .with_help("links are followed inside their tree only; copy what the link leads to");
    }
    match near(source, at) {
        Some(name) => error.with_help(format!("did you mean `{name}`?")),
        None => error.with_help(advice(input.step)),
    }
}

fn advice(step: &CopyStep) -> &'static str {
    match step.from {
        CopyFrom::Context => {
            "paths are relative to the root of the build context, the last argument of the command line"
        }
        _ => "paths are relative to the root of the source, whatever its WORKDIR is",
    }
}

/// The first link on the way of a path, with where it leads.
fn leading_link(source: &dyn Tree, path: &ImagePath) -> Option<String> {
    let mut here = ImagePath::root();
    for name in path.components() {
        here = here.child(name);
        let node = source.look_up(&here).ok()??;
        if let EntryKind::Symlink { target } = node.entry.kind {
            return Some(format!("`{here}` is a link to `{}`", shown(&target)));
        }
    }
    None
}

/// A name in the same directory that differs by case or by one or two characters.
fn near(source: &dyn Tree, at: &ImagePath) -> Option<String> {
    let wanted = String::from_utf8_lossy(at.file_name()?).into_owned();
    let siblings = source.list(&at.parent()?).ok()?;
    let names = siblings.take(10_000).flatten().filter_map(|node| {
        let name = node.entry.path.file_name()?.to_vec();
        String::from_utf8(name).ok()
    });
    let names: Vec<String> = names.filter(|name| *name != wanted).collect();
    nearest(&wanted, names.iter().map(String::as_str)).map(str::to_owned)
}
