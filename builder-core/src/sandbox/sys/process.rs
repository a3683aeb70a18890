//! Processes: fork, execve, signals, namespaces.
#![expect(
    unsafe_code,
    reason = "fork and execve have no safe wrapper: what is sound after them depends on the caller"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forked {
    /// The new process.
    Child,
    /// The old one, with the id of the new one.
    Parent(Pid),
}

/// Makes a copy of this process. It must have one thread: in a copy of a process with several, locks that the others
/// held stay locked.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: the helper process has one thread, so that the child may do anything.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(Pid::from_raw(pid).map_or(Forked::Child, Forked::Parent)),
    }
}

/// Ends this process at once, without destructors or buffers.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: _exit doesn't return and touches no memory of ours.
    unsafe { libc::_exit(status) }
}

/// Replaces the program of this process. Returns only where that failed.
pub(crate) fn execve(path: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        let ends = std::iter::once(std::ptr::null());
        strings.iter().map(|one| one.as_ptr()).chain(ends).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end with a null pointer, and the strings that they point to outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Moves this process into new namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: namespaces alone are unshared, no file descriptor table, and the process has one thread.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Signals as a descriptor: they are blocked, and read from it.
pub(crate) fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is read, and lives longer than the calls.
    let raw = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: signalfd just gave this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Gives every signal its default disposition and blocks none: a shell started with SIGINT ignored would keep it so.
pub(crate) fn reset_signals() {
    // SAFETY: SIG_DFL is a valid disposition for all signals, and the set is initialised before use. The calls that
    // the kernel refuses (SIGKILL, SIGSTOP) change nothing.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Sends a signal to every process that this one may signal, itself excepted: in a process namespace of one's own.
pub(crate) fn kill_everyone() {
    // SAFETY: a system call without memory. It is called by the first process of a namespace alone.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Closes all descriptors from `first` on: who started this process may have left some open that nobody else should
/// have. To be called before anything is opened.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: a system call without memory. Nothing in this process owns a descriptor from `first` on yet.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Tries to become user and group 1 and root again; for a process that has nothing else to do.
pub(crate) fn try_other_user() -> io::Result<()> {
    let one = rustix::fs::Uid::from_raw(1);
    let one_group = rustix::fs::Gid::from_raw(1);
    let (root, root_group) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    rustix::thread::set_thread_res_gid(one_group, one_group, root_group)?;
    rustix::thread::set_thread_res_uid(one, one, root)?;
    rustix::thread::set_thread_res_uid(root, root, root)?;
    Ok(rustix::thread::set_thread_res_gid(
        root_group, root_group, root_group,
    )?)
}
