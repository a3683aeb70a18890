//! The helper's end of a command's input, and the terminal that a command gets: made in the command's own world where it
//! has one, so that its name means the same there.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;

use super::rights;
use super::spec::{Doing as _, Failure};
use super::streams::InputKind;

/// What becomes the command's standard input, and its output where it is a terminal.
pub(super) enum Standard {
    /// As it is: nothing to read, and pipes to print to.
    AsIs,
    /// A pipe to read from.
    Pipe(OwnedFd),
    /// A terminal, by its number in `/dev/pts`.
    Terminal(OwnedFd, u32),
}

impl Standard {
    /// Makes it, before the command's process is started: `descriptor` came with the job.
    pub(super) fn open(kind: InputKind, descriptor: Option<OwnedFd>) -> Result<Self, Failure> {
        let what = "connecting the command's input";
        match (kind, descriptor) {
            (InputKind::Nothing, _) => Ok(Self::AsIs),
            (InputKind::Bytes, Some(pipe)) => Ok(Self::Pipe(pipe)),
            (InputKind::Terminal, Some(socket)) => {
                open_terminal(&socket).doing("making a terminal")
            }
            (_, None) => Err(rustix::io::Errno::BADF).doing(what),
        }
    }

    /// The number of the terminal.
    pub(super) fn terminal(&self) -> Option<u32> {
        match self {
            Self::Terminal(_, number) => Some(*number),
            _ => None,
        }
    }

    /// Connects this process to it, which leads a session.
    pub(super) fn connect(self) -> Result<(), Failure> {
        let what = "connecting the command's input";
        match self {
            Self::AsIs => Ok(()),
            Self::Pipe(pipe) => rustix::stdio::dup2_stdin(&pipe).doing(what),
            Self::Terminal(terminal, _) => {
                rustix::process::ioctl_tiocsctty(&terminal).doing(what)?;
                rustix::stdio::dup2_stdin(&terminal).doing(what)?;
                rustix::stdio::dup2_stdout(&terminal).doing(what)?;
                rustix::stdio::dup2_stderr(&terminal).doing(what)
            }
        }
    }
}

/// A new terminal, whose master is handed over.
fn open_terminal(socket: &OwnedFd) -> rustix::io::Result<Standard> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let number = name.to_str().ok().and_then(|name| name.rsplit('/').next());
    let number = number.and_then(|number| number.parse().ok());
    let number = number.ok_or(rustix::io::Errno::NOTTY)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(name, flags, Mode::empty())?;
    rights::send(socket, b"t", Some(master.as_fd()))?;
    Ok(Standard::Terminal(terminal, number))
}
