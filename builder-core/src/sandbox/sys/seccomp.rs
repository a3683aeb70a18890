//! Filters of system calls, and the descriptor on which a supervisor answers them: `seccomp(2)`, `seccomp_unotify(2)`.

#![expect(
    unsafe_code,
    reason = "no safe wrapper covers seccomp(2) and the ioctls of its listener"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A system call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    /// Names it towards the kernel.
    pub id: u64,
    /// The thread that calls, as the supervisor's process namespace numbers it.
    pub pid: u32,
    /// Number of the call.
    pub nr: u32,
    /// `AUDIT_ARCH_…`: whose numbers these are.
    pub arch: u32,
    /// Its arguments, as they stand in the registers.
    pub args: [u64; 6],
    /// Where the caller is.
    pub instruction_pointer: u64,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The kernel executes it.
    Continue,
    /// It returns this.
    Value(i64),
    /// It fails with this error number, which is positive.
    Fail(i32),
}

/// Where notified calls arrive.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The descriptor.
    pub descriptor: OwnedFd,
    /// Whether a call that has been received can be interrupted by nothing but death (Linux 5.19).
    pub killable: bool,
    /// Whether `sendmsg` is among the calls that are notified.
    pub hears_of_sending: bool,
}

/// Installs a filter for this thread and all that comes of it; on request returns the listener of notified calls.
///
/// The caller has set `no_new_privs` or holds `CAP_SYS_ADMIN` in its user namespace.
pub(crate) fn install(
    program: &[libc::sock_filter],
    listener: bool,
) -> io::Result<Option<Listener>> {
    let length =
        u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    if !listener {
        set_filter(0, &program)?;
        return Ok(None);
    }
    let wanted = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let killable = wanted | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let (descriptor, killable) = match set_filter(killable, &program) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            (set_filter(wanted, &program)?, false)
        }
        other => (other?, true),
    };
    // SAFETY: with NEW_LISTENER the kernel returns a new descriptor, which nothing else knows of.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(Some(Listener {
        descriptor,
        killable,
        hears_of_sending: false,
    }))
}

fn set_filter(flags: libc::c_ulong, program: &libc::sock_fprog) -> io::Result<RawFd> {
    // SAFETY: `program` and the instructions it points to live through the call; the kernel copies and checks them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::from_ref(program),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// Whether this kernel's messages fit those that this program knows.
pub(crate) fn check_sizes() -> io::Result<()> {
    let mut sizes = libc::seccomp_notif_sizes {
        seccomp_notif: 0,
        seccomp_notif_resp: 0,
        seccomp_data: 0,
    };
    // SAFETY: the kernel writes one `seccomp_notif_sizes` through the pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_NOTIF_SIZES,
            0,
            std::ptr::from_mut(&mut sizes),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let known = size_of::<Message>();
    if usize::from(sizes.seccomp_notif) > known || usize::from(sizes.seccomp_notif_resp) > known {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    Ok(())
}

/// Room for a message of a later kernel: those may grow.
#[repr(C, align(8))]
struct Message([u8; 256]);

/// Takes the next call; `ENOENT` where its caller died in between.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    let mut message = Message([0; 256]);
    let pointer = std::ptr::from_mut(&mut message);
    // SAFETY: the buffer is zeroed as the kernel demands, aligned, and as large as `check_sizes` found enough.
    let result = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV as _,
            pointer,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the buffer is aligned, larger than the structure, and all bit patterns are valid for its integers.
    let notification = unsafe { pointer.cast::<libc::seccomp_notif>().read() };
    Ok(Notification {
        id: notification.id,
        pid: notification.pid,
        nr: notification.data.nr.cast_unsigned(),
        arch: notification.data.arch,
        args: notification.data.args,
        instruction_pointer: notification.data.instruction_pointer,
    })
}

/// Answers a call; `ENOENT` where its caller died in between.
pub(crate) fn respond(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> io::Result<()> {
    let (val, error, flags) = match answer {
        Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        Answer::Value(value) => (value, 0, 0),
        Answer::Fail(number) => (0, -number, 0),
    };
    let mut message = Message([0; 256]);
    let pointer = std::ptr::from_mut(&mut message);
    // SAFETY: the buffer is aligned and larger than the structure; the kernel reads it in the call.
    let result = unsafe {
        pointer
            .cast::<libc::seccomp_notif_resp>()
            .write(libc::seccomp_notif_resp {
                id,
                val,
                error,
                flags,
            });
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND as _,
            pointer,
        )
    };
    done(result)
}

/// Whether the caller still waits: only then does its process id mean the caller.
pub(crate) fn is_valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    let mut id = id;
    let pointer = std::ptr::from_mut(&mut id);
    // SAFETY: the kernel reads eight bytes through the pointer.
    let result = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _,
            pointer,
        )
    };
    result == 0
}

/// Gives the caller a descriptor and answers its call with the number: in one step, or before Linux 5.14 in two.
pub(crate) fn add_fd_and_send(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    cloexec: bool,
) -> io::Result<()> {
    let mut message = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: fd.as_raw_fd().cast_unsigned(),
        newfd: 0,
        newfd_flags: if cloexec {
            libc::O_CLOEXEC.cast_unsigned()
        } else {
            0
        },
    };
    let pointer = std::ptr::from_mut(&mut message);
    // SAFETY: the kernel reads one `seccomp_notif_addfd` through the pointer.
    let result = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ADDFD as _,
            pointer,
        )
    };
    // On success it is the caller's new descriptor.
    match done(result) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let number = add_fd(listener, id, fd, None, cloexec)?;
            respond(listener, id, Answer::Value(number.into()))
        }
        other => other,
    }
}

/// Gives the caller a descriptor, whose call still waits: a new number, or that of one that it replaces.
pub(crate) fn add_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    replaced: Option<i32>,
    cloexec: bool,
) -> io::Result<i32> {
    let mut message = libc::seccomp_notif_addfd {
        id,
        flags: replaced.map_or(0, |_| libc::SECCOMP_ADDFD_FLAG_SETFD as u32),
        srcfd: fd.as_raw_fd().cast_unsigned(),
        newfd: replaced.unwrap_or(0).cast_unsigned(),
        newfd_flags: if cloexec {
            libc::O_CLOEXEC.cast_unsigned()
        } else {
            0
        },
    };
    let pointer = std::ptr::from_mut(&mut message);
    // SAFETY: the kernel reads one `seccomp_notif_addfd` through the pointer.
    let result = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ADDFD as _,
            pointer,
        )
    };
    done(result).map(|()| result)
}

/// Lets caller and supervisor share a processor: about a fifth less time a call. Kernels before 6.6 can't.
pub(crate) fn sync_wake_up(listener: BorrowedFd<'_>) {
    // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
    let flag: libc::c_ulong = 1;
    // SAFETY: this ioctl takes its flags by value. Its failure leaves things as they were, only slower.
    let _ = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as _,
            flag,
        )
    };
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
