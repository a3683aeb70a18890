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
use crate::plan::step::{Account, Chmod, Chown, CopyStep, Destination, Spanned};
use crate::source::{SourceFile, Span};
use crate::timestamp::Timestamp;
use crate::tree::Tree;
use crate::tree::graft::{Graft, Origin};
use crate::tree::merge::{Conflict, merge};

/// What a COPY or ADD needs of the build to find what arrives.
pub(crate) struct CopyInput<'a> {
    /// The instruction.
    pub(crate) step: &'a CopyStep,
    /// Where path sources are looked up.
    pub(crate) source: &'a dyn Tree,
    /// The Dockerfile, for places in messages.
    pub(crate) file: &'a SourceFile,
    /// Downloads, checkouts and archives of ADD.
    pub(crate) remote: &'a Remote<'a>,
    /// Whether ADD looks into files of the source for archives. Without, they arrive unopened.
    pub(crate) unpack: bool,
}

/// Where things arrive, and how: all of an instruction that its layer depends on beside what arrives. The key is made of
/// this too, so that nothing else of the instruction can reach the layer.
pub(crate) struct Landing<'a> {
    /// The destination.
    pub(crate) destination: &'a Destination,
    /// `--chown`.
    pub(crate) chown: Option<&'a Spanned<Chown>>,
    /// `--chmod`.
    pub(crate) chmod: Option<&'a Chmod>,
    /// `--link`.
    pub(crate) link: bool,
    /// `--parents`.
    pub(crate) parents: bool,
}

impl<'a> Landing<'a> {
    /// That of an instruction. Its other fields are about what arrives.
    pub(crate) fn of(step: &'a CopyStep) -> Self {
        Self {
            destination: &step.destination,
            chown: step.chown.as_ref(),
            chmod: step.chmod.as_ref(),
            link: step.link,
            parents: step.parents,
        }
    }

    /// Whether the layer depends on what the stage holds: at the destination, or in its files of accounts.
    pub(crate) fn asks_the_base(&self) -> bool {
        let by_name = |account: &Option<Account>| matches!(account, Some(Account::Name(_)));
        let named = |chown: &Chown| by_name(&chown.user) || by_name(&chown.group);
        self.meets_the_base() || self.chown.is_some_and(|chown| named(&chown.value))
    }

    /// Whether what the stage holds at the destination counts. BuildKit takes a chmod'ed copy out of `--link`'s path; the
    /// recorded answers show it.
    fn meets_the_base(&self) -> bool {
        !self.link || self.chmod.is_some()
    }
}

/// Where things arrive.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    /// The stage so far.
    pub(crate) base: &'a dyn Tree,
    /// The Dockerfile, for places in messages.
    pub(crate) file: &'a SourceFile,
    /// The time of what is made now.
    pub(crate) now: Timestamp,
}

/// Makes the layer of what arrives. Whatever this looks at is part of the step's key ([`keys`](crate::build::keys)), but
/// for times.
///
/// # Errors
/// With the place of the word or flag that is to blame, where one is.
pub(crate) fn execute(
    landing: &Landing<'_>,
    ground: &Ground<'_>,
    arrivals: Vec<Arrival<'_>>,
    maker: LayerMaker<'_>,
) -> Result<Layer> {
    let base = landing.meets_the_base().then_some(ground.base);
    let destination = landing.destination;
    let at_destination = |error: Error| error.at(ground.file, destination.span);
    let target = Target::find(destination, base).map_err(at_destination)?;
    let arrivals = unpack::redirect(arrivals, &target, base)?;
    let mut graft = Graft::default();
    plant(landing, &arrivals, &target, &mut graft).map_err(at_destination)?;
    let archives_only = !arrivals.is_empty()
        && arrivals
            .iter()
            .all(|one| matches!(one.how, How::Unpacked(..)));
    emit(landing, ground, &graft, base, archives_only, maker)
}

/// Puts every arrival at its place below the destination.
fn plant<'t>(
    landing: &Landing<'_>,
    arrivals: &'t [Arrival<'_>],
    target: &Target,
    graft: &mut Graft<'t>,
) -> Result<()> {
    if arrivals.len() > 1
        && !target.is_directory()
        && arrivals.iter().any(|one| matches!(one.how, How::File(_)))
    {
        let message = format!(
            "{} sources, but the destination `{}` is no directory",
            arrivals.len(),
            landing.destination.path
        );
        let help = format!("write `{}/` to make it one", landing.destination.path);
        return Err(Error::new(ErrorKind::Dockerfile, message).with_help(help));
    }
    if landing.parents {
        graft.at(&target.path);
    }
    for (ordinal, arrival) in arrivals.iter().enumerate() {
        let node = arrival.node.clone();
        let tree: &'t dyn Tree = &*arrival.tree;
        match &arrival.how {
            How::File(name) => graft.at(&target.file(name)?).put(ordinal, tree, node),
            How::Unopened(_) => {
                let message = "a file arrives that nobody has looked into";
                return Err(Error::new(ErrorKind::Internal, message));
            }
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
    landing: &Landing<'_>,
    ground: &Ground<'_>,
    graft: &Graft<'_>,
    base: Option<&dyn Tree>,
    archives_only: bool,
    mut maker: LayerMaker<'_>,
) -> Result<Layer> {
    let owner = match landing.chown {
        Some(chown) => Some(
            owner::resolve(&chown.value, ground.base)
                .map_err(|error| error.at(ground.file, chown.span))?,
        ),
        None => None,
    };
    let mut made = Entry::directory(ImagePath::root(), ground.now);
    (made.uid, made.gid) = owner.unwrap_or((0, 0));
    if let (Some(Chmod::Octal(mode)), false) = (landing.chmod, archives_only) {
        made.mode = mode & 0o777;
    }
    if !graft.is_empty() {
        merge(graft, base, &made, &conflict, &mut |merged| {
            let origin = merged.origin;
            let adjust = |entry: &mut Entry| adjust(entry, origin, owner, landing.chmod);
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
