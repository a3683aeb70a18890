//! `open(2)` and its relatives: the supervisor opens, and hands the descriptor over.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::owners::disk_mode;
use crate::sandbox::calls::Call;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::identity::Credentials;
use crate::sandbox::supervisor::names::permit;
use crate::sandbox::supervisor::paths::answers::later;
use crate::sandbox::supervisor::paths::change::drop_capabilities;
use crate::sandbox::supervisor::paths::permission::{READ, WRITE, may, reads_and_writes_all};
use crate::sandbox::supervisor::paths::trees::reopen;
use crate::sandbox::supervisor::paths::walk::{End, Found};
use crate::sandbox::supervisor::paths::{Server, mount_list, text_file};
use crate::sandbox::supervisor::procfs::{status_of, status_with};
use crate::sandbox::supervisor::{Reply, Result};

/// A file that came in between looking and making is looked at again, so often.
const TRIES: usize = 16;
/// The flags of `open(2)` that mean something here; others are ignored, as the kernel does.
const KNOWN: OFlags = OFlags::RWMODE
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOCTTY)
    .union(OFlags::TRUNC)
    .union(OFlags::APPEND)
    .union(OFlags::NONBLOCK)
    .union(OFlags::DSYNC)
    .union(OFlags::SYNC)
    .union(OFlags::DIRECT)
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOATIME)
    .union(OFlags::CLOEXEC)
    .union(OFlags::PATH)
    .union(OFlags::TMPFILE);

/// What a call asks for.
struct Wanted {
    flags: OFlags,
    mode: u32,
    directory: i32,
    path: CString,
}

impl Wanted {
    fn of(caller: &Caller<'_>) -> Result<Self> {
        let (directory, path) = caller.path()?;
        let (flags, mode) = match caller.call {
            Call::Creat => {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
                (flags.bits(), caller.word(1))
            }
            Call::Open => (caller.word(1), caller.word(2)),
            Call::Openat => (caller.word(2), caller.word(3)),
            _ => how(caller)?,
        };
        Ok(Self {
            flags: OFlags::from_bits_retain(flags) & KNOWN,
            mode,
            directory,
            path,
        })
    }

    fn has(&self, flags: OFlags) -> bool {
        self.flags.contains(flags)
    }

    fn writes(&self) -> bool {
        self.flags
            .intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC)
    }

    fn place(&self) -> (i32, &CStr) {
        (self.directory, &self.path)
    }

    /// How the permissions of a file must allow it.
    fn access(&self) -> u32 {
        let reads = !self.has(OFlags::WRONLY) || self.has(OFlags::RDWR);
        (if reads { READ } else { 0 }) | if self.writes() { WRITE } else { 0 }
    }
}

/// Flags and mode of `openat2(2)`. Limits on how a path resolves are kept where they change nothing here; a program that
/// asks for others finds that this kernel hasn't the call, and does without.
fn how(caller: &Caller<'_>) -> Result<(u32, u32)> {
    // RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS
    const HARMLESS: u64 = 1 | 2;
    let mut how = [0; 24];
    if caller.argument(3) < 24 {
        return Err(Errno::INVAL.into());
    }
    caller.bytes(caller.argument(2), &mut how)?;
    let (words, _) = how.as_chunks();
    let word = |index: usize| u64::from_ne_bytes(words[index]);
    if word(2) & !HARMLESS != 0 {
        return Err(Errno::NOSYS.into());
    }
    Ok((word(0) as u32, word(1) as u32))
}

impl Server {
    /// `open`, `openat`, `openat2`, `creat`.
    pub(super) fn open(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let wanted = Wanted::of(caller)?;
        let who = self.who();
        if wanted.has(OFlags::PATH) {
            return self.open_path(caller, &who, &wanted);
        }
        if wanted.has(OFlags::TMPFILE) {
            return self.open_nameless(caller, &who, &wanted);
        }
        if !wanted.has(OFlags::CREATE | OFlags::EXCL) {
            let follow = !wanted.has(OFlags::NOFOLLOW);
            match self.resolve(caller, &who, wanted.place(), follow) {
                Err(error) if error == Errno::NOENT.into() && wanted.has(OFlags::CREATE) => {}
                found => return self.open_found(caller, &who, &wanted, found?),
            }
        }
        for _ in 0..TRIES {
            let follow = !wanted.flags.intersects(OFlags::NOFOLLOW | OFlags::EXCL);
            match self.walk(caller, &who, wanted.place(), follow)? {
                End::Found(_) if wanted.has(OFlags::EXCL) => return Err(Errno::EXIST.into()),
                End::Found(found) => return self.open_found(caller, &who, &wanted, found),
                End::Missing(directory, tree, name) => {
                    match self.create(caller, &who, &wanted, (&directory, tree), &name) {
                        Err(error) if error == Errno::EXIST.into() && !wanted.has(OFlags::EXCL) => {
                        }
                        other => return other,
                    }
                }
            }
        }
        Err(Errno::EXIST.into())
    }

    /// Opens what was found.
    fn open_found(
        &mut self,
        caller: &Caller<'_>,
        who: &Credentials,
        wanted: &Wanted,
        found: Found,
    ) -> Result<Reply> {
        match found {
            Found::Kernel(object, path) => self.open_kernel(caller, wanted, &object, &path),
            Found::Open(object) => {
                let flags = wanted.flags | OFlags::NONBLOCK;
                hand_over(reopen(&object, flags)?, wanted.flags)
            }
            found => self.open_file(caller, who, wanted, &found),
        }
    }

    fn open_file(
        &mut self,
        caller: &Caller<'_>,
        who: &Credentials,
        wanted: &Wanted,
        found: &Found,
    ) -> Result<Reply> {
        // Looked at before it is opened: a pipe that is opened in passing wakes who waits at its other end.
        let object = self.object(found);
        let kind = rustix::fs::fstat(object)?.st_mode & libc::S_IFMT;
        let is_directory = kind == libc::S_IFDIR;
        if kind == libc::S_IFLNK {
            return Err(Errno::LOOP.into());
        }
        if wanted.has(OFlags::DIRECTORY) && !is_directory {
            return Err(Errno::NOTDIR.into());
        }
        if is_directory && (wanted.writes() || wanted.has(OFlags::CREATE)) {
            return Err(Errno::ISDIR.into());
        }
        self.check_open(who, wanted, found)?;
        if kind == libc::S_IFIFO && !wanted.has(OFlags::NONBLOCK) {
            let object = object.try_clone().map_err(|_| Errno::MFILE)?;
            return open_later(caller, object, wanted.flags);
        }
        let file = reopen(object, wanted.flags | OFlags::NONBLOCK)?;
        if wanted.writes() {
            drop_capabilities(&file);
        }
        hand_over(file, wanted.flags)
    }

    /// Fails where somebody may not open a file so.
    fn check_open(&self, who: &Credentials, wanted: &Wanted, found: &Found) -> Result<()> {
        if wanted.writes() {
            match found {
                Found::File(_, tree) => self.check_writable(*tree)?,
                _ => return Err(Errno::ROFS.into()),
            }
        }
        if reads_and_writes_all(who) {
            return Ok(());
        }
        match self.seen(found)? {
            Some((seen, _)) if may(who, &seen, wanted.access()) => Ok(()),
            _ => Err(Errno::ACCESS.into()),
        }
    }

    /// One of the kernel's files.
    fn open_kernel(
        &mut self,
        caller: &Caller<'_>,
        wanted: &Wanted,
        object: &OwnedFd,
        path: &[u8],
    ) -> Result<Reply> {
        if wanted.has(OFlags::CREATE | OFlags::EXCL) {
            return Err(Errno::EXIST.into());
        }
        let text = str::from_utf8(path).map_err(|_| Errno::NOENT)?;
        permit(text, wanted.writes(), |process| {
            self.is_ours(caller, process)
        })?;
        if rustix::fs::fstat(object)?.st_mode & libc::S_IFMT == libc::S_IFLNK {
            return Err(Errno::LOOP.into());
        }
        if let Some(list) = mount_list::text(&self.trees, text) {
            return hand_over(text_file(list.as_bytes())?, wanted.flags);
        }
        if text == "/dev/tty" {
            let terminal = self.own_terminal(caller)?;
            return hand_over(
                reopen(&terminal, wanted.flags | OFlags::NONBLOCK)?,
                wanted.flags,
            );
        }
        let file = reopen(object, wanted.flags | OFlags::NONBLOCK)?;
        caller.check()?;
        let read = |file| std::io::read_to_string(std::fs::File::from(file));
        if tells_paths(text) {
            let text = read(file).map_err(|_| Errno::IO)?;
            let text = self.trees.translate(text.as_bytes());
            return hand_over(text_file(&text)?, wanted.flags);
        }
        if let Some(process) = status_of(text).filter(|process| self.is_ours(caller, *process)) {
            let text = read(file).map_err(|_| Errno::IO)?;
            let credentials = self.keeper.processes.of(caller.proc, process);
            let text = status_with(&text, &credentials);
            return hand_over(text_file(text.as_bytes())?, wanted.flags);
        }
        if text == "/dev/ptmx" {
            // Terminals of others are nobody's business.
            let number = rustix::pty::ptsname(&file, Vec::new())?;
            let number = number.to_bytes().rsplit(|&byte| byte == b'/').next();
            let number = number.and_then(|number| str::from_utf8(number).ok()?.parse::<u32>().ok());
            self.terminals.extend(number);
        }
        hand_over(file, wanted.flags)
    }

    /// Makes a file that isn't there.
    fn create(
        &mut self,
        caller: &Caller<'_>,
        who: &Credentials,
        wanted: &Wanted,
        (directory, tree): (&OwnedFd, usize),
        name: &CStr,
    ) -> Result<Reply> {
        if wanted.has(OFlags::DIRECTORY) {
            return Err(Errno::INVAL.into());
        }
        self.check_directory(who, directory, tree)?;
        let record = self.new_record(caller, who, directory, (false, wanted.mode & 0o7777))?;
        let on_disk = Mode::from_raw_mode(disk_mode(false, record.meant));
        let unwanted = OFlags::NONBLOCK | OFlags::DIRECTORY;
        let flags = wanted.flags.difference(unwanted) | OFlags::CREATE | OFlags::EXCL;
        let file = openat(
            directory,
            name,
            flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            on_disk,
        )?;
        self.record_new(&file, &record)?;
        let cloexec = wanted.has(OFlags::CLOEXEC);
        if wanted.has(OFlags::NONBLOCK) {
            rustix::fs::fcntl_setfl(&file, wanted.flags & !OFlags::CLOEXEC)?;
        }
        Ok(Reply::File { file, cloexec })
    }

    /// A file without a name in a directory.
    fn open_nameless(
        &mut self,
        caller: &Caller<'_>,
        who: &Credentials,
        wanted: &Wanted,
    ) -> Result<Reply> {
        let Found::File(directory, tree) = self.resolve(caller, who, wanted.place(), true)? else {
            return Err(Errno::OPNOTSUPP.into());
        };
        self.check_directory(who, &directory, tree)?;
        let record = self.new_record(caller, who, &directory, (false, wanted.mode & 0o7777))?;
        let on_disk = Mode::from_raw_mode(disk_mode(false, record.meant));
        let flags = wanted.flags.difference(OFlags::NOFOLLOW | OFlags::CREATE) | OFlags::CLOEXEC;
        let file = openat(&directory, ".", flags, on_disk)?;
        self.record_new(&file, &record)?;
        let cloexec = wanted.has(OFlags::CLOEXEC);
        Ok(Reply::File { file, cloexec })
    }

    /// `O_PATH`: directories as they are for reading, other files by a stand-in.
    fn open_path(
        &mut self,
        caller: &Caller<'_>,
        who: &Credentials,
        wanted: &Wanted,
    ) -> Result<Reply> {
        let follow = !wanted.has(OFlags::NOFOLLOW);
        let found = self.resolve(caller, who, wanted.place(), follow)?;
        let kind = rustix::fs::fstat(self.object(&found))?.st_mode & libc::S_IFMT;
        if wanted.has(OFlags::DIRECTORY) && kind != libc::S_IFDIR {
            return Err(Errno::NOTDIR.into());
        }
        let file = match found {
            found if kind == libc::S_IFDIR => {
                reopen(self.object(&found), OFlags::RDONLY | OFlags::DIRECTORY)?
            }
            Found::File(object, tree) => self.stand_ins.make(object, tree)?,
            found => reopen(self.object(&found), OFlags::RDONLY | OFlags::NONBLOCK)?,
        };
        let cloexec = wanted.has(OFlags::CLOEXEC);
        Ok(Reply::File { file, cloexec })
    }
}

/// Whether a file of `/proc` tells the paths of files that a process uses.
fn tells_paths(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    path.starts_with("/proc/") && matches!(name, "maps" | "smaps" | "numa_maps")
}

/// An open file as an answer. It was opened as if nobody wanted to wait, and waits from now on if it is to.
fn hand_over(file: OwnedFd, flags: OFlags) -> Result<Reply> {
    if !flags.contains(OFlags::NONBLOCK) {
        let status = OFlags::APPEND | OFlags::DIRECT | OFlags::NOATIME;
        rustix::fs::fcntl_setfl(&file, flags & status)?;
    }
    let cloexec = flags.contains(OFlags::CLOEXEC);
    Ok(Reply::File { file, cloexec })
}

/// Opens a pipe, which may wait for who is at its other end, in a thread of its own.
fn open_later(caller: &Caller<'_>, object: OwnedFd, flags: OFlags) -> Result<Reply> {
    later(caller, move |answer| match reopen(&object, flags) {
        Ok(file) => answer.file(file.as_fd(), flags.contains(OFlags::CLOEXEC)),
        Err(error) => answer.fail(error),
    })
}
