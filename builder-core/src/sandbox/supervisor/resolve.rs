//! Paths as the caller sees them: `path_resolution(7)` with the caller's root, working directory, descriptors and
//! entries in `/proc`.
//!
//! The supervisor is a process of the RUN's namespace with more rights than the command has. So no link of `/proc` that
//! leads to where a process has something open (a magic link, `proc_pid_fd(5)`) is followed with those rights, but the
//! caller's own. All others, and every file of `/proc`, are left to the kernel, which knows who asks.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, readlinkat};
use rustix::io::Errno;

use crate::sandbox::supervisor::caller::{Caller, LOOK};
use crate::sandbox::supervisor::{NoAnswer, Result};

/// More links on one way are a loop (`path_resolution(7)`).
const LINKS: usize = 40;

impl Caller<'_> {
    /// The object of a path, opened to be looked at.
    ///
    /// # Errors
    /// What the kernel would say, or [`NoAnswer::LeftToKernel`].
    pub(super) fn object(&self, directory: i32, path: &CStr, follow: bool) -> Result<OwnedFd> {
        if path.is_empty() {
            return Err(Errno::NOENT.into());
        }
        let flags = if follow {
            LOOK
        } else {
            LOOK | OFlags::NOFOLLOW
        };
        let object = if self.chrooted && self.has_own_root()? {
            self.open_below_root(directory, path, flags)
        } else {
            self.open(directory, path, flags)
        }?;
        self.check()?;
        if fstat(&object)?.st_dev == self.proc_device {
            return Err(NoAnswer::LeftToKernel);
        }
        Ok(object)
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

    /// Resolves a path from the root that caller and supervisor share.
    fn open(&self, directory: i32, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
        let absolute = path.to_bytes().starts_with(b"/");
        let start = if absolute {
            openat(rustix::fs::CWD, c"/", LOOK, Mode::empty())?
        } else {
            self.opened(directory)?
        };
        if !(absolute && leads_to_caller(path.to_bytes())) {
            match openat2(
                &start,
                path,
                flags,
                Mode::empty(),
                ResolveFlags::NO_MAGICLINKS,
            ) {
                // A magic link, or a loop, which the walk tells apart.
                Err(Errno::LOOP) => {}
                other => return Ok(other?),
            }
        }
        Walk::new(self, start, path.to_bytes()).finish(!flags.contains(OFlags::NOFOLLOW))
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
                _ => return self.open(directory, path, flags),
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
        loop {
            match openat2(&root, &below, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
                // Something was renamed somewhere on the machine while `..` was resolved (openat2(2)).
                Err(Errno::AGAIN) => {}
                // A magic link.
                Err(Errno::XDEV | Errno::LOOP) => return Err(NoAnswer::LeftToKernel),
                other => return Ok(other?),
            }
        }
    }
}

/// A path that is resolved name by name.
struct Walk<'a, 'c> {
    caller: &'a Caller<'c>,
    here: OwnedFd,
    /// The names that are left, the next one last.
    names: Vec<Vec<u8>>,
    links: usize,
}

/// What a link leads to.
enum Target {
    /// A path that the walk goes on with.
    Path(Vec<u8>),
    /// The object itself.
    Object(OwnedFd),
}

impl<'a, 'c> Walk<'a, 'c> {
    fn new(caller: &'a Caller<'c>, start: OwnedFd, path: &[u8]) -> Self {
        let mut walk = Self {
            caller,
            here: start,
            names: Vec::new(),
            links: 0,
        };
        walk.push(path);
        walk
    }

    fn push(&mut self, path: &[u8]) {
        // What ends with a slash is a directory, as if a dot followed.
        let end = path.ends_with(b"/").then(|| b".".to_vec());
        let names = path.split(|&byte| byte == b'/');
        let names = names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
        let all: Vec<Vec<u8>> = names.chain(end).collect();
        self.names.extend(all.into_iter().rev());
    }

    fn finish(mut self, follow: bool) -> Result<OwnedFd> {
        while let Some(name) = self.names.pop() {
            let next = openat(
                &self.here,
                name.as_slice(),
                LOOK | OFlags::NOFOLLOW,
                Mode::empty(),
            )?;
            let found = fstat(&next)?;
            let last = self.names.is_empty();
            if found.st_mode & libc::S_IFMT != libc::S_IFLNK || last && !follow {
                self.here = next;
                continue;
            }
            self.links += 1;
            if self.links > LINKS {
                return Err(Errno::LOOP.into());
            }
            match self.target(&name, &next, &found)? {
                Target::Object(object) => self.here = object,
                Target::Path(path) => {
                    if path.starts_with(b"/") {
                        self.here = openat(rustix::fs::CWD, c"/", LOOK, Mode::empty())?;
                    }
                    self.push(&path);
                }
            }
        }
        Ok(self.here)
    }

    /// Where a link leads that has this name here.
    fn target(&self, name: &[u8], link: &OwnedFd, found: &Stat) -> Result<Target> {
        let text = || readlinkat(link, c"", Vec::new()).map(|text| Target::Path(text.into_bytes()));
        if found.st_dev != self.caller.proc_device {
            return Ok(text()?);
        }
        let proc = self.caller.proc;
        let here = fstat(&self.here)?;
        if same(&here, &fstat(proc)?) {
            let process = self.caller.status()?.group;
            return match name {
                // They mean who asks, and that is not this process.
                b"self" => Ok(Target::Path(process.to_string().into_bytes())),
                b"thread-self" => {
                    let path = format!("{process}/task/{}", self.caller.pid());
                    Ok(Target::Path(path.into_bytes()))
                }
                _ => Ok(text()?),
            };
        }
        let process = self.caller.status()?.group;
        let thread = format!("{process}/task/{}", self.caller.pid());
        let own = [
            process.to_string(),
            format!("{process}/fd"),
            format!("{thread}/fd"),
            thread,
        ];
        let is_own = own.iter().any(|path| {
            let found = rustix::fs::statat(proc, path.as_str(), AtFlags::empty());
            found.is_ok_and(|found| same(&found, &here))
        });
        if !is_own {
            return Err(NoAnswer::LeftToKernel);
        }
        Ok(Target::Object(openat(
            &self.here,
            name,
            LOOK,
            Mode::empty(),
        )?))
    }
}

fn same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
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

/// Whether a path goes through names that mean whoever asks, so that this process would see its own.
fn leads_to_caller(path: &[u8]) -> bool {
    [
        b"/proc/self".as_slice(),
        b"/proc/thread-self",
        b"/dev/fd",
        b"/dev/std",
    ]
    .iter()
    .any(|start| path.starts_with(start))
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
}
