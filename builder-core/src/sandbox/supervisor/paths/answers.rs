//! Answers that come later, from a thread that may wait.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::{Reply, Result};
use crate::sandbox::sys::seccomp::{self, Answer};

/// How a thread answers a call. A caller that is gone needs no answer.
pub(super) struct Later {
    listener: OwnedFd,
    id: u64,
}

impl Later {
    /// The call returns a descriptor of this file.
    pub(super) fn file(&self, file: BorrowedFd<'_>, cloexec: bool) {
        if let Err(error) = seccomp::add_fd_and_send(self.listener.as_fd(), self.id, file, cloexec)
        {
            self.fail(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        }
    }

    /// The caller's descriptor of this number is this file from now on, and the call returns 0.
    pub(super) fn replace(&self, file: BorrowedFd<'_>, number: i32, cloexec: bool) {
        let listener = self.listener.as_fd();
        match seccomp::add_fd(listener, self.id, file, Some(number), cloexec) {
            Ok(_) => {
                let _ = seccomp::respond(listener, self.id, Answer::Value(0));
            }
            Err(error) => self.fail(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }

    /// The call fails.
    pub(super) fn fail(&self, error: Errno) {
        let answer = Answer::Fail(error.raw_os_error());
        let _ = seccomp::respond(self.listener.as_fd(), self.id, answer);
    }
}

/// Answers a call from a thread of its own.
pub(super) fn later(
    caller: &Caller<'_>,
    work: impl FnOnce(Later) + Send + 'static,
) -> Result<Reply> {
    let later = Later {
        listener: caller
            .listener
            .try_clone_to_owned()
            .map_err(|_| Errno::MFILE)?,
        id: caller.notification.id,
    };
    let started = std::thread::Builder::new().spawn(move || work(later));
    started
        .map(|_| Reply::Sent)
        .map_err(|_| Errno::AGAIN.into())
}
