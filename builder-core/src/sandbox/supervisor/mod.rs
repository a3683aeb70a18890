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
mod kept;
mod moves;
mod names;
mod owners;
mod ownership;
mod paths;
mod processes;
mod procfs;
mod records;
mod resolve;
mod sockets;
mod stat;
mod tracing;
mod virtual_files;
mod xattr;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

pub(crate) use crate::sandbox::supervisor::identity::Identity;
pub(crate) use crate::sandbox::supervisor::owners::Owners;
pub(crate) use crate::sandbox::supervisor::paths::{Kind, Mounted, Paths};
pub(crate) use crate::sandbox::supervisor::virtual_files::{MemoryFile, VirtualFiles};

use crate::owners::SideTable;
use crate::sandbox::calls::{Call, call};
use crate::sandbox::filter::Policy;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::kept::Kept;
use crate::sandbox::supervisor::owners::Keeper;
use crate::sandbox::supervisor::tracing::Tracer;
use crate::sandbox::supervisor::virtual_files::Server;
use crate::sandbox::sys::ptrace::Wait;
use crate::sandbox::sys::seccomp::{self, Answer, Listener, Notification};

/// What a supervisor does.
pub(crate) enum Duty {
    /// Ids, owners and devices that the host can't hold. The supervisor has the caller's root directory.
    Owners(Owners),
    /// Files of the kernel in a root without mounts. The supervisor stands outside that root.
    Files(VirtualFiles),
    /// Every path. The supervisor stands outside the root.
    Paths(Paths),
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
#[derive(Debug)]
enum Reply {
    /// The kernel executes it.
    Continue,
    /// It returns this.
    Value(i64),
    /// It fails with this error number.
    Fail(i32),
    /// The kernel executes it when this thread is not traced any more.
    When(u32),
    /// It has its answer, or will have it from a thread.
    Sent,
    /// It returns a descriptor of this file.
    File {
        /// The file.
        file: OwnedFd,
        /// Whether the descriptor is closed when another program is started.
        cloexec: bool,
    },
}

enum Work {
    Owners(Box<Keeper>),
    Files(Box<Server>),
    Paths(Box<paths::Server>),
}

/// Answers notified calls, one at a time.
pub(crate) struct Supervisor {
    listener: OwnedFd,
    proc: OwnedFd,
    /// The file system that `/proc` is.
    proc_device: u64,
    work: Work,
    tracer: Tracer,
    kept: Kept,
    /// Calls that are answered when a thread is not traced any more: that thread, and the notification's id.
    waiting: Vec<(u32, u64)>,
    /// What a supervisor of files has recorded.
    nothing: SideTable,
}

impl Supervisor {
    /// A supervisor of the calls that arrive at a listener. To be made where the caller's processes are in `/proc`: of
    /// owners after the change of root, of files outside. It takes off the process's umask: new files get that of
    /// the caller.
    pub(crate) fn new(listener: Listener, duty: Duty, policy: Policy) -> io::Result<Self> {
        seccomp::check_sizes()?;
        let Listener {
            descriptor: listener,
            killable,
            ..
        } = listener;
        seccomp::sync_wake_up(listener.as_fd());
        rustix::process::umask(Mode::empty());
        raise_descriptor_limit();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
        let work = match duty {
            Duty::Owners(owners) => Work::Owners(Box::new(Keeper::new(owners))),
            Duty::Files(files) => Work::Files(Box::new(Server::new(files)?)),
            Duty::Paths(paths) => Work::Paths(Box::new(paths::Server::new(paths)?)),
        };
        Ok(Self {
            listener,
            proc_device: rustix::fs::fstat(&proc)?.st_dev,
            proc,
            work,
            tracer: Tracer::new(policy, killable),
            kept: Kept::default(),
            waiting: Vec::new(),
            nothing: SideTable::default(),
        })
    }

    /// Becomes readable when a call waits, and hangs up when nobody is left who could call.
    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes note of what happened to a process of the RUN.
    pub(crate) fn note(&mut self, process: u32, event: Wait) {
        self.tracer.note(process, event);
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let (waiting, ready): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|(thread, _)| self.tracer.is_traced(*thread));
        self.waiting = waiting;
        for (_, id) in ready {
            // The caller may be gone.
            let _ = seccomp::respond(self.listener.as_fd(), id, Answer::Continue);
        }
    }

    /// What it heard of processes that ended, while it waited for one to stand still.
    pub(crate) fn take_missed(&mut self) -> Vec<(u32, Wait)> {
        match &mut self.work {
            Work::Paths(server) => server.take_missed(),
            Work::Owners(_) | Work::Files(_) => Vec::new(),
        }
    }

    /// Owners of the files that take no attributes.
    pub(crate) fn table(&self) -> &SideTable {
        match &self.work {
            Work::Owners(keeper) => keeper.table(),
            Work::Files(_) => &self.nothing,
            Work::Paths(server) => server.table(),
        }
    }

    /// Answers the next call.
    pub(crate) fn answer(&mut self) -> io::Result<()> {
        let notification = match seccomp::receive(self.listener.as_fd()) {
            // The caller died, or a signal came first.
            Err(error) if gone(&error) => return Ok(()),
            other => other?,
        };
        let reply = match self.kept.take(&notification) {
            Some(reply) => reply,
            None => self.work_out(notification),
        };
        match reply {
            Reply::When(thread) => {
                self.waiting.push((thread, notification.id));
                return Ok(());
            }
            Reply::Sent => return Ok(()),
            _ => {}
        }
        self.tracer.before_answer(notification.pid);
        let delivered = self.deliver(&notification, &reply);
        self.tracer.after_answer(notification.pid);
        match delivered {
            Err(error) if gone(&error) => {
                self.kept.keep(&notification, reply);
                Ok(())
            }
            other => other,
        }
    }

    /// What a call gets.
    fn work_out(&mut self, notification: Notification) -> Reply {
        let Some(call) = call(notification.arch, notification.nr) else {
            return Reply::Continue;
        };
        let caller = Caller {
            listener: self.listener.as_fd(),
            proc: self.proc.as_fd(),
            proc_device: self.proc_device,
            call,
            chrooted: false,
            notification,
        };
        let reply = match (&mut self.work, call) {
            (_, Call::RtSigaction) => Ok(self.tracer.handler_set(&caller)),
            (
                Work::Owners(_) | Work::Files(_),
                Call::Connect | Call::Sendto | Call::Sendmsg | Call::Sendmmsg,
            ) => sockets::check(&caller),
            (_, Call::Ptrace) => Ok(self.tracer.traced_by_another(&caller)),
            (_, Call::Execve | Call::Execveat) if self.tracer.holds(notification.pid) => {
                Ok(self.tracer.begin_again(notification.pid))
            }
            (Work::Owners(keeper), _) => keeper.answer(caller),
            (Work::Files(server), _) => server.answer(&caller),
            (Work::Paths(server), call) => {
                let traced = self.tracer.is_traced(notification.pid);
                if traced && call == Call::Chdir {
                    // It is to be visited: signals that were held back come when it is let go.
                    self.tracer.before_answer(notification.pid);
                }
                server.answer(&caller, traced)
            }
        };
        match reply {
            Ok(reply) => reply,
            Err(NoAnswer::LeftToKernel) => Reply::Continue,
            Err(NoAnswer::Fails(errno)) => Reply::Fail(errno.raw_os_error()),
        }
    }

    fn deliver(&self, notification: &Notification, reply: &Reply) -> io::Result<()> {
        let (listener, id) = (self.listener.as_fd(), notification.id);
        let answer = match reply {
            Reply::Continue | Reply::When(_) | Reply::Sent => Answer::Continue,
            Reply::Value(value) => Answer::Value(*value),
            Reply::Fail(errno) => Answer::Fail(*errno),
            Reply::File { file, cloexec } => {
                match seccomp::add_fd_and_send(listener, id, file.as_fd(), *cloexec) {
                    // The caller has no room for it.
                    Err(error) if !gone(&error) => {
                        Answer::Fail(error.raw_os_error().unwrap_or(libc::EIO))
                    }
                    other => return other,
                }
            }
        };
        seccomp::respond(listener, id, answer)
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
