//! The way of a supervisor's descriptor from the command's process, which installed the filter, to the supervisor.
//!
//! Usually as a message with a descriptor (`unix(7)`, `SCM_RIGHTS`). Where the filter notifies sending, that call would
//! wait for the supervisor which is to be made: then the number is written, and the supervisor takes the descriptor out
//! of the process by `pidfd_getfd(2)`. (That call is not to be had in a default container, whose engine needs no notice
//! of sending.)

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::rights;
use super::sys::seccomp::Listener;

/// A descriptor comes with the message.
const HERE: u8 = b'L';
/// It is to be taken from the process.
const TAKE: u8 = b'T';
/// There is none.
const NONE: u8 = b'N';

/// A kind, whether calls that were received are killable, and the number of the descriptor.
type Message = [u8; 6];

fn message(kind: u8, killable: bool, number: i32) -> Message {
    let [a, b, c, d] = number.to_le_bytes();
    [kind, u8::from(killable), a, b, c, d]
}

/// Says that there is no supervisor.
pub(super) fn send_none(socket: &OwnedFd) -> std::io::Result<()> {
    rustix::io::write(socket, &message(NONE, false, 0))?;
    Ok(())
}

/// Hands a listener over, and closes it in this process.
pub(super) fn send(socket: &OwnedFd, listener: Option<Listener>) -> std::io::Result<()> {
    let Some(listener) = listener else {
        return send_none(socket);
    };
    if listener.hears_of_sending {
        let number = listener.descriptor.as_raw_fd();
        rustix::io::write(socket, &message(TAKE, listener.killable, number))?;
        // It must be open until it has been taken.
        let mut answer = [0];
        while rustix::io::read(socket, &mut answer) == Err(rustix::io::Errno::INTR) {}
        return Ok(());
    }
    let message = message(HERE, listener.killable, 0);
    rights::send(socket, &message, Some(listener.descriptor.as_fd()))?;
    Ok(())
}

/// Takes what [`send`] handed over; `process` is the sender.
pub(super) fn receive(socket: BorrowedFd<'_>, process: Pid) -> std::io::Result<Option<Listener>> {
    let mut message: Message = [0; 6];
    let (_, sent) = rights::receive(socket, &mut message)?;
    let [kind, killable, number @ ..] = message;
    let listener = |descriptor, hears_of_sending| Listener {
        descriptor,
        killable: killable != 0,
        hears_of_sending,
    };
    match kind {
        NONE => Ok(None),
        HERE => Ok(sent.map(|descriptor| listener(descriptor, false))),
        TAKE => {
            let process = pidfd_open(process, PidfdFlags::empty())?;
            let number = i32::from_le_bytes(number);
            let taken = pidfd_getfd(process, number, PidfdGetfdFlags::empty())?;
            rustix::io::write(socket, b"T")?;
            Ok(Some(listener(taken, true)))
        }
        // The child ended without a word.
        _ => Err(std::io::Error::from_raw_os_error(libc::EPROTO)),
    }
}
