//! The duty of virtual files: `/proc`, `/sys` and devices in a root without mounts, and files kept in memory alone.
//!
//! Limits: nothing can be executed by a path in `/proc` (`execve("/proc/self/exe")`), nor become the working directory;
//! `maps` tells paths with the root directory before them.

mod memory_files;

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{Access, AtFlags, CWD, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

pub(crate) use crate::sandbox::supervisor::virtual_files::memory_files::MemoryFile;

use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::acting::RealIds;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::names::{
    Own, clean, is_virtual, kernel_path, mounts, own_link, permit,
};
use crate::sandbox::supervisor::procfs::descends;
use crate::sandbox::supervisor::{Reply, Result};
use crate::sandbox::sys::memory;

/// What a supervisor of files starts with.
pub(crate) struct VirtualFiles {
    /// The root directory of the RUN.
    pub root: PathBuf,
    /// Files that have no place on a disk.
    pub files: Vec<MemoryFile>,
}

/// Serves them.
pub(super) struct Server {
    root: Vec<u8>,
    files: Vec<MemoryFile>,
    /// All processes of the RUN descend from this one, which adopts orphans.
    supervisor: u32,
}

impl Server {
    /// Starts to serve.
    pub(super) fn new(files: VirtualFiles) -> std::io::Result<Self> {
        let root = files.root.canonicalize()?;
        Ok(Self {
            root: root.as_os_str().as_bytes().to_vec(),
            files: files.files,
            supervisor: std::process::id(),
        })
    }

    /// Answers a call.
    pub(super) fn answer(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        // What can't be read (a process between a change of ids and its exec) is for the kernel, and so is all that
        // isn't virtual.
        let Some(path) = self.asked(caller) else {
            return Ok(Reply::Continue);
        };
        if let Some(file) = self
            .files
            .iter()
            .find(|file| file.path.as_os_str().as_bytes() == path.as_bytes())
        {
            return file.answer(caller);
        }
        if !is_virtual(&path) {
            return Ok(Reply::Continue);
        }
        let status = caller.status()?;
        let own = Own {
            process: status.group,
            thread: caller.pid(),
        };
        let ids = status.ids;
        let request = Request {
            caller,
            path,
            own,
            ids,
        };
        match caller.call {
            Call::Open | Call::Openat | Call::Openat2 | Call::Creat => self.open(&request),
            Call::Readlink | Call::Readlinkat => self.read_link(&request),
            Call::Access | Call::Faccessat | Call::Faccessat2 => self.access(&request),
            Call::Chmod | Call::Fchmodat => self.change_mode(&request),
            Call::Getxattr | Call::Lgetxattr => Err(Errno::OPNOTSUPP.into()),
            Call::Listxattr | Call::Llistxattr => Ok(Reply::Value(0)),
            _ => self.stat(&request),
        }
    }

    /// The clean path that a call is about, from the root of the RUN.
    fn asked(&self, caller: &Caller<'_>) -> Option<String> {
        let (directory, path) = caller.path().ok()?;
        let path = path.to_str().ok()?;
        if path.starts_with('/') {
            return Some(clean(path));
        }
        let opens = matches!(caller.call, Call::Open | Call::Openat | Call::Openat2);
        if directory == libc::AT_FDCWD {
            // Below the root directory itself, `proc/…` is as good as `/proc/…`.
            let top = ["proc", "sys", "dev"]
                .iter()
                .any(|top| path.starts_with(top));
            return (top && caller.link("cwd").ok()? == self.root).then(|| clean(path));
        }
        if !opens {
            return None;
        }
        // An open directory of `/proc` is the kernel's, but what is opened below it would escape what is permitted.
        let start = String::from_utf8(caller.link(&format!("fd/{directory}")).ok()?).ok()?;
        let kernels = start == "/proc"
            || start.starts_with("/proc/")
            || start == "/sys"
            || start.starts_with("/sys/");
        kernels.then(|| clean(&format!("{start}/{path}")))
    }

    /// Whether a process belongs to the RUN.
    fn is_ours(&self, request: &Request<'_>, process: u32) -> bool {
        process == request.own.process || descends(request.caller.proc, process, self.supervisor)
    }

    /// The kernel's path for a request, if it may be used.
    fn permitted(&self, request: &Request<'_>, write: bool) -> Result<String> {
        let path = kernel_path(&request.path, request.own);
        permit(&path, write, |process| self.is_ours(request, process))?;
        Ok(path)
    }

    fn open(&self, request: &Request<'_>) -> Result<Reply> {
        let caller = request.caller;
        let flags = match caller.call {
            Call::Creat => OFlags::WRONLY | OFlags::TRUNC,
            Call::Open => OFlags::from_bits_retain(caller.word(1)),
            Call::Openat => OFlags::from_bits_retain(caller.word(2)),
            _ => {
                let mut flags = [0; 8];
                caller.bytes(caller.argument(2), &mut flags)?;
                OFlags::from_bits_retain(u64::from_ne_bytes(flags) as u32)
            }
        };
        if flags.contains(OFlags::CREATE | OFlags::EXCL) {
            return Err(Errno::EXIST.into());
        }
        let write = flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC);
        let path = self.permitted(request, write)?;
        if let Some(text) = mounts(&path) {
            let cloexec = flags.contains(OFlags::CLOEXEC);
            let file = text_file(text)?;
            return Ok(Reply::File { file, cloexec });
        }
        self.check_descriptor(request, &path, write)?;
        let file = request.ids.act(|| open_without_waiting(&path, flags))?;
        caller.check()?;
        let cloexec = flags.contains(OFlags::CLOEXEC);
        Ok(Reply::File { file, cloexec })
    }

    /// A descriptor opened anew must be as permitted as the file behind it: else a file open for reading could be
    /// opened for writing.
    fn check_descriptor(&self, request: &Request<'_>, path: &str, write: bool) -> Result<()> {
        let is_descriptor = path.rsplit('/').nth(1) == Some("fd");
        if !is_descriptor {
            return Ok(());
        }
        let target = request.ids.act(|| rustix::fs::readlink(path, Vec::new()))?;
        match target.to_str() {
            Ok(target) if target.starts_with("/proc/") || target.starts_with("/sys/") => {
                Ok(permit(target, write, |process| {
                    self.is_ours(request, process)
                })?)
            }
            _ => Ok(()),
        }
    }

    fn read_link(&self, request: &Request<'_>) -> Result<Reply> {
        let caller = request.caller;
        let mut target = match own_link(&request.path, request.own) {
            Some(target) => target.into_bytes(),
            None => {
                let path = self.permitted(request, false)?;
                request
                    .ids
                    .act(|| rustix::fs::readlink(&path, Vec::new()))?
                    .into_bytes()
            }
        };
        if let Some(rest) = target.strip_prefix(self.root.as_slice()) {
            if rest.is_empty() {
                target = b"/".to_vec();
            } else if rest.starts_with(b"/") {
                target = rest.to_vec();
            }
        }
        let first = if caller.call == Call::Readlinkat {
            2
        } else {
            1
        };
        if caller.descriptor(first + 1) <= 0 {
            return Err(Errno::INVAL.into());
        }
        target.truncate(caller.word(first + 1) as usize);
        caller.write(caller.argument(first), &target)?;
        Ok(Reply::Value(i64::try_from(target.len()).unwrap_or(0)))
    }

    fn access(&self, request: &Request<'_>) -> Result<Reply> {
        let caller = request.caller;
        let mode = caller.word(if caller.call == Call::Access { 1 } else { 2 });
        let wanted = Access::from_bits(mode).ok_or(Errno::INVAL)?;
        let path = self.permitted(request, wanted.contains(Access::WRITE_OK))?;
        request
            .ids
            .act(|| rustix::fs::accessat(CWD, &path, wanted, AtFlags::empty()))?;
        Ok(Reply::Value(0))
    }

    /// `chmod` of an open descriptor by its path: so the C library changes the mode of what may not be a link.
    fn change_mode(&self, request: &Request<'_>) -> Result<Reply> {
        let caller = request.caller;
        let mode = caller.word(if caller.call == Call::Chmod { 1 } else { 2 });
        let path = self.permitted(request, false)?;
        if path.rsplit('/').nth(1) != Some("fd") {
            return Err(Errno::PERM.into());
        }
        request.ids.act(|| {
            let target = rustix::fs::readlink(&path, Vec::new())?;
            // Devices and files of the kernel stay as they are.
            let inside = target.as_bytes().strip_prefix(self.root.as_slice());
            if !inside.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")) {
                return Err(Errno::PERM);
            }
            let mode = Mode::from_raw_mode(mode & 0o7777);
            rustix::fs::chmodat(CWD, &path, mode, AtFlags::empty())
        })?;
        Ok(Reply::Value(0))
    }

    fn stat(&self, request: &Request<'_>) -> Result<Reply> {
        let caller = request.caller;
        let (flags, place) = match caller.call {
            Call::Stat => (0, 1),
            Call::Lstat => (libc::AT_SYMLINK_NOFOLLOW, 1),
            Call::Newfstatat => (caller.descriptor(3), 2),
            _ => (caller.descriptor(2), 4),
        };
        let path = if flags & libc::AT_SYMLINK_NOFOLLOW != 0
            && own_link(&request.path, request.own).is_some()
        {
            // The link itself, which is the same for everybody.
            request.path.clone()
        } else {
            self.permitted(request, false)?
        };
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        if caller.call == Call::Statx {
            let statx = request
                .ids
                .act(|| memory::statx(CWD, &path, flags, caller.word(3)))?;
            caller.write(caller.argument(place), memory::statx_bytes(&statx))?;
        } else {
            let stat = request.ids.act(|| memory::stat(CWD, &path, flags))?;
            caller.write(caller.argument(place), memory::stat_bytes(&stat))?;
        }
        Ok(Reply::Value(0))
    }
}

/// A call about a virtual path.
struct Request<'a> {
    caller: &'a Caller<'a>,
    path: String,
    own: Own,
    ids: RealIds,
}

/// Opens a file of the kernel. A pipe without a partner, or a terminal, would keep everybody waiting: so it is opened
/// as if nobody wanted to wait, and made to wait afterwards.
fn open_without_waiting(path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    // A descriptor of a mere path can't be handed over.
    let unwanted = OFlags::CREATE | OFlags::PATH;
    let added = OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags.difference(unwanted) | added, Mode::empty())?;
    if !flags.contains(OFlags::NONBLOCK) {
        let status = rustix::fs::fcntl_getfl(&file)?;
        rustix::fs::fcntl_setfl(&file, status.difference(OFlags::NONBLOCK))?;
    }
    Ok(file)
}

/// A file that says something.
fn text_file(text: &str) -> Result<OwnedFd> {
    let file =
        rustix::fs::memfd_create(c"mounts", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut left = text.as_bytes();
    while !left.is_empty() {
        let count = rustix::io::write(&file, left)?;
        left = &left[count..];
    }
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file)
}
