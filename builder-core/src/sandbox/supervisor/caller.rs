//! Who calls, and with what: the caller's memory and descriptors.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat, readlinkat};
use rustix::io::{Errno, Result};

use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::procfs::Status;
use crate::sandbox::sys::memory;
use crate::sandbox::sys::seccomp::{Notification, is_valid};

/// A path that is opened to be looked at, never to be read: that can't block.
pub(super) const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A call, and the thread that waits for its answer.
pub(super) struct Caller<'a> {
    /// Where answers go.
    pub listener: BorrowedFd<'a>,
    /// `/proc` of the processes that are supervised.
    pub proc: BorrowedFd<'a>,
    /// The file system that it is.
    pub proc_device: u64,
    /// What is called.
    pub call: Call,
    /// Whether a process may have a root of its own.
    pub chrooted: bool,
    /// The call as the kernel tells it.
    pub notification: Notification,
}

impl Caller<'_> {
    /// The calling thread.
    pub(super) fn pid(&self) -> u32 {
        self.notification.pid
    }

    /// An argument.
    pub(super) fn argument(&self, index: usize) -> u64 {
        self.notification.args[index]
    }

    /// An argument of 32 bits.
    pub(super) fn word(&self, index: usize) -> u32 {
        self.notification.args[index] as u32
    }

    /// An argument that is a descriptor.
    pub(super) fn descriptor(&self, index: usize) -> i32 {
        self.word(index).cast_signed()
    }

    /// Fails where the caller is gone: its number may mean another process by now, and with it all that was read.
    pub(super) fn check(&self) -> Result<()> {
        if is_valid(self.listener, self.notification.id) {
            Ok(())
        } else {
            Err(Errno::SRCH)
        }
    }

    /// A string in the caller's memory.
    pub(super) fn string(&self, address: u64) -> Result<CString> {
        let string = self.attempt(|| memory::read_string(self.pid(), address))?;
        self.check()?;
        Ok(string)
    }

    /// Bytes in the caller's memory.
    pub(super) fn bytes(&self, address: u64, buffer: &mut [u8]) -> Result<()> {
        self.attempt(|| memory::read_exact(self.pid(), address, buffer))?;
        self.check()
    }

    /// Writes into the caller's memory.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.check()?;
        self.attempt(|| memory::write(self.pid(), address, bytes))
    }

    /// Does something with the caller; where that is not for this process to do, as the caller's user.
    fn attempt<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        match work() {
            Err(Errno::PERM) => Status::read(self.proc, self.pid())?.ids.act(work),
            other => other,
        }
    }

    /// The caller's thread group, parent and umask.
    pub(super) fn status(&self) -> Result<Status> {
        let status = Status::read(self.proc, self.pid())?;
        self.check()?;
        Ok(status)
    }

    /// The place that a call's path starts from, and the path; empty where the caller gave none.
    pub(super) fn path(&self) -> Result<(i32, CString)> {
        let (directory, path) = self.call.path_arguments().ok_or(Errno::NOSYS)?;
        self.path_at(directory, path)
    }

    /// The same for arguments of these numbers.
    pub(super) fn path_at(&self, directory: Option<usize>, path: usize) -> Result<(i32, CString)> {
        let directory = directory.map_or(libc::AT_FDCWD, |index| self.descriptor(index));
        Ok((directory, self.string(self.argument(path))?))
    }

    /// A descriptor of the caller, or its working directory.
    pub(super) fn opened(&self, descriptor: i32) -> Result<OwnedFd> {
        let object =
            openat(self.proc, self.place(descriptor), LOOK, Mode::empty()).map_err(|error| {
                match error {
                    Errno::NOENT if descriptor != libc::AT_FDCWD => Errno::BADF,
                    other => other,
                }
            })?;
        self.check()?;
        Ok(object)
    }

    fn place(&self, descriptor: i32) -> String {
        match descriptor {
            libc::AT_FDCWD => format!("{}/cwd", self.pid()),
            number => format!("{}/fd/{number}", self.pid()),
        }
    }

    /// Whether the caller has changed its root directory.
    pub(super) fn has_own_root(&self) -> Result<bool> {
        Ok(self.link("root")? != b"/")
    }

    /// Where a link of the caller's entry in `/proc` leads.
    pub(super) fn link(&self, name: &str) -> Result<Vec<u8>> {
        let name = format!("{}/{name}", self.pid());
        let read = || readlinkat(self.proc, name.as_str(), Vec::new());
        let target = match read() {
            Err(Errno::ACCESS | Errno::PERM) => Status::read(self.proc, self.pid())?.ids.act(read),
            other => other,
        }?;
        self.check()?;
        Ok(target.into_bytes())
    }
}

/// The path by which this process reaches an object that it has open.
pub(super) fn own_path(object: impl AsFd) -> CString {
    let path = format!("/proc/self/fd/{}", object.as_fd().as_raw_fd());
    CString::new(path).unwrap_or_default()
}
