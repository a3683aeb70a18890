//! Calls that make files: those of a user other than root, or in a directory that passes its group on, are made here
//! with their record; all others by the kernel.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, mkdirat, mknodat, openat, readlinkat, symlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open, umask};

use crate::owners::{Device, OwnerRecord};
use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::identity::MKNOD;
use crate::sandbox::supervisor::owners::Keeper;
use crate::sandbox::supervisor::procfs::Status;
use crate::sandbox::supervisor::{Reply, Result, records};
use crate::sandbox::sys::memory;

/// Makes a file, and fails where anything has the name.
const MAKE: OFlags = OFlags::CREATE
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::WRONLY)
    .union(OFlags::CLOEXEC);
/// More symbolic links in a row than anything leads through.
const LINKS: usize = 8;

/// Where a file is made, for whom.
struct Place {
    directory: OwnedFd,
    name: CString,
    owner: OwnerRecord,
    caller: Status,
}

impl Place {
    /// A mode without what the caller's umask takes off.
    fn mode(&self, mode: u32, allowed: u32) -> Mode {
        Mode::from_raw_mode(mode & allowed & !self.caller.umask)
    }
}

impl Keeper {
    /// The place of a new file with a record; none where the kernel may make it, and fail if need be.
    fn place(&mut self, caller: &Caller<'_>, start: i32, path: &CStr) -> Option<Place> {
        if self.native {
            return None;
        }
        let (directory, name) = caller.parent(start, path).ok()?;
        let owner = self.new_owner(caller, &directory);
        if owner.is_plain() {
            return None;
        }
        let caller = caller.status().ok()?;
        Some(Place {
            directory,
            name,
            owner,
            caller,
        })
    }

    /// Who owns what the caller makes in a directory.
    fn new_owner(&mut self, caller: &Caller<'_>, directory: &OwnedFd) -> OwnerRecord {
        let credentials = self.processes.of(caller.proc, caller.pid());
        let mut owner = OwnerRecord::owner(credentials.user.file, credentials.group.file);
        if let Ok(stat) = records::look(directory)
            && stat.st_mode & libc::S_ISGID != 0
        {
            owner.gid = records::read(&self.table, directory, &stat)
                .unwrap_or_default()
                .gid;
        }
        owner
    }

    /// Records the owner of what was made.
    fn own(&mut self, place: &Place) -> Result<()> {
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let object = openat(&place.directory, &place.name, look, Mode::empty())?;
        let stat = records::look(&object)?;
        Ok(records::write(
            &mut self.table,
            &object,
            stat.st_mode,
            place.owner,
        )?)
    }

    /// `open`, `openat`, `openat2`, `creat`.
    ///
    /// A file of `O_TMPFILE` gets no record: it belongs to root if it is linked later.
    pub(super) fn open(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let Some((flags, mode)) = open_arguments(caller)? else {
            return Ok(Reply::Continue);
        };
        // Of these the kernel makes no file, or one without a name.
        let others = OFlags::PATH | OFlags::DIRECTORY | OFlags::TMPFILE;
        if !flags.contains(OFlags::CREATE) || flags.intersects(others) {
            return Ok(Reply::Continue);
        }
        let (start, path) = caller.path()?;
        if path.to_bytes().ends_with(b"/") {
            return Ok(Reply::Continue);
        }
        let Some(place) = self.place(caller, start, &path) else {
            return Ok(Reply::Continue);
        };
        let mode = place.mode(mode, 0o7777);
        if flags.contains(OFlags::EXCL) {
            let file = openat(&place.directory, &place.name, flags | OFlags::CLOEXEC, mode)?;
            self.own(&place)?;
            let cloexec = flags.contains(OFlags::CLOEXEC);
            return Ok(Reply::File { file, cloexec });
        }
        self.make_absent(caller, start, path, place, mode)?;
        Ok(Reply::Continue)
    }

    /// Makes a file that isn't there yet; the kernel opens it. Only ever made, never opened: what is there already may
    /// be a pipe, which would block.
    fn make_absent(
        &mut self,
        caller: &Caller<'_>,
        start: i32,
        mut path: CString,
        mut place: Place,
        mode: Mode,
    ) -> Result<()> {
        for _ in 0..LINKS {
            match openat(&place.directory, &place.name, MAKE, mode) {
                Ok(_) => return self.own(&place),
                // A symbolic link may lead to what isn't there.
                Err(Errno::EXIST) => {}
                Err(_) => return Ok(()),
            }
            let Ok(target) = readlinkat(&place.directory, &place.name, Vec::new()) else {
                return Ok(());
            };
            path = beside(&path, &target)?;
            place = match self.place(caller, start, &path) {
                Some(place) => place,
                None => return Ok(()),
            };
        }
        Ok(())
    }

    /// `mkdir`, `mkdirat`.
    pub(super) fn make_directory(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let mode = caller.word(if caller.call == Call::Mkdirat { 2 } else { 1 });
        let (start, path) = caller.path()?;
        let Some(place) = self.place(caller, start, &path) else {
            return Ok(Reply::Continue);
        };
        mkdirat(&place.directory, &place.name, place.mode(mode, 0o1777))?;
        self.own(&place)?;
        Ok(Reply::Value(0))
    }

    /// `symlink`, `symlinkat`.
    pub(super) fn make_link(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let (start, path) = caller.path()?;
        let Some(place) = self.place(caller, start, &path) else {
            return Ok(Reply::Continue);
        };
        let target = caller.string(caller.argument(0))?;
        symlinkat(&target, &place.directory, &place.name)?;
        self.own(&place)?;
        Ok(Reply::Value(0))
    }

    /// `mknod`, `mknodat`: a device is an empty file with a record.
    pub(super) fn make_node(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let first = if caller.call == Call::Mknodat { 2 } else { 1 };
        let (mode, number) = (caller.word(first), u64::from(caller.word(first + 1)));
        let (start, path) = caller.path()?;
        let kind = match mode & libc::S_IFMT {
            libc::S_IFCHR => {
                return self.make_device(caller, (start, &path), mode, device(false, number));
            }
            libc::S_IFBLK => {
                return self.make_device(caller, (start, &path), mode, device(true, number));
            }
            libc::S_IFIFO => FileType::Fifo,
            libc::S_IFSOCK => FileType::Socket,
            0 | libc::S_IFREG => FileType::RegularFile,
            _ => return Ok(Reply::Continue),
        };
        let Some(place) = self.place(caller, start, &path) else {
            return Ok(Reply::Continue);
        };
        mknodat(
            &place.directory,
            &place.name,
            kind,
            place.mode(mode, 0o7777),
            0,
        )?;
        self.own(&place)?;
        Ok(Reply::Value(0))
    }

    fn make_device(
        &mut self,
        caller: &Caller<'_>,
        path: (i32, &CStr),
        mode: u32,
        device: Device,
    ) -> Result<Reply> {
        let status = caller.status()?;
        let may = if self.native {
            status.capabilities & MKNOD != 0
        } else {
            self.processes.of(caller.proc, caller.pid()).can(MKNOD)
        };
        // A character device 0:0 marks a deleted file in an overlay.
        if !may || !device.block && device.major == 0 && device.minor == 0 {
            return Err(Errno::PERM.into());
        }
        let (directory, name) = caller.parent(path.0, path.1)?;
        let owner = if self.native {
            OwnerRecord::default()
        } else {
            self.new_owner(caller, &directory)
        };
        let place = Place {
            directory,
            name,
            owner: OwnerRecord {
                device: Some(device),
                ..owner
            },
            caller: status,
        };
        let make =
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(
            &place.directory,
            &place.name,
            make,
            place.mode(mode, 0o7777),
        )?;
        self.own(&place)?;
        Ok(Reply::Value(0))
    }

    /// `bind` of a local socket to a path: done with the caller's socket, from the caller's working directory, so that
    /// the address stays the one given.
    pub(super) fn bind(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let Some(address) = local_address(caller)? else {
            return Ok(Reply::Continue);
        };
        let path: Vec<u8> = address[2..]
            .iter()
            .copied()
            .take_while(|&byte| byte != 0)
            .collect();
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        // In a root of its own, the address means another place than here.
        if caller.has_own_root()? {
            return Ok(Reply::Continue);
        }
        let Some(place) = self.place(caller, libc::AT_FDCWD, &path) else {
            return Ok(Reply::Continue);
        };
        let Some(socket) = borrow(&place, caller.descriptor(0)) else {
            return Ok(Reply::Continue);
        };
        caller.check()?;
        if !path.to_bytes().starts_with(b"/") {
            rustix::process::fchdir(caller.opened(libc::AT_FDCWD)?)?;
        }
        umask(Mode::from_raw_mode(place.caller.umask));
        let bound = memory::bind(&socket, &address);
        umask(Mode::empty());
        // Nothing may keep the caller's directory busy.
        rustix::process::chdir("/")?;
        bound?;
        self.own(&place)?;
        Ok(Reply::Value(0))
    }
}

/// The path that a symbolic link at a path leads to.
fn beside(path: &CStr, target: &CStr) -> rustix::io::Result<CString> {
    let (path, target) = (path.to_bytes(), target.to_bytes());
    let end = path
        .iter()
        .rposition(|&byte| byte == b'/')
        .map_or(0, |at| at + 1);
    let start = if target.starts_with(b"/") {
        &[]
    } else {
        &path[..end]
    };
    CString::new([start, target].concat()).map_err(|_| Errno::INVAL)
}

/// A descriptor of the caller's process.
fn borrow(place: &Place, descriptor: i32) -> Option<OwnedFd> {
    let process = Pid::from_raw(place.caller.group.cast_signed())?;
    let process = pidfd_open(process, PidfdFlags::empty()).ok()?;
    pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty()).ok()
}

/// The flags and mode that an open asks for; none where the kernel shall look after it.
fn open_arguments(caller: &Caller<'_>) -> Result<Option<(OFlags, u32)>> {
    let flags = |word: u32| OFlags::from_bits_retain(word);
    Ok(match caller.call {
        Call::Creat => Some((
            OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC,
            caller.word(1),
        )),
        Call::Open => Some((flags(caller.word(1)), caller.word(2))),
        Call::Openat => Some((flags(caller.word(2)), caller.word(3))),
        _ => {
            let mut how = [0; 24];
            caller.bytes(caller.argument(2), &mut how)?;
            let (words, _) = how.as_chunks();
            let word = |index: usize| u64::from_ne_bytes(words[index]);
            // Limits on how a path resolves are the kernel's to keep.
            (word(2) == 0).then(|| (flags(word(0) as u32), word(1) as u32))
        }
    })
}

/// The address of a local socket that has a path.
fn local_address(caller: &Caller<'_>) -> Result<Option<Vec<u8>>> {
    // The length of `sockaddr_un`.
    let length = caller.word(2) as usize;
    if !(3..=110).contains(&length) {
        return Ok(None);
    }
    let mut address = vec![0; length];
    caller.bytes(caller.argument(1), &mut address)?;
    let local = u16::from_ne_bytes([address[0], address[1]]) == libc::AF_UNIX as u16;
    Ok((local && address[2] != 0).then_some(address))
}

/// A device by its number, as the kernel's interface encodes it.
fn device(block: bool, number: u64) -> Device {
    Device {
        block,
        major: libc::major(number),
        minor: libc::minor(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_on_from_where_they_are() {
        for (path, target, expected) in [
            (c"a/b", c"c", c"a/c"),
            (c"b", c"../c", c"../c"),
            (c"/b", c"c", c"/c"),
            (c"a/b", c"/c", c"/c"),
        ] {
            assert_eq!(beside(path, target).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn devices_are_read_from_their_number() {
        let expected = Device {
            block: true,
            major: 8,
            minor: 300,
        };
        assert_eq!(device(true, libc::makedev(8, 300)), expected);
    }
}
