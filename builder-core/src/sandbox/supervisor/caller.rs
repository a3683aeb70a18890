//! Who calls, and with what: the caller's memory, directories and paths as the caller sees them.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use rustix::io::{Errno, Result};

use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::procfs::Status;
use crate::sandbox::sys::memory;
use crate::sandbox::sys::seccomp::{Notification, is_valid};

/// A path that is opened to be looked at, never to be read: that can't block.
const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
/// Longest path that still takes a prefix.
const PREFIXABLE: usize = memory::PATH_MAX - 64;

/// A call, and the thread that waits for its answer.
pub(super) struct Caller<'a> {
    /// Where answers go.
    pub listener: BorrowedFd<'a>,
    /// `/proc` of the processes that are supervised.
    pub proc: BorrowedFd<'a>,
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

    /// The object of a path.
    pub(super) fn object(&self, directory: i32, path: &CStr, follow: bool) -> Result<OwnedFd> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        let flags = if follow {
            LOOK
        } else {
            LOOK | OFlags::NOFOLLOW
        };
        let object = if self.chrooted && self.has_own_root()? {
            self.open_below_root(directory, path, flags)
        } else if path.to_bytes().starts_with(b"/") {
            self.open_absolute(path, flags)
        } else {
            self.open_relative(directory, path, flags)
        }?;
        self.check()?;
        Ok(object)
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

    fn open_absolute(&self, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
        // These names mean whoever asks, and that must be the caller.
        if let Some(rest) = own_entry(path.to_bytes()) {
            let own = [self.pid().to_string().as_bytes(), rest].concat();
            return openat(self.proc, own, flags, Mode::empty());
        }
        openat(rustix::fs::CWD, path, flags, Mode::empty())
    }

    fn open_relative(&self, directory: i32, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
        if path.count_bytes() > PREFIXABLE {
            return openat(self.opened(directory)?, path, flags, Mode::empty());
        }
        let mut name = self.place(directory).into_bytes();
        name.push(b'/');
        name.extend_from_slice(path.to_bytes());
        openat(self.proc, name, flags, Mode::empty()).map_err(|error| match error {
            // Perhaps it is the directory that isn't there.
            Errno::NOENT if directory != libc::AT_FDCWD => {
                self.opened(directory).err().unwrap_or(error)
            }
            other => other,
        })
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

    /// Resolves a path below the root that the caller has chosen.
    fn open_below_root(&self, directory: i32, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
        let root = self.link("root")?;
        let mut below = Vec::new();
        if !path.to_bytes().starts_with(b"/") {
            let name = if directory == libc::AT_FDCWD {
                "cwd".to_owned()
            } else {
                format!("fd/{directory}")
            };
            let start = self.link(&name).map_err(|_| Errno::BADF)?;
            match start.strip_prefix(root.as_slice()) {
                Some(rest) if rest.is_empty() || rest.starts_with(b"/") => {
                    below.extend_from_slice(rest);
                }
                // It stands outside its root, where paths are ordinary.
                _ => return self.open_relative(directory, path, flags),
            }
            below.push(b'/');
        }
        below.extend_from_slice(path.to_bytes());
        let root = openat(
            self.proc,
            format!("{}/root", self.pid()),
            LOOK,
            Mode::empty(),
        )?;
        openat2(root, below, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// The directory of a path's last name, and the name: for what is to be made.
    pub(super) fn parent(&self, directory: i32, path: &CStr) -> Result<(OwnedFd, CString)> {
        let (parent, name) = split(path.to_bytes()).ok_or(Errno::NOENT)?;
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        if parent.is_empty() {
            return Ok((self.opened(directory)?, name));
        }
        let parent = CString::new(parent).map_err(|_| Errno::INVAL)?;
        Ok((self.object(directory, &parent, true)?, name))
    }
}

/// Splits a path before its last name. None where there is no name that could be made.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = path.iter().rposition(|&byte| byte != b'/')? + 1;
    let path = &path[..end];
    let start = path
        .iter()
        .rposition(|&byte| byte == b'/')
        .map_or(0, |at| at + 1);
    let name = &path[start..];
    (name != b"." && name != b"..").then_some((&path[..start], name))
}

/// What follows the caller's own entry in `/proc`, for a path that leads through it.
fn own_entry(path: &[u8]) -> Option<&[u8]> {
    // What is behind a prefix, if that is a whole name.
    let behind = |prefix: &[u8]| {
        let rest = path.strip_prefix(prefix)?;
        rest.starts_with(b"/").then_some(rest)
    };
    behind(b"/proc/self")
        .or_else(|| behind(b"/proc/thread-self"))
        .or_else(|| Some(path.strip_prefix(b"/dev")?).filter(|rest| rest.starts_with(b"/fd/")))
        .or(match path {
            b"/dev/stdin" => Some(b"/fd/0"),
            b"/dev/stdout" => Some(b"/fd/1"),
            b"/dev/stderr" => Some(b"/fd/2"),
            _ => None,
        })
}

/// The path by which this process reaches an object that it has open.
pub(super) fn own_path(object: impl AsFd) -> CString {
    let path = format!("/proc/self/fd/{}", object.as_fd().as_raw_fd());
    CString::new(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_before_their_last_name() {
        for (path, expected) in [
            ("a", Some(("", "a"))),
            ("/a", Some(("/", "a"))),
            ("a/b//", Some(("a/", "b"))),
            ("a/./b", Some(("a/./", "b"))),
            ("/", None),
            ("a/..", None),
            ("", None),
        ] {
            let expected: Option<(&[u8], &[u8])> =
                expected.map(|(one, two)| (one.as_bytes(), two.as_bytes()));
            assert_eq!(split(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn entries_of_the_caller_are_recognised() {
        for (path, expected) in [
            ("/proc/self/exe", Some("/exe")),
            ("/proc/thread-self/fd/3", Some("/fd/3")),
            ("/proc/selfish/x", None),
            ("/proc/self", None),
            ("/dev/fd/7", Some("/fd/7")),
            ("/dev/stderr", Some("/fd/2")),
            ("/dev/null", None),
        ] {
            assert_eq!(
                own_entry(path.as_bytes()),
                expected.map(str::as_bytes),
                "{path}"
            );
        }
    }
}
