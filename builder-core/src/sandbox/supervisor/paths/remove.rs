//! Calls that take names away: `unlink(2)`, `rmdir(2)`, `rename(2)`. What is mounted stays where it is.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, openat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::{Caller, LOOK};
use crate::sandbox::supervisor::identity::Credentials;
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::make::without_slashes;
use crate::sandbox::supervisor::paths::permission::passes_all;
use crate::sandbox::supervisor::{Reply, Result};

impl Server {
    /// `unlink`, `rmdir`, `unlinkat`.
    pub(super) fn unlink(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let flags = match caller.call {
            Call::Unlinkat if caller.descriptor(2) & !libc::AT_REMOVEDIR != 0 => {
                return Err(Errno::INVAL.into());
            }
            Call::Unlinkat if caller.descriptor(2) != 0 => AtFlags::REMOVEDIR,
            Call::Rmdir => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        let who = self.who();
        let (start, path) = caller.path()?;
        let (directory, tree, name) = self.parent(caller, &who, (start, &path))?;
        self.check_name(&who, (&directory, tree), &name)?;
        unlinkat(&directory, &name, flags)?;
        Ok(Reply::Value(0))
    }

    /// Fails where somebody may not take a name from a directory; `EBUSY` where something is mounted there.
    fn check_name(
        &self,
        who: &Credentials,
        (directory, tree): (&OwnedFd, usize),
        name: &CStr,
    ) -> Result<()> {
        let plain = without_slashes(name);
        let found = statat(directory, &plain, AtFlags::SYMLINK_NOFOLLOW)?;
        if self.trees.behind((found.st_dev, found.st_ino)).is_some() {
            return Err(Errno::BUSY.into());
        }
        self.check_directory(who, directory, tree)?;
        if passes_all(who) {
            return Ok(());
        }
        let object = openat(directory, &plain, LOOK | OFlags::NOFOLLOW, Mode::empty())?;
        self.check_sticky(who, directory, &object)
    }

    /// `rename`, `renameat`, `renameat2`.
    pub(super) fn rename(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let (from, to) = match caller.call {
            Call::Rename => ((None, 0), (None, 1)),
            _ => ((Some(0), 1), (Some(2), 3)),
        };
        let flags = match caller.call {
            Call::Renameat2 => RenameFlags::from_bits_retain(caller.word(4)),
            _ => RenameFlags::empty(),
        };
        if flags.contains(RenameFlags::WHITEOUT) {
            // It makes a device, which the host's user may not.
            return Err(Errno::PERM.into());
        }
        let who = self.who();
        let (start, path) = caller.path_at(from.0, from.1)?;
        let (old, old_tree, old_name) = self.parent(caller, &who, (start, &path))?;
        let (start, path) = caller.path_at(to.0, to.1)?;
        let (new, new_tree, new_name) = self.parent(caller, &who, (start, &path))?;
        self.check_name(&who, (&old, old_tree), &old_name)?;
        match self.check_name(&who, (&new, new_tree), &new_name) {
            Err(error) if error == Errno::NOENT.into() => {
                self.check_directory(&who, &new, new_tree)?;
            }
            other => other?,
        }
        if old_tree != new_tree {
            return Err(Errno::XDEV.into());
        }
        renameat_with(&old, &old_name, &new, &new_name, flags)?;
        Ok(Reply::Value(0))
    }
}
