//! Who is at the other end of a local socket (`SO_PEERCRED`, unix(7)). The supervisor makes every connection, so the
//! kernel would name it; who asked for it is remembered, by the inode of the socket.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::trees::key_of;
use crate::sandbox::supervisor::{Reply, Result};

/// More connections than any RUN has at once.
const MOST: usize = 4096;
/// The size of `struct ucred`.
const SIZE: usize = 12;

/// A process towards its peers: process, user and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    process: u32,
    user: u32,
    group: u32,
}

impl Peer {
    fn to_bytes(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let words = [self.process, self.user, self.group];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// Who made which socket, by inode number.
#[derive(Default)]
pub(super) struct Peers {
    /// Sockets that were connected, and who has them.
    owners: HashMap<u64, Peer>,
    /// Sockets that were connected, and who listens at their other end.
    servers: HashMap<u64, Peer>,
    /// Files of listening sockets, and who listens.
    listeners: HashMap<(u64, u64), Peer>,
}

impl Peers {
    /// Somebody listens at a file.
    pub(super) fn listens(&mut self, file: (u64, u64), peer: Peer) {
        forget(&mut self.listeners);
        self.listeners.insert(file, peer);
    }

    /// Somebody has connected a socket, to the file of a listener.
    pub(super) fn connected(&mut self, socket: &OwnedFd, owner: Peer, file: Option<(u64, u64)>) {
        let Ok((_, inode)) = key_of(socket) else {
            return;
        };
        forget(&mut self.owners);
        forget(&mut self.servers);
        self.owners.insert(inode, owner);
        if let Some(server) = file.and_then(|file| self.listeners.get(&file)) {
            self.servers.insert(inode, *server);
        }
    }

    /// Who is at the other end of a socket.
    fn of(&self, inode: u64) -> Option<Peer> {
        if let Some(server) = self.servers.get(&inode) {
            return Some(*server);
        }
        self.owners.get(&other_end(inode).ok()??).copied()
    }
}

fn forget<K, V>(known: &mut HashMap<K, V>) {
    if known.len() >= MOST {
        known.clear();
    }
}

impl Server {
    /// The caller towards its peers.
    pub(super) fn as_peer(&self, caller: &Caller<'_>) -> Result<Peer> {
        let who = self.who();
        Ok(Peer {
            process: caller.status()?.group,
            user: who.user.effective,
            group: who.group.effective,
        })
    }

    /// `getsockopt` of `SO_PEERCRED`. Of a pair that the caller made itself, both ends are its own.
    pub(super) fn peer(&self, caller: &Caller<'_>) -> Result<Reply> {
        if caller.descriptor(1) != libc::SOL_SOCKET {
            return Ok(Reply::Continue);
        }
        let object = caller.opened(caller.descriptor(0))?;
        let found = rustix::fs::fstat(&object)?;
        if found.st_mode & libc::S_IFMT != libc::S_IFSOCK {
            return Err(Errno::NOTSOCK.into());
        }
        let peer = match self.peers.of(found.st_ino) {
            Some(peer) => peer,
            None => self.as_peer(caller)?,
        };
        let mut length = [0; 4];
        caller.bytes(caller.argument(4), &mut length)?;
        let length = usize::try_from(u32::from_ne_bytes(length))
            .unwrap_or(0)
            .min(SIZE);
        caller.write(caller.argument(3), &peer.to_bytes()[..length])?;
        let length = u32::try_from(length).map_err(|_| Errno::INVAL)?;
        caller.write(caller.argument(4), &length.to_ne_bytes())?;
        Ok(Reply::Value(0))
    }
}

/// The inode number of a local socket's other end (`sock_diag(7)`); none where the kernel doesn't tell.
fn other_end(inode: u64) -> rustix::io::Result<Option<u64>> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const REQUEST: u16 = 1;
    const SHOW_PEER: u32 = 4;
    let inode = u32::try_from(inode).map_err(|_| Errno::INVAL)?;
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    // A header of 16 bytes, and `struct unix_diag_req` of 24.
    let mut message = Vec::new();
    message.extend(40_u32.to_ne_bytes());
    message.extend([SOCK_DIAG_BY_FAMILY.to_ne_bytes(), REQUEST.to_ne_bytes()].concat());
    message.extend([0; 8]);
    message.extend([1, 0, 0, 0]);
    // All states; the inode; what is asked; no cookie.
    for word in [u32::MAX, inode, SHOW_PEER, u32::MAX, u32::MAX] {
        message.extend(word.to_ne_bytes());
    }
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 1024];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    Ok(peer_in(&answer[..length]))
}

/// The peer's inode number in an answer: a header of 16 bytes, `struct unix_diag_msg` of 16, attributes.
fn peer_in(answer: &[u8]) -> Option<u64> {
    const PEER: u16 = 2;
    let mut rest = answer.get(32..)?;
    while rest.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        let value = rest.get(4..length)?;
        if kind == PEER {
            let number = <[u8; 4]>::try_from(value).ok()?;
            return Some(u32::from_ne_bytes(number).into());
        }
        rest = rest.get(length.next_multiple_of(4).max(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_other_end_is_found() {
        let (one, other) = UnixStream::pair().unwrap();
        let inode = |socket: &UnixStream| rustix::fs::fstat(socket).unwrap().st_ino;
        match other_end(inode(&one)) {
            Ok(found) => assert_eq!(found, Some(inode(&other))),
            // A kernel without the module.
            Err(error) => assert!(matches!(
                error,
                Errno::NOENT | Errno::AGAIN | Errno::AFNOSUPPORT
            )),
        }
    }

    #[test]
    fn answers_are_read_to_their_end() {
        let attribute = |kind: u16, value: &[u8]| {
            let length = (4 + value.len()) as u16;
            let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let head = vec![0; 32];
        let whole = [
            head.clone(),
            attribute(0, b"name!"),
            attribute(2, &7_u32.to_ne_bytes()),
        ];
        assert_eq!(peer_in(&whole.concat()), Some(7));
        assert_eq!(peer_in(&head), None);
        assert_eq!(peer_in(&[head, vec![0, 0, 9, 9]].concat()), None);
    }
}
