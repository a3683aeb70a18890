//! Paths that are walked name by name, over what is mounted: `path_resolution(7)` from the RUN's root, by the caller's own
//! entries in `/proc`.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

use crate::sandbox::supervisor::caller::{Caller, LOOK};
use crate::sandbox::supervisor::identity::Credentials;
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::kernel_files::Step;
use crate::sandbox::supervisor::paths::permission::EXECUTE;
use crate::sandbox::supervisor::paths::trees::{Kind, Place, key_of};
use crate::sandbox::supervisor::{NoAnswer, Result};

/// More links on one way are a loop.
const LINKS: usize = 40;

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Found {
    /// A file of a tree, open to be looked at, and the tree.
    File(OwnedFd, usize),
    /// One of the kernel's, by the path that the RUN and the host have in common.
    Kernel(OwnedFd, Vec<u8>),
    /// Something else that a process has open: a pipe, a socket, a file without a name.
    Open(OwnedFd),
    /// A file in memory: its tree.
    Memory(usize),
}

/// Where a way ends.
#[derive(Debug)]
pub(super) enum End {
    /// At something that is there.
    Found(Found),
    /// At a name that nothing has, in a directory of a tree.
    Missing(OwnedFd, usize, CString),
}

/// Where a walk is.
#[derive(Debug)]
pub(super) enum Here {
    /// At a file of a tree.
    Tree(OwnedFd, usize),
    /// At a clean path of `/proc` or `/sys`.
    Kernel(Vec<u8>),
    /// At something that has no names in it.
    Leaf(Found),
}

impl Server {
    /// Walks a path name by name.
    pub(super) fn walk(
        &self,
        caller: &Caller<'_>,
        who: &Credentials,
        (directory, path): (i32, &CStr),
        follow: bool,
    ) -> Result<End> {
        if path.is_empty() {
            return Err(Errno::NOENT.into());
        }
        let bytes = path.to_bytes();
        let here = if bytes.starts_with(b"/") {
            self.top(who)?
        } else {
            let start = caller.opened(directory)?;
            self.here(start)?
        };
        let mut walk = Walk {
            server: self,
            caller,
            who,
            here,
            names: Vec::new(),
            links: 0,
        };
        walk.push(bytes);
        walk.finish(follow)
    }

    /// Where something that a process has open is, proven by the kernel's word for its place.
    pub(super) fn here(&self, object: OwnedFd) -> Result<Here> {
        Ok(match self.trees.place_of(&object)? {
            Place::Tree(tree, _) => Here::Tree(object, tree),
            Place::Kernel(path) => Here::Kernel(path),
            Place::Elsewhere => match self.stand_ins.behind(key_of(&object)?) {
                Some(Found::File(object, tree)) => Here::Tree(object, tree),
                Some(found) => Here::Leaf(found),
                None => Here::Leaf(Found::Open(object)),
            },
        })
    }
}

/// A path that is walked.
struct Walk<'a, 'c> {
    server: &'a Server,
    caller: &'a Caller<'c>,
    who: &'a Credentials,
    here: Here,
    /// The names that are left, the next one last.
    names: Vec<Vec<u8>>,
    links: usize,
}

impl Walk<'_, '_> {
    fn push(&mut self, path: &[u8]) {
        // What ends with a slash is a directory, as if a dot followed.
        let end = path.ends_with(b"/").then(|| b".".to_vec());
        let names = path.split(|&byte| byte == b'/');
        let names = names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
        let all: Vec<Vec<u8>> = names.chain(end).collect();
        self.names.extend(all.into_iter().rev());
    }

    fn finish(mut self, follow: bool) -> Result<End> {
        while let Some(name) = self.names.pop() {
            let here = std::mem::replace(&mut self.here, Here::Kernel(Vec::new()));
            self.here = match here {
                Here::Tree(object, tree) => match self.in_tree(object, tree, &name, follow) {
                    Ok(Ok(next)) => next,
                    Ok(Err(missing)) => return Ok(missing),
                    Err(error) => return Err(error),
                },
                Here::Kernel(path) => self.in_kernel(path, &name, follow)?,
                Here::Leaf(_) => return Err(Errno::NOTDIR.into()),
            };
        }
        self.server.end(self.caller, self.here).map(End::Found)
    }

    /// Goes to a name in a directory of a tree; the end where nothing has the last name.
    fn in_tree(
        &mut self,
        object: OwnedFd,
        tree: usize,
        name: &[u8],
        follow: bool,
    ) -> Result<std::result::Result<Here, End>> {
        let server = self.server;
        let found = rustix::fs::fstat(&object)?;
        if found.st_mode & libc::S_IFMT != libc::S_IFDIR {
            return Err(Errno::NOTDIR.into());
        }
        server.check(self.who, &object, EXECUTE)?;
        if name == b"." {
            return Ok(Ok(Here::Tree(object, tree)));
        }
        if name == b".."
            && server
                .roots
                .is_top(self.who.root, (found.st_dev, found.st_ino))
        {
            return Ok(Ok(Here::Tree(object, tree)));
        }
        if name == b".." {
            return Ok(Ok(server.above(
                object,
                tree,
                (found.st_dev, found.st_ino),
            )?));
        }
        if let Kind::Terminals(_) = server.trees.get(tree).kind {
            return server.terminal(name).map(|leaf| Ok(Here::Leaf(leaf)));
        }
        let next = match openat(&object, name, LOOK | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT) if self.names.is_empty() => {
                let name = CString::new(name).map_err(|_| Errno::INVAL)?;
                return Ok(Err(End::Missing(object, tree, name)));
            }
            other => other?,
        };
        let found = rustix::fs::fstat(&next)?;
        if let Some(tree) = server.trees.behind((found.st_dev, found.st_ino)) {
            return Ok(Ok(server.enter(tree)?));
        }
        let is_link = found.st_mode & libc::S_IFMT == libc::S_IFLNK;
        if !is_link || self.names.is_empty() && !follow {
            return Ok(Ok(Here::Tree(next, tree)));
        }
        let target = readlinkat(&next, c"", Vec::new())?.into_bytes();
        self.follow(Here::Tree(object, tree), &target).map(Ok)
    }

    /// Goes on with a link's text.
    fn follow(&mut self, from: Here, target: &[u8]) -> Result<Here> {
        self.links += 1;
        if self.links > LINKS {
            return Err(Errno::LOOP.into());
        }
        self.push(target);
        if target.starts_with(b"/") {
            return self.server.top(self.who);
        }
        Ok(from)
    }

    /// Goes to a name below `/proc` or `/sys`.
    fn in_kernel(&mut self, path: Vec<u8>, name: &[u8], follow: bool) -> Result<Here> {
        let server = self.server;
        match name {
            b"." => return Ok(Here::Kernel(path)),
            b".." => {
                let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                return match end {
                    // Both lie in the root.
                    0 => server.top(self.who),
                    end => Ok(Here::Kernel(path[..end].to_vec())),
                };
            }
            _ => {}
        }
        let follow = follow || !self.names.is_empty();
        let next = [&path, b"/".as_slice(), name].concat();
        match server.kernel_step(self.caller, next, follow)? {
            Step::Stay(next) => Ok(Here::Kernel(next)),
            Step::Link(target) => self.follow(Here::Kernel(path), &target),
            Step::Here(here) => Ok(here),
        }
    }
}

impl Server {
    /// What a mount shows.
    fn enter(&self, tree: usize) -> Result<Here> {
        let one = self.trees.get(tree);
        let top = || {
            one.top
                .try_clone()
                .map_err(|_| NoAnswer::from(Errno::MFILE))
        };
        Ok(match &one.kind {
            Kind::Files { .. } | Kind::Terminals(_) => Here::Tree(top()?, tree),
            Kind::Proc => Here::Kernel(b"/proc".to_vec()),
            Kind::Sys => Here::Kernel(b"/sys".to_vec()),
            Kind::Device(host) => {
                let path = std::os::unix::ffi::OsStrExt::as_bytes(host.as_os_str());
                Here::Leaf(Found::Kernel(top()?, path.to_vec()))
            }
            Kind::Memory(_) => Here::Leaf(Found::Memory(tree)),
        })
    }

    /// The directory above another one.
    fn above(&self, object: OwnedFd, tree: usize, key: (u64, u64)) -> Result<Here> {
        let one = self.trees.get(tree);
        if key != one.top_key {
            return Ok(Here::Tree(
                openat(&object, "..", LOOK, Mode::empty())?,
                tree,
            ));
        }
        match &one.above {
            None => Ok(Here::Tree(object, tree)),
            Some((above, tree)) => Ok(Here::Tree(
                above.try_clone().map_err(|_| Errno::MFILE)?,
                *tree,
            )),
        }
    }

    /// What a walk ends at.
    fn end(&self, caller: &Caller<'_>, here: Here) -> Result<Found> {
        match here {
            Here::Tree(object, tree) => Ok(Found::File(object, tree)),
            Here::Leaf(found) => Ok(found),
            Here::Kernel(path) => self.kernel_file(caller, path),
        }
    }
}
