//! The kernel's own files: `/proc`, `/sys`, terminals. What they say of a process is true of the RUN's processes alone,
//! and their links lead where the RUN's paths lead.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::sandbox::supervisor::Result;
use crate::sandbox::supervisor::caller::{Caller, LOOK};
use crate::sandbox::supervisor::names::{Own, own_link, permit};
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::walk::{Found, Here};
use crate::sandbox::supervisor::procfs::{descends, read_small};
use crate::sandbox::sys::loader::SCRATCH;
use crate::sandbox::sys::memory;

/// Where, in the scratch memory of a process, the path of its program stands.
pub(super) const PROGRAM: u64 = SCRATCH + 0x100;

/// What a name below `/proc` or `/sys` leads to.
pub(super) enum Step {
    /// The path that it makes.
    Stay(Vec<u8>),
    /// A link with this text.
    Link(Vec<u8>),
    /// What a process has open.
    Here(Here),
}

/// A link of `/proc` that leads to where a process has something open (`proc_pid_fd(5)` and others).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Magic {
    Root,
    WorkingDirectory,
    Program,
    Descriptor(u32),
    Other,
}

impl Server {
    /// Whether a process belongs to the RUN.
    pub(super) fn is_ours(&self, caller: &Caller<'_>, process: u32) -> bool {
        process == caller.pid() || descends(caller.proc, process, self.supervisor)
    }

    /// What the path with one more name leads to; `follow`, whether a link is followed.
    pub(super) fn kernel_step(
        &self,
        caller: &Caller<'_>,
        path: Vec<u8>,
        follow: bool,
    ) -> Result<Step> {
        if !follow || !path.starts_with(b"/proc/") {
            return Ok(Step::Stay(path));
        }
        let text = str::from_utf8(&path).map_err(|_| Errno::NOENT)?;
        if matches!(
            text,
            "/proc/self" | "/proc/thread-self" | "/proc/mounts" | "/proc/net"
        ) {
            let link = own_link(text, own(caller)?).unwrap_or_default();
            return Ok(Step::Link(link.into_bytes()));
        }
        let Some((process, magic)) = magic(text) else {
            return Ok(Step::Stay(path));
        };
        if !self.is_ours(caller, process) {
            return Err(Errno::ACCESS.into());
        }
        Ok(match magic {
            Magic::Root => Step::Here(self.top(&self.who())?),
            Magic::Program => Step::Link(program_of(process)?),
            Magic::WorkingDirectory | Magic::Descriptor(_) => {
                let name = &text["/proc/".len()..];
                let object = openat(caller.proc, name, LOOK, Mode::empty())?;
                caller.check()?;
                Step::Here(self.here(object)?)
            }
            Magic::Other => return Err(Errno::ACCESS.into()),
        })
    }

    /// A file at a clean path of `/proc` or `/sys`, open to be looked at.
    pub(super) fn kernel_file(&self, caller: &Caller<'_>, path: Vec<u8>) -> Result<Found> {
        let text = str::from_utf8(&path).map_err(|_| Errno::NOENT)?;
        permit(text, false, |process| self.is_ours(caller, process))?;
        let flags = LOOK | OFlags::NOFOLLOW;
        // Links of /sys stay in it.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let object = match text.strip_prefix("/proc") {
            Some("") => openat(caller.proc, ".", LOOK, Mode::empty())?,
            Some(rest) => openat2(caller.proc, &rest[1..], flags, Mode::empty(), resolve)?,
            None => {
                let sys = rustix::fs::open("/sys", LOOK, Mode::empty())?;
                match text.strip_prefix("/sys/") {
                    None => sys,
                    Some(rest) => openat2(&sys, rest, LOOK, Mode::empty(), resolve)?,
                }
            }
        };
        caller.check()?;
        Ok(Found::Kernel(object, path))
    }

    /// A terminal that the RUN has made.
    pub(super) fn terminal(&self, name: &[u8]) -> Result<Found> {
        let text = str::from_utf8(name).map_err(|_| Errno::NOENT)?;
        let number: u32 = text.parse().map_err(|_| Errno::NOENT)?;
        if !self.terminals.contains(&number) {
            return Err(Errno::NOENT.into());
        }
        let path = format!("/dev/pts/{number}");
        let object = rustix::fs::open(path.as_str(), LOOK, Mode::empty())?;
        Ok(Found::Kernel(object, path.into_bytes()))
    }

    /// The terminal that controls the caller, which is what `/dev/tty` is to it; to this process it would be another, or
    /// none.
    pub(super) fn own_terminal(&self, caller: &Caller<'_>) -> Result<OwnedFd> {
        let stat = read_small(caller.proc, &format!("{}/stat", caller.pid()))?;
        caller.check()?;
        let number = controlling_terminal(&stat);
        let number = number.filter(|number| self.terminals.contains(number));
        let number = number.ok_or(Errno::NXIO)?;
        let path = format!("/dev/pts/{number}");
        Ok(rustix::fs::open(path.as_str(), LOOK, Mode::empty())?)
    }

    /// What a link of the kernel's says; none where it is no link.
    pub(super) fn kernel_link(
        &self,
        caller: &Caller<'_>,
        object: &OwnedFd,
        path: &[u8],
    ) -> Result<Vec<u8>> {
        let text = str::from_utf8(path).map_err(|_| Errno::NOENT)?;
        if let Some(link) = own_link(text, own(caller)?) {
            return Ok(link.into_bytes());
        }
        match magic(text) {
            Some((process, _)) if !self.is_ours(caller, process) => Err(Errno::ACCESS.into()),
            Some((_, Magic::Root)) => Ok(b"/".to_vec()),
            Some((process, Magic::Program)) => program_of(process),
            _ => {
                let target = match rustix::fs::readlinkat(object, c"", Vec::new()) {
                    Err(Errno::NOENT) => Err(Errno::INVAL),
                    other => other,
                }?;
                let target = target.into_bytes();
                match self.trees.visible_path(&target) {
                    Some(seen) => self.below_own_root(seen),
                    None => Ok(target),
                }
            }
        }
    }
}

/// The caller, as its entries are named.
fn own(caller: &Caller<'_>) -> Result<Own> {
    Ok(Own {
        process: caller.status()?.group,
        thread: caller.pid(),
    })
}

/// The program of a process, by the path that the RUN knows.
fn program_of(process: u32) -> Result<Vec<u8>> {
    let path = memory::read_string(process, PROGRAM)?;
    if path.is_empty() {
        // It has not begun yet.
        return Err(Errno::NOENT.into());
    }
    Ok(path.into_bytes())
}

/// The process and the kind of a magic link's path.
fn magic(path: &str) -> Option<(u32, Magic)> {
    let mut names = path.strip_prefix("/proc/")?.split('/');
    let process = names.next()?.parse().ok()?;
    let mut name = names.next()?;
    if name == "task" {
        names.next()?;
        name = names.next()?;
    }
    let more = names.next();
    let magic = match (name, more) {
        ("root", None) => Magic::Root,
        ("cwd", None) => Magic::WorkingDirectory,
        ("exe", None) => Magic::Program,
        ("fd", Some(number)) => Magic::Descriptor(number.parse().ok()?),
        ("map_files" | "ns", Some(_)) => Magic::Other,
        _ => return None,
    };
    Some((process, magic)).filter(|_| names.next().is_none())
}

/// The number in `/dev/pts` of a process's controlling terminal, from its `stat` (`proc_pid_stat(5)`, field 7).
fn controlling_terminal(stat: &str) -> Option<u32> {
    // The name, in parentheses, may hold anything; the state is the first field after it.
    let (_, fields) = stat.rsplit_once(')')?;
    let device: i32 = fields.split_whitespace().nth(4)?.parse().ok()?;
    let device = u64::from(device.cast_unsigned());
    let (major, minor) = (libc::major(device), libc::minor(device));
    // Unix98 pseudo-terminals, 2^20 numbers: the kernel's `Documentation/admin-guide/devices.txt`.
    (136..=143)
        .contains(&major)
        .then(|| (major - 136) * 256 + minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_links_are_known() {
        for (path, expected) in [
            ("/proc/12/root", Some((12, Magic::Root))),
            ("/proc/12/task/13/cwd", Some((12, Magic::WorkingDirectory))),
            ("/proc/12/exe", Some((12, Magic::Program))),
            ("/proc/12/fd/7", Some((12, Magic::Descriptor(7)))),
            ("/proc/12/fd", None),
            ("/proc/12/ns/net", Some((12, Magic::Other))),
            ("/proc/12/map_files/1-2", Some((12, Magic::Other))),
            ("/proc/self/exe", None),
            ("/proc/12/status", None),
            ("/sys/12/exe", None),
        ] {
            assert_eq!(magic(path), expected, "{path}");
        }
    }
}
