//! Roots that processes of the RUN have taken with `chroot(2)`: played, as their paths are. Nothing is changed in the
//! kernel: a process's root is a number among its credentials, which its children inherit, and a directory here.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::identity::{Credentials, SYS_CHROOT};
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::permission::EXECUTE;
use crate::sandbox::supervisor::paths::trees::{Key, Place, key_of};
use crate::sandbox::supervisor::paths::walk::{Found, Here};
use crate::sandbox::supervisor::{Reply, Result};

/// So many are kept: each holds a descriptor for as long as the RUN goes on.
const MOST: usize = 1024;

/// A directory that is some process's root.
struct Root {
    object: OwnedFd,
    tree: usize,
    key: Key,
}

/// All of them; the RUN's own has no entry, and the number 0.
#[derive(Default)]
pub(super) struct Roots(Vec<Root>);

impl Roots {
    /// The root with a number; none for the RUN's own.
    fn get(&self, number: usize) -> Option<&Root> {
        number.checked_sub(1).and_then(|at| self.0.get(at))
    }

    /// The number of a directory.
    fn number(&mut self, object: OwnedFd, tree: usize) -> rustix::io::Result<usize> {
        let key = key_of(&object)?;
        if let Some(at) = self.0.iter().position(|root| root.key == key) {
            return Ok(at + 1);
        }
        if self.0.len() == MOST {
            return Err(Errno::NOMEM);
        }
        self.0.push(Root { object, tree, key });
        Ok(self.0.len())
    }

    /// Whether a directory is the root with this number, above which nothing is.
    pub(super) fn is_top(&self, number: usize, key: Key) -> bool {
        self.get(number).is_some_and(|root| root.key == key)
    }

    /// The directory with a number, and its tree; none for the RUN's own.
    pub(super) fn directory(&self, number: usize) -> Option<(&OwnedFd, usize)> {
        self.get(number).map(|root| (&root.object, root.tree))
    }
}

impl Server {
    /// Where a path begins that begins with a slash.
    pub(super) fn top(&self, who: &Credentials) -> Result<Here> {
        let (object, tree) = match self.roots.directory(who.root) {
            Some((object, tree)) => (object.try_clone(), tree),
            None => (self.trees.root().try_clone_to_owned(), 0),
        };
        Ok(Here::Tree(object.map_err(|_| Errno::MFILE)?, tree))
    }

    /// `chroot`
    pub(super) fn change_root(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let who = self.who();
        let found = self.target(caller, 0, 0)?;
        let Found::File(object, tree) = found else {
            return Err(Errno::NOTDIR.into());
        };
        if rustix::fs::fstat(&object)?.st_mode & libc::S_IFMT != libc::S_IFDIR {
            return Err(Errno::NOTDIR.into());
        }
        self.check(&who, &object, EXECUTE)?;
        if !who.can(SYS_CHROOT) {
            return Err(Errno::PERM.into());
        }
        let own = key_of(&object)? == key_of(self.trees.root())?;
        let root = if own {
            0
        } else {
            self.roots.number(object, tree)?
        };
        let processes = &mut self.keeper.processes;
        processes.change(caller.proc, caller.pid(), who.in_root(root));
        Ok(Reply::Value(0))
    }

    /// A path as the caller knows it: below its own root. One that lies elsewhere is marked as the kernel marks it
    /// (`getcwd(2)`).
    pub(super) fn below_own_root(&self, path: Vec<u8>) -> Result<Vec<u8>> {
        let who = self.who();
        let Some((object, _)) = self.roots.directory(who.root) else {
            return Ok(path);
        };
        let Place::Tree(tree, below) = self.trees.place_of(object)? else {
            return Err(Errno::NOENT.into());
        };
        let root = self.trees.visible(tree, &below);
        Ok(match path.strip_prefix(&root[..]) {
            Some(b"") => b"/".to_vec(),
            Some(rest) if rest.starts_with(b"/") => rest.to_vec(),
            _ => [b"(unreachable)", &path[..]].concat(),
        })
    }
}
