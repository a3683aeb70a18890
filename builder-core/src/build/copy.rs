//! COPY and ADD: sources, destination and flags -> one layer.
//!
//! The rules are in `docs/dockerfile-support.md`, "COPY and ADD, in short". The base is asked through its view, and only for
//! what the destination meets; with `--link` it is not asked at all.

use crate::build::arrival::{Arrival, How};
use crate::build::layer::LayerMaker;
use crate::build::remote::Remote;
use crate::build::target::Target;
use crate::build::{owner, permissions, unpack};
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::{EscapeAsciiLossy as _, ImagePath};
use crate::layer::Layer;
use crate::plan::step::{Chmod, CopyStep};
use crate::source::{SourceFile, Span};
use crate::timestamp::Timestamp;
use crate::tree::Tree;
use crate::tree::graft::{Graft, Origin};
use crate::tree::merge::{Conflict, merge};

/// What a COPY or ADD needs of the build.
pub(crate) struct CopyInput<'a> {
    /// The instruction.
    pub(crate) step: &'a CopyStep,
    /// Where path sources are looked up.
    pub(crate) source: &'a dyn Tree,
    /// The stage so far.
    pub(crate) base: &'a dyn Tree,
    /// The Dockerfile, for places in messages.
    pub(crate) file: &'a SourceFile,
    /// The time of what is made now.
    pub(crate) now: Timestamp,
    /// Downloads, checkouts and archives of ADD.
    pub(crate) remote: &'a Remote<'a>,
    /// Whether ADD looks into files of the source for archives. Without, an archive arrives as the file that it is.
    pub(crate) unpack: bool,
}

/// Makes the layer of what arrives.
///
/// # Errors
/// With the place of the word or flag that is to blame, where one is.
pub(crate) fn execute(
    input: &CopyInput<'_>,
    arrivals: Vec<Arrival<'_>>,
    maker: LayerMaker<'_>,
) -> Result<Layer> {
    let step = input.step;
    let base = asks_the_base(step).then_some(input.base);
    let at_destination = |error: Error| error.at(input.file, step.destination.span);
    let target = Target::find(&step.destination, base).map_err(at_destination)?;
    let arrivals = unpack::redirect(arrivals, &target, base)?;
    let mut graft = Graft::default();
    plant(input, &arrivals, &target, &mut graft).map_err(at_destination)?;
    let archives_only = !arrivals.is_empty()
        && arrivals
            .iter()
            .all(|one| matches!(one.how, How::Unpacked(..)));
    emit(input, &graft, base, archives_only, maker)
}

/// Whether the layer depends on what the stage holds at the destination. BuildKit takes a chmod'ed copy out of
/// `--link`'s path; the recorded answers show it.
pub(crate) fn asks_the_base(step: &CopyStep) -> bool {
    !step.link || step.chmod.is_some()
}

/// Puts every arrival at its place below the destination.
fn plant<'t>(
    input: &CopyInput<'_>,
    arrivals: &'t [Arrival<'_>],
    target: &Target,
    graft: &mut Graft<'t>,
) -> Result<()> {
    let step = input.step;
    if arrivals.len() > 1
        && !target.is_directory()
        && arrivals.iter().any(|one| matches!(one.how, How::File(_)))
    {
        let message = format!(
            "{} sources, but the destination `{}` is no directory",
            arrivals.len(),
            step.destination.path
        );
        return Err(Error::new(ErrorKind::Dockerfile, message)
            .with_help(format!("write `{}/` to make it one", step.destination.path)));
    }
    if step.parents {
        graft.at(&target.path);
    }
    for (ordinal, arrival) in arrivals.iter().enumerate() {
        let node = arrival.node.clone();
        let tree: &'t dyn Tree = &*arrival.tree;
        match &arrival.how {
            How::File(name) => graft.at(&target.file(name)?).put(ordinal, tree, node),
            How::Contents => graft
                .at(&target.directory()?)
                .put_contents(ordinal, tree, node),
            How::Unpacked(_, place) => {
                let place = place.clone().map_or_else(|| target.directory(), Ok)?;
                graft.at(&place).put_unpacked(ordinal, tree, node);
            }
        }
    }
    Ok(())
}

/// Merges everything over the base and writes what changes.
fn emit(
    input: &CopyInput<'_>,
    graft: &Graft<'_>,
    base: Option<&dyn Tree>,
    archives_only: bool,
    mut maker: LayerMaker<'_>,
) -> Result<Layer> {
    let step = input.step;
    let owner = match &step.chown {
        Some(chown) => Some(
            owner::resolve(&chown.value, input.base)
                .map_err(|error| error.at(input.file, chown.span))?,
        ),
        None => None,
    };
    let mut made = Entry::directory(ImagePath::root(), input.now);
    (made.uid, made.gid) = owner.unwrap_or((0, 0));
    if let (Some(Chmod::Octal(mode)), false) = (&step.chmod, archives_only) {
        made.mode = mode & 0o777;
    }
    if !graft.is_empty() {
        merge(graft, base, &made, &conflict, &mut |merged| {
            let origin = merged.origin;
            let adjust = |entry: &mut Entry| adjust(entry, origin, owner, step.chmod.as_ref());
            maker.append(merged, &adjust)
        })?;
    }
    maker.finish()
}

/// Applies `--chown` and `--chmod`. A directory that was made has them already; archives keep their own modes.
fn adjust(entry: &mut Entry, origin: Origin, owner: Option<(u32, u32)>, chmod: Option<&Chmod>) {
    let arrived = !matches!(origin, Origin::Existing | Origin::Made);
    if let (true, Some((uid, gid))) = (arrived, owner) {
        (entry.uid, entry.gid) = (uid, gid);
    }
    let copied = matches!(origin, Origin::Copied | Origin::Passed);
    if let (true, Some(chmod), false) = (copied, chmod, entry.is_symlink()) {
        entry.mode = permissions::apply(chmod, entry.mode, entry.is_directory());
    }
}

fn conflict(conflict: Conflict) -> Error {
    let Conflict {
        path,
        directory_arrives,
        present,
    } = conflict;
    let (arriving, help) = if directory_arrives {
        (
            "a directory",
            "copy into the directory that the link leads to, or remove what is there first",
        )
    } else {
        (
            "a file",
            "name the file that it should become below that directory, with a trailing `/` on the directory",
        )
    };
    Error::new(
        ErrorKind::Dockerfile,
        format!("cannot copy {arriving} onto {present}: `{path}`"),
    )
    .with_help(help)
}

/// Shows bytes of a name in a message.
pub(crate) fn shown(name: &[u8]) -> String {
    name.escape_ascii_lossy()
}

/// Gives an error the place of a word.
pub(crate) fn place(file: &SourceFile, span: Span) -> impl Fn(Error) -> Error {
    move |error| error.at(file, span)
}
