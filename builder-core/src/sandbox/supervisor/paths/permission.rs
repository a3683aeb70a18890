//! Permissions as the kernel would check them, by what is recorded: `path_resolution(7)`, `capabilities(7)`, `inode(7)`.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::owners::{OwnerRecord, SideTable};
use crate::sandbox::supervisor::identity::Credentials;
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::{Result, records};
use crate::sandbox::sys::memory;

/// `CAP_DAC_OVERRIDE`
const OVERRIDE: u64 = 1 << 1;
/// `CAP_DAC_READ_SEARCH`
const SEARCH: u64 = 1 << 2;
/// `CAP_FOWNER`
const OWNER: u64 = 1 << 3;
/// `CAP_FSETID`
pub(super) const SET_IDS: u64 = 1 << 4;

/// To read; bits as in a mode.
pub(super) const READ: u32 = 4;
/// To write.
pub(super) const WRITE: u32 = 2;
/// To execute, or to pass through a directory.
pub(super) const EXECUTE: u32 = 1;

/// A file of a tree as the RUN sees it.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// What the disk says.
    pub(super) stat: libc::stat,
    /// What is recorded.
    pub(super) record: OwnerRecord,
}

impl Seen {
    /// Looks at an open file.
    pub(super) fn of(table: &SideTable, object: &OwnedFd) -> rustix::io::Result<Self> {
        let stat = memory::stat(object.as_fd(), c"", libc::AT_EMPTY_PATH)?;
        let record = records::read_any(table, object, &stat).unwrap_or_default();
        Ok(Self { stat, record })
    }

    /// Its permission bits, set-user-ID and the like among them.
    pub(super) fn permissions(&self) -> u32 {
        self.record.mode.unwrap_or(self.stat.st_mode & 0o7777)
    }

    /// The kind of file on the disk: `S_IFREG` and the like.
    pub(super) fn kind(&self) -> u32 {
        self.stat.st_mode & libc::S_IFMT
    }

    /// Its whole mode as it is shown.
    pub(super) fn mode(&self) -> u32 {
        let kind = match self.record.device {
            Some(device) if device.block => libc::S_IFBLK,
            Some(_) => libc::S_IFCHR,
            None => self.kind(),
        };
        kind | self.permissions()
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }
}

/// Whether somebody passes every directory, so that nobody needs to look.
pub(super) fn passes_all(who: &Credentials) -> bool {
    who.can(OVERRIDE) || who.can(SEARCH)
}

/// Whether somebody reads and writes every file, whatever its permissions say.
pub(super) fn reads_and_writes_all(who: &Credentials) -> bool {
    who.can(OVERRIDE)
}

/// Whether somebody may use a file in this way.
pub(super) fn may(who: &Credentials, file: &Seen, wanted: u32) -> bool {
    let mode = file.permissions();
    let owns = who.user.file == file.record.uid;
    let bits = if owns {
        mode >> 6
    } else if who.in_group(file.record.gid) {
        mode >> 3
    } else {
        mode
    };
    if bits & wanted == wanted {
        return true;
    }
    let executable = file.is_directory() || mode & 0o111 != 0;
    who.can(OVERRIDE) && (wanted & EXECUTE == 0 || executable)
        || who.can(SEARCH) && (wanted == READ || file.is_directory() && wanted & WRITE == 0)
}

/// Whether somebody may change what belongs to a file's owner: its mode, its times.
pub(super) fn owns(who: &Credentials, file: &Seen) -> bool {
    who.user.file == file.record.uid || who.can(OWNER)
}

impl Server {
    /// Fails where somebody may not use a file in this way.
    pub(super) fn check(&self, who: &Credentials, object: &OwnedFd, wanted: u32) -> Result<()> {
        if passes_all(who) && wanted & !(READ | EXECUTE) == 0 && wanted != READ | EXECUTE {
            // A directory that is passed, a file that is read: no record is needed to know.
            if wanted == READ || rustix::fs::fstat(object)?.st_mode & libc::S_IFMT == libc::S_IFDIR
            {
                return Ok(());
            }
        }
        let seen = Seen::of(&self.keeper.table, object)?;
        if may(who, &seen, wanted) {
            Ok(())
        } else {
            Err(Errno::ACCESS.into())
        }
    }

    /// Fails where somebody may not make, rename or remove names in a directory.
    pub(super) fn check_directory(
        &self,
        who: &Credentials,
        directory: &OwnedFd,
        tree: usize,
    ) -> Result<()> {
        self.check_writable(tree)?;
        self.check(who, directory, WRITE | EXECUTE)
    }

    /// Fails in a tree that is read-only.
    pub(super) fn check_writable(&self, tree: usize) -> Result<()> {
        if self.trees.get(tree).is_read_only() {
            return Err(Errno::ROFS.into());
        }
        Ok(())
    }

    /// Fails where a sticky directory keeps somebody from taking a name away (`inode(7)`, `S_ISVTX`).
    pub(super) fn check_sticky(
        &self,
        who: &Credentials,
        directory: &OwnedFd,
        file: &OwnedFd,
    ) -> Result<()> {
        if who.can(OWNER) {
            return Ok(());
        }
        let above = Seen::of(&self.keeper.table, directory)?;
        if above.permissions() & libc::S_ISVTX == 0 || who.user.file == above.record.uid {
            return Ok(());
        }
        let file = Seen::of(&self.keeper.table, file)?;
        if who.user.file == file.record.uid {
            Ok(())
        } else {
            Err(Errno::PERM.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::supervisor::Identity;

    fn file(kind: u32, mode: u32, uid: u32, gid: u32) -> Seen {
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut stat = memory::stat(null.as_fd(), c"", libc::AT_EMPTY_PATH).unwrap();
        stat.st_mode = kind | 0o777;
        Seen {
            stat,
            record: OwnerRecord {
                mode: Some(mode),
                ..OwnerRecord::owner(uid, gid)
            },
        }
    }

    fn somebody(uid: u32) -> Credentials {
        Credentials::new(&Identity {
            uid,
            gid: 100,
            groups: vec![7],
        })
    }

    #[test]
    fn permissions_are_those_of_the_first_class_that_fits() {
        let (file_kind, directory) = (libc::S_IFREG, libc::S_IFDIR);
        for (who, kind, mode, uid, gid, wanted, expected) in [
            (5, file_kind, 0o640, 5, 9, READ | WRITE, true),
            (5, file_kind, 0o640, 5, 9, EXECUTE, false),
            // The owner's class counts, even where others have more.
            (5, file_kind, 0o077, 5, 100, READ, false),
            (5, file_kind, 0o640, 0, 100, READ, true),
            (5, file_kind, 0o640, 0, 7, READ, true),
            (5, file_kind, 0o640, 0, 7, WRITE, false),
            (5, file_kind, 0o604, 0, 8, READ, true),
            (5, directory, 0o711, 0, 0, EXECUTE, true),
            (5, directory, 0o711, 0, 0, WRITE | EXECUTE, false),
            (0, file_kind, 0o000, 5, 5, READ | WRITE, true),
            // Root executes what anybody may, and passes every directory.
            (0, file_kind, 0o644, 5, 5, EXECUTE, false),
            (0, file_kind, 0o001, 5, 5, EXECUTE, true),
            (0, directory, 0o000, 5, 5, WRITE | EXECUTE, true),
        ] {
            let seen = file(kind, mode, uid, gid);
            let found = may(&somebody(who), &seen, wanted);
            assert_eq!(found, expected, "{who} {mode:o} {uid}:{gid} {wanted}");
        }
    }

    #[test]
    fn what_belongs_to_an_owner_is_the_owners_or_roots() {
        let seen = file(libc::S_IFREG, 0o666, 5, 5);
        assert!(owns(&somebody(5), &seen) && owns(&somebody(0), &seen));
        assert!(!owns(&somebody(6), &seen));
    }
}
