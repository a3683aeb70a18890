//! Local sockets (`unix(7)`): their names are paths, which nobody but the supervisor resolves.
//!
//! The kernel resolves a name in `connect(2)`, `bind(2)`, and where a datagram is sent to one. No call that it executes
//! for the RUN may do so, whatever a second thread does with descriptors and addresses meanwhile. So no local socket of
//! the RUN's can be connected by the kernel: each is one half of a connected pair when the RUN gets it. When it asks for
//! a connection or a name, the supervisor makes a socket that has it, and puts that in the place of the descriptor; one
//! with a name listens from the beginning. And none is a datagram socket: who asks for one gets one that keeps the
//! bounds of messages as well (`SOCK_SEQPACKET`), whose sends take no name.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen,
    shutdown, socket_with, socketpair,
};

use crate::sandbox::supervisor::caller::{Caller, LOOK, own_path};
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::answers::later;
use crate::sandbox::supervisor::paths::make::without_slashes;
use crate::sandbox::supervisor::paths::permission::{WRITE, may};
use crate::sandbox::supervisor::paths::signals::field;
use crate::sandbox::supervisor::paths::trees::{Key, key_of};
use crate::sandbox::supervisor::paths::unix_names::{Name, given};
use crate::sandbox::supervisor::procfs::read_small;
use crate::sandbox::supervisor::{Reply, Result};
use crate::sandbox::sys::seccomp;

/// At so many sockets those that nobody has any more are looked for.
const ROOM: usize = 64;
/// So many connections wait to be accepted until the program says how many.
const BACKLOG: i32 = 128;

/// A socket that the RUN has and that is connected to nothing but the supervisor.
struct Half {
    /// The other half, which tells when the RUN's is closed.
    other: OwnedFd,
    kind: SocketType,
}

/// What is known of the RUN's local sockets.
#[derive(Default)]
pub(super) struct Sockets {
    halves: HashMap<Key, Half>,
    /// Names without a file that the RUN has given.
    names: BTreeSet<Vec<u8>>,
}

impl Sockets {
    fn keep(&mut self, key: Key, half: Half) {
        if self.halves.len() >= ROOM && self.halves.len().is_power_of_two() {
            self.halves.retain(|_, half| !is_alone(&half.other));
        }
        self.halves.insert(key, half);
    }
}

/// Whether the other half of a pair is closed everywhere.
fn is_alone(half: &OwnedFd) -> bool {
    let mut descriptors = [PollFd::new(half, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let seen = poll(&mut descriptors, Some(&now));
    seen.is_ok() && descriptors[0].revents().contains(PollFlags::HUP)
}

/// What a `socket(2)` asks for: its type, and flags.
fn asked(word: u32) -> rustix::io::Result<(SocketType, SocketFlags)> {
    let flags = SocketFlags::from_bits_truncate(word);
    match word & 0xf {
        1 => Ok((SocketType::STREAM, flags)),
        // SOCK_RAW is a datagram socket too.
        2 | 3 | 5 => Ok((SocketType::SEQPACKET, flags)),
        _ => Err(Errno::SOCKTNOSUPPORT),
    }
}

impl Server {
    /// `socket` of the local family.
    pub(super) fn socket(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let (kind, flags) = asked(caller.word(1))?;
        let cloexec = flags.contains(SocketFlags::CLOEXEC);
        let flags = flags | SocketFlags::CLOEXEC;
        let (theirs, other) = socketpair(AddressFamily::UNIX, kind, flags, None)?;
        // What is sent before there is a connection fails; it is not kept for nobody to read.
        shutdown(&other, Shutdown::Read)?;
        self.sockets.keep(key_of(&theirs)?, Half { other, kind });
        Ok(Reply::File {
            file: theirs,
            cloexec,
        })
    }

    /// The half of a pair that a descriptor of the caller's is.
    fn half(&self, caller: &Caller<'_>) -> Result<Option<(Key, SocketType)>> {
        let key = key_of(caller.opened(caller.descriptor(0))?)?;
        Ok(self.sockets.halves.get(&key).map(|half| (key, half.kind)))
    }

    /// `connect`. Sockets of other families, and local ones that are connected or listen, are the kernel's to refuse or
    /// connect: it can resolve no path for them.
    pub(super) fn connect(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let Some((key, kind)) = self.half(caller)? else {
            return Ok(Reply::Continue);
        };
        let address = match given(caller, 1)? {
            None => return Err(Errno::INVAL.into()),
            Some(Name::Abstract(name)) if self.sockets.names.contains(&name) => {
                SocketAddrUnix::new_abstract_name(&name)?
            }
            Some(Name::Abstract(_)) => return Err(Errno::CONNREFUSED.into()),
            Some(Name::Path(path)) => {
                let who = self.who();
                let found = self.resolve(caller, &who, (libc::AT_FDCWD, &path), true)?;
                let Some((seen, _)) = self.seen(&found)? else {
                    return Err(Errno::CONNREFUSED.into());
                };
                if seen.kind() != libc::S_IFSOCK {
                    return Err(Errno::CONNREFUSED.into());
                }
                if !may(&who, &seen, WRITE) {
                    return Err(Errno::ACCESS.into());
                }
                let object = self.object(&found).try_clone().map_err(|_| Errno::MFILE)?;
                return self.connect_to(caller, (key, kind), Some(object), None);
            }
        };
        self.connect_to(caller, (key, kind), None, Some(address))
    }

    /// Connects a new socket, which takes the place of the caller's. A server that has many waiting makes others wait:
    /// in a thread.
    fn connect_to(
        &mut self,
        caller: &Caller<'_>,
        (key, kind): (Key, SocketType),
        object: Option<OwnedFd>,
        address: Option<SocketAddrUnix>,
    ) -> Result<Reply> {
        let address = match (&object, address) {
            // By the descriptor: no name is resolved again.
            (Some(object), _) => SocketAddrUnix::new(own_path(object).as_c_str())?,
            (None, Some(address)) => address,
            (None, None) => return Err(Errno::INVAL.into()),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let new = socket_with(AddressFamily::UNIX, kind, flags, None)?;
        let file = object.as_ref().map(key_of).transpose()?;
        let own = self.as_peer(caller)?;
        self.peers.connected(&new, own, file);
        let (status, cloexec) = descriptor_flags(caller)?;
        let number = caller.descriptor(0);
        match connect(&new, &address) {
            Ok(()) => {}
            Err(Errno::AGAIN) if !status.contains(OFlags::NONBLOCK) => {
                rustix::fs::fcntl_setfl(&new, OFlags::empty())?;
                self.sockets.halves.remove(&key);
                return later(caller, move |answer| {
                    let _kept = object;
                    match connect(&new, &address) {
                        Ok(()) => answer.replace(new.as_fd(), number, cloexec),
                        Err(error) => answer.fail(error),
                    }
                });
            }
            Err(error) => return Err(error.into()),
        }
        rustix::fs::fcntl_setfl(&new, status & OFlags::NONBLOCK)?;
        replace(caller, &new, cloexec)?;
        self.sockets.halves.remove(&key);
        Ok(Reply::Value(0))
    }

    /// `bind`: as for `connect`.
    pub(super) fn bind(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let Some((key, kind)) = self.half(caller)? else {
            return Ok(Reply::Continue);
        };
        let new = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        match given(caller, 1)? {
            None => return Err(Errno::INVAL.into()),
            Some(Name::Abstract(name)) => {
                bind(&new, &SocketAddrUnix::new_abstract_name(&name)?)?;
                self.sockets.names.insert(name);
            }
            Some(Name::Path(path)) => self.bind_path(caller, &new, &path)?,
        }
        listen(&new, BACKLOG)?;
        let (status, cloexec) = descriptor_flags(caller)?;
        rustix::fs::fcntl_setfl(&new, status & OFlags::NONBLOCK)?;
        replace(caller, &new, cloexec)?;
        self.sockets.halves.remove(&key);
        Ok(Reply::Value(0))
    }

    fn bind_path(
        &mut self,
        caller: &Caller<'_>,
        new: &OwnedFd,
        path: &std::ffi::CStr,
    ) -> Result<()> {
        let who = self.who();
        let (directory, tree, name) = self.parent(caller, &who, (libc::AT_FDCWD, path))?;
        let name = without_slashes(&name);
        self.check_directory(&who, &directory, tree)?;
        let record = self.new_record(caller, &who, &directory, (false, 0o777))?;
        // From inside the directory: the name is short enough, and no other is resolved. This thread alone has a working
        // directory that means something.
        rustix::process::fchdir(&directory)?;
        let bound = SocketAddrUnix::new(name.as_c_str()).and_then(|name| bind(new, &name));
        rustix::process::chdir("/")?;
        match bound {
            Err(Errno::EXIST) => return Err(Errno::ADDRINUSE.into()),
            other => other?,
        }
        let object = openat(&directory, &name, LOOK | OFlags::NOFOLLOW, Mode::empty())?;
        let on_disk = Mode::from_raw_mode(crate::owners::disk_mode(false, record.meant));
        rustix::fs::chmod(own_path(&object), on_disk)?;
        let own = self.as_peer(caller)?;
        self.peers.listens(key_of(&object)?, own);
        self.record_new(&object, &record)
    }
}

/// The status flags of the caller's descriptor, and whether it is closed when another program is started.
fn descriptor_flags(caller: &Caller<'_>) -> Result<(OFlags, bool)> {
    let info = format!("{}/fdinfo/{}", caller.pid(), caller.descriptor(0));
    let text = read_small(caller.proc, &info).map_err(|_| Errno::BADF)?;
    caller.check()?;
    let flags = field(&text, "flags:").and_then(|flags| u32::from_str_radix(flags, 8).ok());
    let flags = OFlags::from_bits_retain(flags.unwrap_or(0));
    Ok((flags, flags.contains(OFlags::CLOEXEC)))
}

/// Puts a socket in the place of the caller's.
fn replace(caller: &Caller<'_>, new: &OwnedFd, cloexec: bool) -> Result<()> {
    let (id, number) = (caller.notification.id, caller.descriptor(0));
    let done = seccomp::add_fd(caller.listener, id, new.as_fd(), Some(number), cloexec);
    done.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(())
}

/// `socketpair` of datagram sockets.
pub(super) fn socket_pair(caller: &Caller<'_>) -> Result<Reply> {
    if caller.descriptor(0) != libc::AF_UNIX {
        return Err(Errno::OPNOTSUPP.into());
    }
    let (kind, flags) = asked(caller.word(1))?;
    let cloexec = flags.contains(SocketFlags::CLOEXEC);
    let flags = flags | SocketFlags::CLOEXEC;
    let (one, other) = socketpair(AddressFamily::UNIX, kind, flags, None)?;
    let mut numbers = Vec::new();
    for end in [&one, &other] {
        let id = caller.notification.id;
        let number = seccomp::add_fd(caller.listener, id, end.as_fd(), None, cloexec);
        let number = number.map_err(|_| Errno::MFILE)?;
        numbers.extend(number.to_ne_bytes());
    }
    caller.write(caller.argument(3), &numbers)?;
    Ok(Reply::Value(0))
}
