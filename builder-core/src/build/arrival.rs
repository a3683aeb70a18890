//! The sources of COPY and ADD -> the things that arrive at the destination, in the order of the instruction.

use std::sync::Arc;

use crate::build::copy::{CopyInput, place, shown};
use crate::build::parents;
use crate::build::remote::Remote;
use crate::diagnostic::Diagnostic;
use crate::dockerfile::hints;
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::http::without_user;
use crate::image_path::ImagePath;
use crate::layer::archive::ArchiveTree;
use crate::nearest::nearest;
use crate::plan::step::{CopyFrom, CopySource, CopyStep, Spanned};
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

/// An error for a source that isn't there, with what is known of why.
pub(crate) fn missing(input: &CopyInput<'_>, word: &Spanned<String>, at: &ImagePath) -> Error {
    let source = input.source;
    let error = Error::new(
        missing_kind(input.step),
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
    if let Some(meant) = meant_path(input, word) {
        return error.with_help(format!(
            "write `{meant}`: a backslash takes the next character as it is"
        ));
    }
    if let Some((_, c, name)) = hints::invisible(&word.value) {
        let shown = hints::shown(c, name);
        return error
            .with_note(format!("there is {shown} in it"))
            .with_help("delete that character");
    }
    match near(source, at) {
        Some(name) => error.with_help(format!("did you mean `{name}`?")),
        None => error.with_help(advice(input.step)),
    }
}

/// Who is to blame where a source isn't there.
fn missing_kind(step: &CopyStep) -> ErrorKind {
    match step.from {
        CopyFrom::Context | CopyFrom::Named(_) => ErrorKind::Context,
        CopyFrom::Stage(_) | CopyFrom::Image(_) => ErrorKind::Dockerfile,
    }
}

/// A socket is copied as an empty file, as BuildKit does; nobody wants that, so it is said.
fn warn_of_socket(input: &CopyInput<'_>, word: &Spanned<String>, named: &ImagePath) {
    let message = format!("`{named}` is a socket: an empty file stands for it in the image");
    let diagnostic = Diagnostic::warning("copied-socket", word.span, message)
        .with_help("leave it out, or name the files beside it");
    input.remote.events.send(Event::Diagnostic {
        file: input.file.clone(),
        diagnostic,
    });
}

/// The path with slashes that someone wrote with backslashes.
fn meant_path(input: &CopyInput<'_>, word: &Spanned<String>) -> Option<String> {
    let written = input.file.slice(word.span);
    if !written.contains('\\') {
        return None;
    }
    let meant = written.replace('\\', "/").replace("//", "/");
    let found = input.source.look_up(&ImagePath::clean(&meant)).ok()?;
    found.map(|_| meant)
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
