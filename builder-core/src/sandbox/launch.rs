//! The builder's side of a sandbox: starts the helper, hands it the job, passes on what the command prints, and
//! brings its report back.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use super::console::Console;
use super::conversation::Conversation;
use super::enter::ARGUMENT;
use super::probe::Probe;
use super::sealed;
use super::spec::{Bytes, Ended, Job, Mode, Report, RunSpec};
use super::streams::Streams;
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;
use crate::interrupt::Interrupt;
use crate::owners::SideTable;

/// A program that can be started as the helper, which executes RUN.
#[derive(Clone, Debug)]
pub struct Helper {
    program: PathBuf,
    /// The program in memory, from its first start on.
    copy: Arc<OnceLock<OwnedFd>>,
}

/// How a RUN ended.
#[derive(Debug)]
pub struct Finished {
    /// The command's end.
    pub status: Ended,
    /// The owners of files that take no attributes.
    pub table: SideTable,
    /// Mount points that were made for the command and that it moved somewhere else in its root: they are in the layer.
    pub moved: Vec<Bytes>,
}

impl Helper {
    /// `program` is started as `PROGRAM __sandbox`; it calls [`super::enter_if_asked`] first.
    pub fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            copy: Arc::default(),
        }
    }

    /// Finds out what this machine allows. `folder` is an empty directory in the store.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] where the helper can't be started.
    pub fn probe(&self, folder: &Path, interrupt: &Interrupt) -> Result<Vec<Probe>> {
        let job = Job::Probe(folder.into());
        match self.execute(&job, Streams::output(&mut |_, _| ()), interrupt)? {
            Report::Probed(probes) => Ok(probes),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets file capabilities below `folder`, as the root of a user namespace of the caller's.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] where that is refused.
    pub fn set_capabilities(&self, folder: &Path, files: &[(ImagePath, Vec<u8>)]) -> Result<()> {
        let bytes = |(path, value): &(ImagePath, Vec<u8>)| {
            (Bytes(path.as_relative().to_vec()), Bytes(value.clone()))
        };
        let job = Job::Capabilities(folder.into(), files.iter().map(bytes).collect());
        match self.execute(&job, Streams::output(&mut |_, _| ()), &Interrupt::default())? {
            Report::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Executes a RUN to its end, isolated as `mode` says. An interrupt asks the command to end, and ends it after ten seconds.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] where the sandbox can't be made or the program can't be started,
    /// [`ErrorKind::Interrupted`]. A command that fails is no error here: see [`Finished::status`].
    pub fn run(
        &self,
        mode: Mode,
        spec: &RunSpec,
        streams: Streams<'_>,
        interrupt: &Interrupt,
    ) -> Result<Finished> {
        let job = Job::Run(mode, streams.input.kind(), Box::new(spec.clone()));
        let report = self.execute(&job, streams, interrupt);
        interrupt.check()?;
        match report? {
            Report::Ended {
                status,
                table,
                moved,
            } => {
                let table = SideTable::parse(&table).map_err(|error| {
                    Error::new(ErrorKind::Internal, "the sandbox's report is damaged")
                        .with_source(error)
                })?;
                Ok(Finished {
                    status,
                    table,
                    moved,
                })
            }
            Report::NotStarted(program, errno) => Err(not_started(&program, errno)),
            other => Err(unexpected(&other)),
        }
    }

    fn execute(&self, job: &Job, streams: Streams<'_>, interrupt: &Interrupt) -> Result<Report> {
        let broken = |error: std::io::Error| self.broken(error);
        let (control, theirs) = UnixStream::pair().map_err(broken)?;
        let Streams { input, output } = streams;
        let (console, input) = Console::open(input).map_err(broken)?;
        let mut child = self.start(job.folder(), theirs).map_err(broken)?;
        let mut conversation = Conversation::new(control, console, &mut child);
        let said = conversation.say_job(job, input);
        // The helper ends when it sees that nobody listens, and takes everything with it.
        let heard = said.and_then(|()| conversation.listen(output, interrupt));
        let ended = child.wait();
        let heard = heard.and_then(|heard| ended.map(|_| heard));
        serde_json::from_slice(&heard.map_err(broken)?).map_err(|_| self.no_helper())
    }

    /// Starts a copy of the program that nobody can change: in memory, or where the machine allows no program there,
    /// without a name in `folder`.
    fn start(&self, folder: &Path, control: UnixStream) -> std::io::Result<Child> {
        let control = OwnedFd::from(control);
        let started = self.in_memory().and_then(|copy| self.spawn(copy, &control));
        match started {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                self.spawn(&sealed::on_disk(&self.program, folder)?, &control)
            }
            other => other,
        }
    }

    fn in_memory(&self) -> std::io::Result<&OwnedFd> {
        if let Some(copy) = self.copy.get() {
            return Ok(copy);
        }
        let copy = sealed::in_memory(&self.program)?;
        Ok(self.copy.get_or_init(|| copy))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the sandbox, which is a process"
    )]
    fn spawn(&self, copy: &OwnedFd, control: &OwnedFd) -> std::io::Result<Child> {
        Command::new(sealed::path_of(copy))
            .arg0(&self.program)
            .arg(ARGUMENT)
            .env_clear()
            .stdin(Stdio::from(control.try_clone()?))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    fn broken(&self, error: std::io::Error) -> Error {
        let program = self.program.display();
        let message = format!("`{program}` could not be started as the helper that executes RUN");
        Error::new(ErrorKind::Run, message).with_source(error)
    }

    fn no_helper(&self) -> Error {
        let program = self.program.display();
        let message =
            format!("`{program}`, started as the helper that executes RUN, gave no answer");
        Error::new(ErrorKind::Run, message).with_help(
            "a program that embeds the library calls `builder_core::sandbox::enter_if_asked()` first in `main`",
        )
    }
}

fn not_started(program: &str, errno: i32) -> Error {
    let cause = std::io::Error::from_raw_os_error(errno);
    let (message, help) = match errno {
        libc::ENOENT if program.contains('/') => (
            format!(
                "`{program}` does not exist in the stage, or the interpreter that it names doesn't"
            ),
            "copy it into the stage, or start FROM an image that has it",
        ),
        libc::ENOENT => (
            format!("`{program}` is in no directory of the stage's PATH"),
            "install it in an earlier step, or give its whole path",
        ),
        libc::EACCES => (
            format!("`{program}` can't be executed"),
            "`chmod +x` it, or give COPY `--chmod=755`",
        ),
        libc::ENOEXEC => (
            format!("`{program}` is no program of this machine's kind"),
            "a script begins with `#!` and its interpreter; a program must be for the platform of this machine",
        ),
        _ => (format!("`{program}` could not be started"), "see the cause"),
    };
    let error = Error::new(ErrorKind::NotStarted, message).with_help(help);
    match errno {
        libc::ENOENT => error,
        _ => error.with_source(cause),
    }
}

/// The error of a report that tells of a failure, or is none that was asked for.
fn unexpected(report: &Report) -> Error {
    let Report::Failed(what, errno) = report else {
        return Error::new(ErrorKind::Internal, "the sandbox answered something else");
    };
    let message = format!("the sandbox for RUN could not be made: {what} failed");
    Error::new(ErrorKind::Run, message)
        .with_source(std::io::Error::from_raw_os_error(*errno))
        .with_help("`rbuild doctor` says what this machine allows")
}
