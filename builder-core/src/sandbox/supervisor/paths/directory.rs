//! The working directory: `chdir(2)`, `getcwd(2)`.

use std::os::fd::AsFd as _;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::permission::EXECUTE;
use crate::sandbox::supervisor::paths::trees::{Place, reopen};
use crate::sandbox::supervisor::paths::walk::Found;
use crate::sandbox::supervisor::{Reply, Result};
use crate::sandbox::sys::seccomp::{self, Answer};
use crate::sandbox::sys::visit::{BEGIN_AGAIN, Trouble, Visit};

impl Server {
    /// `chdir`: the caller is given the directory, and made to enter it by its descriptor.
    pub(super) fn change_directory(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let who = self.who();
        let (start, path) = caller.path()?;
        let found = self.resolve(caller, &who, (start, &path), true)?;
        if let Found::File(object, _) = &found {
            self.check(&who, object, EXECUTE)?;
        }
        let directory = reopen(self.object(&found), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let id = caller.notification.id;
        let number = seccomp::add_fd(caller.listener, id, directory.as_fd(), None, true)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let Some(mut visit) = self.visit(caller)? else {
            return Ok(Reply::Sent);
        };
        let number = u64::from(number.cast_unsigned());
        let done = visit.call(libc::SYS_fchdir.cast_unsigned(), number);
        let closed = visit.call(libc::SYS_close.cast_unsigned(), number);
        if let (Ok(result), Ok(_)) = (done, closed) {
            // One that was killed meanwhile needs nothing more.
            let _ = visit.finish(result);
        }
        Ok(Reply::Sent)
    }

    /// Stops a caller on its way back from its call; none where it is gone.
    pub(super) fn visit(&mut self, caller: &Caller<'_>) -> Result<Option<Visit>> {
        let (listener, id) = (caller.listener, caller.notification.id);
        let again = || seccomp::respond(listener, id, Answer::Fail(BEGIN_AGAIN));
        match Visit::begin(caller.pid(), self.traced, again) {
            Ok(visit) => Ok(Some(visit)),
            Err(Trouble::Refused(error)) => Err(error.into()),
            Err(Trouble::Gone(event)) => {
                self.missed.extend(event.map(|event| (caller.pid(), event)));
                Ok(None)
            }
        }
    }

    /// `getcwd`.
    pub(super) fn working_directory(&self, caller: &Caller<'_>) -> Result<Reply> {
        let directory = caller.opened(libc::AT_FDCWD)?;
        if rustix::fs::fstat(&directory)?.st_nlink == 0 {
            return Err(Errno::NOENT.into());
        }
        let mut path = match self.trees.place_of(&directory)? {
            Place::Tree(tree, below) => self.below_own_root(self.trees.visible(tree, &below))?,
            Place::Kernel(path) => path,
            Place::Elsewhere => return Err(Errno::NOENT.into()),
        };
        path.push(0);
        if caller.argument(1) < path.len() as u64 {
            return Err(Errno::RANGE.into());
        }
        caller.write(caller.argument(0), &path)?;
        Ok(Reply::Value(i64::try_from(path.len()).unwrap_or(0)))
    }
}
