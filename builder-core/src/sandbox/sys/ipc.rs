//! System V objects and POSIX message queues: `sysvipc(7)`, `mq_overview(7)`.

#![expect(unsafe_code, reason = "no safe wrapper covers these calls")]

use std::ffi::CStr;
use std::os::fd::{FromRawFd as _, OwnedFd};

use rustix::io::Errno;

/// The three kinds of System V objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Shared memory.
    Memory,
    /// Sets of semaphores.
    Semaphores,
    /// Message queues.
    Messages,
}

/// Makes an object without a key; its id. `size` is one of bytes, or a number of semaphores; message queues have none.
pub(crate) fn make(kind: Kind, size: u64, mode: i32) -> rustix::io::Result<i32> {
    let flags = mode | libc::IPC_CREAT;
    let size = usize::try_from(size).map_err(|_| Errno::INVAL)?;
    // SAFETY: numbers alone are handed over.
    let id = unsafe {
        match kind {
            Kind::Memory => libc::shmget(libc::IPC_PRIVATE, size, flags),
            Kind::Semaphores => {
                let count = i32::try_from(size).map_err(|_| Errno::INVAL)?;
                libc::semget(libc::IPC_PRIVATE, count, flags)
            }
            Kind::Messages => libc::msgget(libc::IPC_PRIVATE, flags),
        }
    };
    if id < 0 { Err(last()) } else { Ok(id) }
}

/// Removes an object; memory goes when the last process has let it go.
pub(crate) fn remove(kind: Kind, id: i32) {
    // SAFETY: the removal reads no further argument.
    let _ = unsafe {
        match kind {
            Kind::Memory => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            Kind::Semaphores => libc::semctl(id, 0, libc::IPC_RMID),
            Kind::Messages => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
        }
    };
}

/// Opens a message queue by its name, which begins with a slash; `limits` are its largest number and size of messages.
pub(crate) fn open_queue(
    name: &CStr,
    flags: i32,
    mode: u32,
    limits: Option<(i64, i64)>,
) -> rustix::io::Result<OwnedFd> {
    // SAFETY: a structure of numbers, for which zeros are a value.
    let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
    let attributes = limits.map(|(count, size)| {
        (attributes.mq_maxmsg, attributes.mq_msgsize) = (count, size);
        attributes
    });
    let place = attributes
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the name ends with a NUL, and the attributes live as long as the call.
    let queue = unsafe { libc::mq_open(name.as_ptr(), flags | libc::O_CLOEXEC, mode, place) };
    if queue < 0 {
        return Err(last());
    }
    // SAFETY: it was opened just now, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(queue) })
}

/// Removes the name of a message queue.
pub(crate) fn unlink_queue(name: &CStr) -> rustix::io::Result<()> {
    // SAFETY: the name ends with a NUL.
    if unsafe { libc::mq_unlink(name.as_ptr()) } < 0 {
        return Err(last());
    }
    Ok(())
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
