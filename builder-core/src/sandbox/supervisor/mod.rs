//! Answers the system calls of a RUN that its filter notifies: see `seccomp_unotify(2)`.
//!
//! Two duties. Where one user id stands for all, the supervisor plays the ids and owners that real root would have
//! ([`Owners`]). Where nothing can be mounted, it serves `/proc`, `/sys` and devices ([`VirtualFiles`]).

mod acting;
mod caller;
mod create;
mod exec;
mod identity;
mod ids;
mod moves;
mod owners;
mod ownership;
mod processes;
mod procfs;
mod records;
mod resolve;
mod stat;
mod virtual_files;
mod xattr;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

pub(crate) use crate::sandbox::supervisor::identity::Identity;
pub(crate) use crate::sandbox::supervisor::owners::Owners;
pub(crate) use crate::sandbox::supervisor::virtual_files::{MemoryFile, VirtualFiles};

use crate::sandbox::calls::call;
use crate::sandbox::record::SideTable;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::owners::Keeper;
use crate::sandbox::supervisor::virtual_files::Server;
use crate::sandbox::sys::seccomp::{self, Answer};

/// What a supervisor does.
pub(crate) enum Duty {
    /// Ids, owners and devices that the host can't hold. The supervisor has the caller's root directory.
    Owners(Owners),
    /// Files of the kernel in a root without mounts. The supervisor stands outside that root.
    Files(VirtualFiles),
}

/// Why a call gets no answer of the supervisor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoAnswer {
    /// It fails with this error number.
    Fails(Errno),
    /// It is for the kernel to answer, with the caller's own rights.
    LeftToKernel,
}

impl From<Errno> for NoAnswer {
    fn from(errno: Errno) -> Self {
        Self::Fails(errno)
    }
}

type Result<T> = std::result::Result<T, NoAnswer>;

/// What a call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    /// The kernel executes it.
    Continue,
    /// It returns this.
    Value(i64),
    /// It has been answered with a descriptor.
    Sent,
}

enum Work {
    Owners(Box<Keeper>),
    Files(Box<Server>),
}

/// Answers notified calls, one at a time.
pub(crate) struct Supervisor {
    listener: OwnedFd,
    proc: OwnedFd,
    /// The file system that `/proc` is.
    proc_device: u64,
    work: Work,
    /// What a supervisor of files has recorded.
    nothing: SideTable,
}

impl Supervisor {
    /// A supervisor of the calls that arrive at a listener. To be made where the caller's processes are in `/proc`: of
    /// owners after the change of root, of files outside. It takes off the process's umask: new files get that of
    /// the caller.
    pub(crate) fn new(listener: OwnedFd, duty: Duty) -> io::Result<Self> {
        seccomp::check_sizes()?;
        seccomp::sync_wake_up(listener.as_fd());
        rustix::process::umask(Mode::empty());
        raise_descriptor_limit();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
        let work = match duty {
            Duty::Owners(owners) => Work::Owners(Box::new(Keeper::new(owners))),
            Duty::Files(files) => Work::Files(Box::new(Server::new(files)?)),
        };
        Ok(Self {
            listener,
            proc_device: rustix::fs::fstat(&proc)?.st_dev,
            proc,
            work,
            nothing: SideTable::default(),
        })
    }

    /// Becomes readable when a call waits, and hangs up when nobody is left who could call.
    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Owners of the files that take no attributes.
    pub(crate) fn table(&self) -> &SideTable {
        match &self.work {
            Work::Owners(keeper) => keeper.table(),
            Work::Files(_) => &self.nothing,
        }
    }

    /// Answers the next call.
    pub(crate) fn answer(&mut self) -> io::Result<()> {
        let notification = match seccomp::receive(self.listener.as_fd()) {
            // The caller died, or a signal came first.
            Err(error) if gone(&error) => return Ok(()),
            other => other?,
        };
        let answer = match call(notification.arch, notification.nr) {
            None => Answer::Continue,
            Some(call) => {
                let caller = Caller {
                    listener: self.listener.as_fd(),
                    proc: self.proc.as_fd(),
                    proc_device: self.proc_device,
                    call,
                    chrooted: false,
                    notification,
                };
                let reply = match &mut self.work {
                    Work::Owners(keeper) => keeper.answer(caller),
                    Work::Files(server) => server.answer(&caller),
                };
                match reply {
                    Ok(Reply::Continue) => Answer::Continue,
                    Ok(Reply::Value(value)) => Answer::Value(value),
                    Ok(Reply::Sent) => return Ok(()),
                    Err(NoAnswer::LeftToKernel) => Answer::Continue,
                    Err(NoAnswer::Fails(errno)) => Answer::Fail(errno.raw_os_error()),
                }
            }
        };
        match seccomp::respond(self.listener.as_fd(), notification.id, answer) {
            Err(error) if gone(&error) => Ok(()),
            other => other,
        }
    }
}

/// Lets this process have as many descriptors as it may: one for each process of the RUN that is another user. The RUN
/// has been started already, and keeps its own limit.
fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    // With the old limit it answers too, for fewer processes at once.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}

fn gone(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::INTR | Errno::AGAIN)
    )
}

/// Gives the caller a descriptor as the result of its call.
fn send(caller: &Caller<'_>, file: &OwnedFd, cloexec: bool) -> Result<Reply> {
    let id = caller.notification.id;
    match seccomp::add_fd_and_send(caller.listener, id, file.as_fd(), cloexec) {
        Ok(()) => Ok(Reply::Sent),
        // The caller died.
        Err(error) if gone(&error) => Ok(Reply::Sent),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO).into()),
    }
}
