//! A session: a command in the root file system of an image or of a stage, instead of an image.
//!
//! It is a build whose last step is that command. So it sees what a RUN at that place would see, by the same engines:
//! layers, environment, user, working directory, the mounts of the line. It has what a RUN lacks: input, perhaps a
//! terminal, directories of the host, and an exit status that is no error.

mod place;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::build::deliver::{built, commit, deliver, names};
use crate::build::request::{BuildRequest, RunOptions};
use crate::build::{Built, Purpose, health, run, with_result};
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventSink;
use crate::interrupt::Interrupt;
use crate::oci::config::RunConfig;
use crate::plan::Plan;
use crate::sandbox::Streams;
use crate::sandbox::spec::Ended;
use crate::store::Store;

pub(crate) use place::append;
pub use place::has_stage;

/// A command to execute in a root file system.
#[derive(Clone, Debug)]
pub struct Session {
    /// In which.
    pub place: Place,
    /// What is executed.
    pub command: SessionCommand,
    /// Variables, which replace those of the image.
    pub env: Vec<(String, String)>,
    /// Who it is, as USER has it; the image's user without it.
    pub user: Option<String>,
    /// Its working directory, absolute; the image's without it.
    pub workdir: Option<String>,
    /// The host name that it sees.
    pub hostname: Option<String>,
    /// What asks it to end, as STOPSIGNAL has it; the image's without it.
    pub stop_signal: Option<String>,
    /// What of the host it sees, and memory.
    pub mounts: Vec<SessionMount>,
    /// Whether its root can't be written to.
    pub read_only: bool,
    /// Whether what it changes becomes a layer of an image, with the names and outputs of the request, where it ends with
    /// status 0. Otherwise it is thrown away.
    pub keep: bool,
    /// A static busybox of the host, for images without a shell.
    pub busybox: Option<PathBuf>,
}

/// In which root file system a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// That of the image which the request's only FROM names: its triggers (ONBUILD) are not executed.
    Image,
    /// That of the target, when all its steps are done.
    Target,
    /// Before the instruction at a line of the Dockerfile, counted from 1; with its mounts where it is a RUN.
    Before(usize),
    /// After it.
    After(usize),
}

/// What a session executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionCommand {
    /// The image's program: ENTRYPOINT and CMD.
    Program {
        /// Instead of the image's ENTRYPOINT; its CMD doesn't count then.
        entrypoint: Option<Vec<String>>,
        /// Instead of the image's CMD, where there are any.
        arguments: Vec<String>,
    },
    /// A shell to type in.
    Shell,
    /// A text for a shell.
    Script(String),
    /// The image's program, and its HEALTHCHECK until that gives a verdict: status 0 for healthy, 1 for not.
    Health,
}

/// Something that a session sees in its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionMount {
    /// A directory or file of the host. Links on the way to it are followed: it is what the caller named.
    Host {
        /// Its path.
        source: PathBuf,
        /// Where, absolute.
        target: String,
        /// Whether writes are refused.
        read_only: bool,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Where, absolute.
        target: String,
        /// Limit in bytes.
        size: Option<u64>,
    },
}

/// Where a session reads and prints.
pub trait Console: Sync {
    /// Calls `command`, which is about to start, with its streams: until it has ended nothing else is told.
    fn converse(&self, command: &mut dyn FnMut(Streams<'_>));
}

/// How a session ended.
#[derive(Clone, Debug)]
pub struct SessionEnd {
    /// How its command ended.
    pub status: Ended,
    /// The image that was made of it, where that was asked for.
    pub built: Option<Built>,
}

/// A session, and where it is in the plan.
pub(crate) struct Attached<'a> {
    pub(crate) session: &'a Session,
    pub(crate) console: &'a dyn Console,
    status: Mutex<Option<Ended>>,
}

/// What happens when a RUN fails, before the build does.
#[derive(Clone)]
pub enum OnFailure<'a> {
    /// Its root is kept in the store, for [`last_failed`].
    Keep,
    /// Someone looks at its root, in a shell.
    Shell {
        /// What the shell is connected to.
        console: &'a dyn Console,
        /// A static busybox of the host, for images without a shell.
        busybox: Option<PathBuf>,
    },
}

impl std::fmt::Debug for OnFailure<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keep => "Keep",
            Self::Shell { .. } => "Shell",
        })
    }
}

impl Attached<'_> {
    /// Takes note of the end.
    pub(crate) fn ended(&self, status: Ended) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }
}

/// Executes a command in the root of an image or a stage; steps before it are built where they aren't cached.
///
/// # Errors
/// As for a build; and [`ErrorKind::Usage`] where the line is none of an instruction, or the image names no program.
/// A command that ends with another status than 0 is no error.
pub fn attend(
    store: &Store,
    mut request: BuildRequest,
    session: &Session,
    console: &dyn Console,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<SessionEnd> {
    let outputs = std::mem::take(&mut request.outputs);
    let request = &request;
    let attached = Attached {
        session,
        console,
        status: Mutex::new(None),
    };
    let purpose = Purpose::Session(&attached);
    let ended = with_result(store, request, purpose, events, interrupt, |done| {
        let status = attached.status.lock();
        let status = status.unwrap_or_else(PoisonError::into_inner).take();
        let ended = || Error::new(ErrorKind::Internal, "the session did not begin");
        let status = status.ok_or_else(ended)?;
        if !session.keep || status != Ended::Status(0) {
            return Ok(SessionEnd {
                status,
                built: None,
            });
        }
        let image = done.image.unwrap_or_default();
        let (committed, time) = commit(done.shared, image, request, done.registry)?;
        let made = (&committed, time);
        deliver(done.shared, made, outputs, request, done.registry)?;
        let names = names(&committed, request);
        Ok(SessionEnd {
            status,
            built: Some(built(&committed, names, done.shared.plan)),
        })
    });
    match session.place {
        // Nobody wrote that file.
        Place::Image => ended.map_err(Error::without_place),
        _ => ended,
    }
}

/// Executes a command in the root of the last RUN that failed with [`OnFailure::Keep`]. What it changes there stays.
///
/// # Errors
/// [`ErrorKind::Usage`] where none is kept, or this machine's engine can't read it; those of the sandbox.
pub fn last_failed(
    store: &Store,
    session: &Session,
    options: &RunOptions,
    console: &dyn Console,
    interrupt: &Interrupt,
) -> Result<Ended> {
    let _in_use = store.lock_for_use()?;
    run::look_at_last(store, session, options, console, interrupt)
}

/// Gives the step of a session its text for the history.
///
/// # Errors
/// Those of [`started`].
pub(crate) fn name_step(plan: &mut Plan, session: &Session) -> Result<()> {
    let text = match started(&session.command, &plan.config.config)? {
        Started::Program(argv) => argv.join(" "),
        Started::Shell(_) => "a shell".to_owned(),
    };
    let target = plan.target;
    let mut stages = plan.stages.iter_mut();
    let stage = stages.find(|stage| stage.index == target);
    if let Some(step) = stage.and_then(|stage| stage.steps.last_mut()) {
        step.text = text;
    }
    Ok(())
}

/// What is started in truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// A program with its arguments.
    Program(Vec<String>),
    /// A shell of the image; with a text that it executes.
    Shell(Option<String>),
}

/// What a session starts in an image with this config.
///
/// # Errors
/// [`ErrorKind::Usage`] where the image doesn't say what the session wants of it.
pub(crate) fn started(command: &SessionCommand, config: &RunConfig) -> Result<Started> {
    match command {
        SessionCommand::Program {
            entrypoint,
            arguments,
        } => program(entrypoint.as_deref(), arguments, config).map(Started::Program),
        SessionCommand::Shell => Ok(Started::Shell(None)),
        SessionCommand::Script(text) => Ok(Started::Shell(Some(text.clone()))),
        SessionCommand::Health => {
            let program = program(None, &[], config)?;
            health::script(&program, config).map(|script| Started::Shell(Some(script)))
        }
    }
}

/// ENTRYPOINT and CMD, as far as nothing stands in for them.
fn program(
    entrypoint: Option<&[String]>,
    arguments: &[String],
    config: &RunConfig,
) -> Result<Vec<String>> {
    let (first, own) = match entrypoint {
        // As in Docker: the image's CMD was meant for its own ENTRYPOINT.
        Some(entrypoint) => (entrypoint, &[][..]),
        None => (&config.entrypoint[..], &config.cmd[..]),
    };
    let rest = if arguments.is_empty() { own } else { arguments };
    let argv: Vec<String> = first.iter().chain(rest).cloned().collect();
    if argv.first().is_none_or(String::is_empty) {
        return Err(
            usage("the image names no program: it has neither ENTRYPOINT nor CMD")
                .with_help("write the command behind the image's name"),
        );
    }
    Ok(argv)
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}

#[cfg(test)]
mod tests;
