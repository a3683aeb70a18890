//! `rbuild run` and `rbuild shell`: a command in the root of an image or a stage.

use std::io::IsTerminal as _;

use builder_core::build::request::BuildRequest;
use builder_core::build::session::{self, Place, Session, SessionCommand};
use builder_core::event::Event;
use builder_core::interrupt::Interrupt;
use builder_core::sandbox::spec::Ended;
use builder_core::store::Store;
use builder_core::{Error, ErrorKind, Result};
use clap::Parser as _;

use super::{open_store, prepare};
use crate::console::{Lent, Stage};
use crate::environment::Environment;
use crate::flags::session::{RunImageFlags, ShellFlags};
use crate::flags::{BuildFlags, Cli, Command, Progress};
use crate::render::Display;
use crate::request;

/// What `docker run` says where it could not start a container.
const NOT_BEGUN: u8 = 125;

/// `rbuild run`: gives the command's exit status.
pub(crate) fn run(
    flags: &RunImageFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<u8> {
    let lent = Lent {
        input: flags.interactive,
        terminal: flags.tty,
    };
    if lent.input && lent.terminal && !std::io::stdin().is_terminal() {
        return Err(Error::new(
            ErrorKind::Usage,
            "-t and -i together need a terminal, and standard input is none",
        )
        .with_help("leave -t out"));
    }
    let begun = begin(flags, lent, environment, interrupt);
    // As `docker run` has it: the statuses of the command can be told from those of rbuild.
    begun.or_else(|error| match error.kind() {
        ErrorKind::Usage | ErrorKind::Interrupted => Err(error),
        _ => {
            super::report(&error, environment);
            Ok(status_of(&error))
        }
    })
}

fn begin(
    flags: &RunImageFlags,
    lent: Lent,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<u8> {
    let command = request::session::command(flags)?;
    let store = open_store(&flags.world.store, environment)?;
    let request = request::session::image_request(flags, &store, environment, interrupt)?;
    let mut session = request::session::session(Place::Image, command, &flags.world, environment)?;
    session.keep = flags.commit.is_some();
    session.stop_signal.clone_from(&flags.docker.stop_signal);
    let display = Display::start(Progress::Plain, flags.docker.quiet, environment);
    // The command's own output is what matters: beside it, only that an image is pulled.
    let filter = |event: &Event| {
        matches!(
            event,
            Event::Transfer { .. } | Event::BlobSettled { .. } | Event::ImageWritten { .. }
        )
    };
    let stage = Stage::new(lent, display, filter, interrupt);
    converse((&store, request), &session, &stage, interrupt)
}

/// `rbuild shell`.
pub(crate) fn shell(
    flags: &ShellFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<u8> {
    let command = match &flags.command {
        Some(text) => SessionCommand::Script(text.clone()),
        None => SessionCommand::Shell,
    };
    let display = Display::start(Progress::Plain, false, environment);
    let stage = Stage::new(Lent::shell(), display, |_| true, interrupt);
    if flags.last_failed {
        let store = open_store(&flags.world.store, environment)?;
        let session = request::session::session(Place::Target, command, &flags.world, environment)?;
        let options = request::session::run_options(&flags.world, environment)?;
        return session::last_failed(&store, &session, &options, &stage, interrupt).map(status);
    }
    let (store, request, place) = shell_request(flags, environment, interrupt)?;
    let session = request::session::session(place, command, &flags.world, environment)?;
    converse((&store, request), &session, &stage, interrupt)
}

fn converse(
    (store, request): (&Store, BuildRequest),
    session: &Session,
    stage: &Stage,
    interrupt: &Interrupt,
) -> Result<u8> {
    let ended = session::attend(store, request, session, stage, stage, interrupt);
    stage.finish();
    ended.map(|ended| status(ended.status))
}

/// The exit status that tells of a command's end, as shells have it.
fn status(ended: Ended) -> u8 {
    match ended {
        Ended::Status(status) => u8::try_from(status).unwrap_or(u8::MAX),
        Ended::Signal(signal) => 128 + u8::try_from(signal & 0x7f).unwrap_or(0),
    }
}

/// The status of a command that could not be started: 127 where it isn't there, 126 where it is no program, as shells
/// have it.
fn status_of(error: &Error) -> u8 {
    use std::error::Error as _;
    if error.kind() != ErrorKind::NotStarted {
        return NOT_BEGUN;
    }
    if error.source().is_some() { 126 } else { 127 }
}

/// The request of `shell`, and where in it the shell is: in an image, where the name is no stage's.
fn shell_request(
    flags: &ShellFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<(Store, BuildRequest, Place)> {
    let mut build = build_flags(flags)?;
    let place = match (flags.at, flags.before) {
        (Some(line), true) => Place::Before(line),
        (Some(line), false) => Place::After(line),
        (None, _) => Place::Target,
    };
    let Some(name) = &flags.what else {
        let (store, request) = prepare(&build, environment, interrupt)?;
        return Ok((store, request, place));
    };
    build.target = Some(name.clone());
    match prepare(&build, environment, interrupt) {
        Ok((store, request)) if session::has_stage(&request.dockerfile, name) => {
            Ok((store, request, place))
        }
        // Without a Dockerfile it can be an image alone.
        _ => {
            let run = image_flags(name, flags)?;
            let store = open_store(&flags.world.store, environment)?;
            let request = request::session::image_request(&run, &store, environment, interrupt)?;
            Ok((store, request, Place::Image))
        }
    }
}

/// What `run` would be asked for this image.
fn image_flags(name: &str, flags: &ShellFlags) -> Result<RunImageFlags> {
    let parsed = Cli::try_parse_from(["rbuild", "run", "--", name]);
    let Ok(Command::Run(mut run)) = parsed.map(|cli| cli.command) else {
        let message = format!("`{name}` is neither a stage nor the name of an image");
        return Err(Error::new(ErrorKind::Usage, message));
    };
    run.world = flags.world.clone();
    run.platform.clone_from(&flags.platform);
    Ok(*run)
}

/// What `build` would be asked.
fn build_flags(flags: &ShellFlags) -> Result<BuildFlags> {
    let words = [
        "rbuild".into(),
        "build".into(),
        "--".into(),
        flags.context.clone(),
    ];
    let parsed = Cli::try_parse_from(words);
    let Ok(Command::Build(mut build)) = parsed.map(|cli| cli.command) else {
        let message = format!("`{}` is no directory", flags.context.display());
        return Err(Error::new(ErrorKind::Usage, message));
    };
    build.file.clone_from(&flags.file);
    build.build_args.clone_from(&flags.build_args);
    build.build_contexts.clone_from(&flags.build_contexts);
    build.platform.clone_from(&flags.platform);
    let (run, world) = (&mut build.run, &flags.world);
    run.secret.clone_from(&flags.secret);
    run.ssh.clone_from(&flags.ssh);
    run.network.clone_from(&world.network);
    run.add_host.clone_from(&world.add_host);
    run.shm_size.clone_from(&world.shm_size);
    run.ulimit.clone_from(&world.ulimit);
    run.mode = world.mode.clone();
    build.registry = world.registry.clone();
    build.store = world.store.clone();
    Ok(*build)
}
