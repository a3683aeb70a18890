//! Paths as the caller means them.
//!
//! First the kernel is asked, below the root or the directory that the path starts from. Where it stops, because there
//! is a stub, a link to it or `..` over the top, the path is walked name by name. Who may not pass every directory has
//! each path walked, and each directory's permissions looked at.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::sandbox::supervisor::Result;
use crate::sandbox::supervisor::caller::{Caller, LOOK};
use crate::sandbox::supervisor::identity::Credentials;
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::permission::passes_all;
use crate::sandbox::supervisor::paths::trees::{Place, key_of};
use crate::sandbox::supervisor::paths::walk::{End, Found};

impl Server {
    /// What a path leads to.
    pub(super) fn resolve(
        &self,
        caller: &Caller<'_>,
        who: &Credentials,
        (directory, path): (i32, &CStr),
        follow: bool,
    ) -> Result<Found> {
        if path.is_empty() {
            return Err(Errno::NOENT.into());
        }
        if passes_all(who)
            && let Some((object, tree)) = self.ask_kernel(caller, who, (directory, path), follow)?
        {
            return Ok(Found::File(object, tree));
        }
        match self.walk(caller, who, (directory, path), follow)? {
            End::Found(found) => Ok(found),
            End::Missing(..) => Err(Errno::NOENT.into()),
        }
    }

    /// What the kernel finds by one call without leaving the tree that a path starts in; none where the path must be
    /// walked.
    fn ask_kernel(
        &self,
        caller: &Caller<'_>,
        who: &Credentials,
        (directory, path): (i32, &CStr),
        follow: bool,
    ) -> Result<Option<(OwnedFd, usize)>> {
        let bytes = path.to_bytes();
        let (start, tree);
        let own = self.roots.directory(who.root);
        let (from, resolve) = if let Some((root, own)) = own.filter(|_| bytes.starts_with(b"/")) {
            tree = own;
            (root.as_fd(), ResolveFlags::IN_ROOT)
        } else if bytes.starts_with(b"/") {
            let mounted = [b"/proc".as_slice(), b"/dev", b"/sys"];
            if mounted.iter().any(|top| bytes.starts_with(top)) {
                return Ok(None);
            }
            tree = 0;
            (self.trees.root(), ResolveFlags::IN_ROOT)
        } else {
            start = caller.opened(directory)?;
            tree = match self.trees.place_of(&start)? {
                Place::Tree(tree, _) => tree,
                _ => return Ok(None),
            };
            (start.as_fd(), ResolveFlags::BENEATH)
        };
        let nofollow = if follow {
            OFlags::empty()
        } else {
            OFlags::NOFOLLOW
        };
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        let object = match open_again(from, path, LOOK | nofollow, resolve) {
            // A stub, a link that leads out of this tree, `..` over its top.
            Err(Errno::ACCESS | Errno::NOTDIR | Errno::XDEV | Errno::LOOP) => return Ok(None),
            other => other?,
        };
        let is_stub = self.trees.behind(key_of(&object)?).is_some();
        Ok((!is_stub).then_some((object, tree)))
    }

    /// The directory of a path's last name, and the name: for what is to be made or taken away. A slash at its end
    /// stays.
    pub(super) fn parent(
        &self,
        caller: &Caller<'_>,
        who: &Credentials,
        (directory, path): (i32, &CStr),
    ) -> Result<(OwnedFd, usize, CString)> {
        let bytes = path.to_bytes();
        if bytes.is_empty() {
            return Err(Errno::NOENT.into());
        }
        let end = bytes.iter().rposition(|&byte| byte != b'/');
        let end = end.map_or(0, |at| at + 1);
        let start = bytes[..end].iter().rposition(|&byte| byte == b'/');
        let start = start.map_or(0, |at| at + 1);
        let name = if end == 0 { b"." } else { &bytes[start..] };
        let above = match (&bytes[..start], end) {
            (_, 0) => b"/".as_slice(),
            (b"", _) => b".",
            (above, _) => above,
        };
        let c_string = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::INVAL);
        match self.resolve(caller, who, (directory, &c_string(above)?), true)? {
            Found::File(object, tree) => Ok((object, tree, c_string(name)?)),
            // Nothing is made among the kernel's files.
            Found::Kernel(..) => Err(Errno::ACCESS.into()),
            Found::Open(_) | Found::Memory(_) => Err(Errno::NOTDIR.into()),
        }
    }
}

/// `openat2(2)`, again where something was renamed somewhere on the machine while `..` was resolved.
fn open_again(
    from: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    loop {
        match openat2(from, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}
