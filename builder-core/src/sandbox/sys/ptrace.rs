//! Another process as its tracer sees it: `ptrace(2)`, by `PTRACE_SEIZE` alone, which stops nobody by itself.
#![expect(unsafe_code, reason = "ptrace(2) has no safe wrapper")]

use std::io;

use rustix::io::{Errno, Result};

/// What a tracee is followed into: its children and its threads; told too is when it starts another program. Where
/// this process ends, tracees end with it.
const OPTIONS: libc::c_int = libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_EXITKILL;

/// What `waitpid(2)` says of a child or a tracee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It ended with this status.
    Exited(i32),
    /// It was ended by this signal.
    Killed(i32),
    /// A tracee stands still.
    Stopped(Stop),
}

/// Why a tracee stands still (`ptrace(2)`, "Stopped states").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// This signal is about to be delivered.
    Signal(i32),
    /// Its process was stopped as by `SIGSTOP`, and waits for `SIGCONT`.
    Group,
    /// It has started another program.
    Exec,
    /// It has made a child or a thread, is a new one, or was asked to stop.
    Other,
}

/// The next thing that happened to a child or a tracee, threads included; none where nothing did.
///
/// # Errors
/// `ECHILD` where there is neither child nor tracee.
pub(crate) fn wait(block: bool) -> Result<Option<(u32, Wait)>> {
    let flags = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    let mut status = 0;
    // SAFETY: the kernel writes one integer through the pointer.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
    match u32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid) => Ok(Some((pid, read_status(status)))),
        Err(_) => Err(last_error()),
    }
}

/// The next thing that happens to one child or tracee, which is waited for.
pub(crate) fn wait_for(thread: u32) -> Result<Wait> {
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one integer through the pointer.
        let pid = unsafe { libc::waitpid(thread.cast_signed(), &raw mut status, libc::__WALL) };
        match pid {
            -1 if last_error() == Errno::INTR => {}
            -1 => return Err(last_error()),
            _ => return Ok(read_status(status)),
        }
    }
}

fn read_status(status: libc::c_int) -> Wait {
    if libc::WIFEXITED(status) {
        return Wait::Exited(libc::WEXITSTATUS(status));
    }
    if libc::WIFSIGNALED(status) {
        return Wait::Killed(libc::WTERMSIG(status));
    }
    let signal = libc::WSTOPSIG(status);
    Wait::Stopped(match status >> 16 {
        0 => Stop::Signal(signal),
        libc::PTRACE_EVENT_EXEC => Stop::Exec,
        libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => Stop::Group,
        _ => Stop::Other,
    })
}

/// Becomes the tracer of a thread, which goes on. Its children and threads from now on are traced as well.
///
/// # Errors
/// `EPERM` where it has a tracer, or the machine allows none; `ESRCH` where it is gone.
pub(crate) fn seize(thread: u32) -> Result<()> {
    request(libc::PTRACE_SEIZE, thread, OPTIONS.cast_unsigned() as usize)
}

/// Becomes the tracer of a thread for a moment: nothing is followed. Where this process ends, so does the thread.
///
/// # Errors
/// As [`seize`].
pub(crate) fn visit(thread: u32) -> Result<()> {
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
    request(libc::PTRACE_SEIZE, thread, options.cast_unsigned() as usize)
}

/// Lets a tracee go on until it begins or ends a system call.
pub(crate) fn to_call(thread: u32) -> Result<()> {
    request(libc::PTRACE_SYSCALL, thread, 0)
}

/// Lets a tracee that stands still go on; with a signal unless that is 0.
pub(crate) fn go_on(thread: u32, signal: i32) -> Result<()> {
    request(libc::PTRACE_CONT, thread, signal.cast_unsigned() as usize)
}

/// Lets a tracee of a stopped process wait for `SIGCONT`.
pub(crate) fn listen(thread: u32) -> Result<()> {
    request(libc::PTRACE_LISTEN, thread, 0)
}

/// Asks a tracee to stand still as soon as it can: [`Stop::Other`] follows, or another stop that comes first.
pub(crate) fn interrupt(thread: u32) -> Result<()> {
    request(libc::PTRACE_INTERRUPT, thread, 0)
}

/// Lets a tracee that stands still go on without a tracer; with a signal unless that is 0.
pub(crate) fn let_go(thread: u32, signal: i32) -> Result<()> {
    request(libc::PTRACE_DETACH, thread, signal.cast_unsigned() as usize)
}

fn request(request: libc::c_uint, thread: u32, data: usize) -> Result<()> {
    // SAFETY: none of these requests reads or writes memory of this process.
    let result = unsafe {
        libc::ptrace(
            request,
            thread.cast_signed(),
            std::ptr::null_mut::<libc::c_void>(),
            data,
        )
    };
    if result < 0 {
        Err(last_error())
    } else {
        Ok(())
    }
}

/// What is known of a signal: who sent it and why.
#[derive(Clone, Copy)]
pub(crate) struct SignalInfo(libc::siginfo_t);

/// That of the signal that a tracee stands still for.
pub(crate) fn signal_info(thread: u32) -> Result<SignalInfo> {
    // SAFETY: all bit patterns are valid for the bytes of `siginfo_t`, zero too.
    let mut info = unsafe { std::mem::zeroed::<libc::siginfo_t>() };
    // SAFETY: the kernel writes one `siginfo_t` through the pointer.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_GETSIGINFO,
            thread.cast_signed(),
            std::ptr::null_mut::<libc::c_void>(),
            &raw mut info,
        )
    };
    if result < 0 {
        Err(last_error())
    } else {
        Ok(SignalInfo(info))
    }
}

/// Gives the signal that a tracee stands still for another sender and reason.
pub(crate) fn set_signal_info(thread: u32, info: &SignalInfo) -> Result<()> {
    // SAFETY: the kernel reads one `siginfo_t` through the pointer.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_SETSIGINFO,
            thread.cast_signed(),
            std::ptr::null_mut::<libc::c_void>(),
            &raw const info.0,
        )
    };
    if result < 0 {
        Err(last_error())
    } else {
        Ok(())
    }
}

/// Sends a signal to one thread of those below this process.
pub(crate) fn send(thread: u32, signal: i32) -> Result<()> {
    // SAFETY: a system call without memory.
    let result = unsafe { libc::syscall(libc::SYS_tkill, thread.cast_signed(), signal) };
    if result < 0 {
        Err(last_error())
    } else {
        Ok(())
    }
}

/// A system call as it stands in a thread's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interrupted {
    /// Whether a 32-bit program makes it.
    pub compat: bool,
    /// Its number.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// The call that a tracee was interrupted in and that begins again once it goes on, if there is one. The tracee stands
/// still for a signal.
#[cfg(target_arch = "x86_64")]
pub(crate) fn interrupted(thread: u32) -> Result<Option<Interrupted>> {
    /// The kernel's own number for "begin again, or fail with EINTR where the handler says so".
    const RESTART: i64 = -512;
    /// The code segment of 32-bit programs.
    const COMPAT_SEGMENT: u64 = 0x23;
    // SAFETY: all bit patterns are valid for these integers, zero too.
    let mut registers = unsafe { std::mem::zeroed::<libc::user_regs_struct>() };
    // SAFETY: the kernel writes one `user_regs_struct` through the pointer.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_GETREGS,
            thread.cast_signed(),
            std::ptr::null_mut::<libc::c_void>(),
            &raw mut registers,
        )
    };
    if result < 0 {
        return Err(last_error());
    }
    let r = registers;
    if r.rax.cast_signed() != RESTART || r.orig_rax.cast_signed() < 0 {
        return Ok(None);
    }
    let compat = r.cs == COMPAT_SEGMENT;
    let arguments = if compat {
        [r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp]
    } else {
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9]
    };
    Ok(Some(Interrupted {
        compat,
        number: r.orig_rax as u32,
        arguments,
    }))
}

/// The same. Here the kernel has moved a tracee back to the instruction that makes the call before it stands still for
/// a signal. One that has not made it yet looks the same, and is treated the same: it makes the call, then gets the
/// signal. Of 32-bit programs nothing is said.
#[cfg(target_arch = "aarch64")]
pub(crate) fn interrupted(thread: u32) -> Result<Option<Interrupted>> {
    /// `svc #0`
    const CALL: [u8; 4] = 0xd400_0001_u32.to_le_bytes();
    const GENERAL_REGISTERS: usize = 1;
    // SAFETY: all bit patterns are valid for these integers, zero too.
    let mut registers = unsafe { std::mem::zeroed::<libc::user_regs_struct>() };
    let whole = size_of::<libc::user_regs_struct>();
    let mut place = libc::iovec {
        iov_base: (&raw mut registers).cast(),
        iov_len: whole,
    };
    // SAFETY: the kernel writes at most `iov_len` bytes to the structure, and the length of what it wrote.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_GETREGSET,
            thread.cast_signed(),
            GENERAL_REGISTERS,
            &raw mut place,
        )
    };
    if result < 0 {
        return Err(last_error());
    }
    let mut instruction = [0; 4];
    if place.iov_len != whole
        || super::memory::read_exact(thread, registers.pc, &mut instruction).is_err()
        || instruction != CALL
    {
        return Ok(None);
    }
    let mut arguments = [0; 6];
    arguments.copy_from_slice(&registers.regs[..6]);
    Ok(Some(Interrupted {
        compat: false,
        number: registers.regs[8] as u32,
        arguments,
    }))
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wait_says_is_told_apart() {
        let stopped = |signal: i32, event: i32| event << 16 | signal << 8 | 0x7f;
        for (status, expected) in [
            (7 << 8, Wait::Exited(7)),
            (9, Wait::Killed(9)),
            (
                stopped(libc::SIGALRM, 0),
                Wait::Stopped(Stop::Signal(libc::SIGALRM)),
            ),
            (
                stopped(libc::SIGTRAP, libc::PTRACE_EVENT_EXEC),
                Wait::Stopped(Stop::Exec),
            ),
            (
                stopped(libc::SIGTSTP, libc::PTRACE_EVENT_STOP),
                Wait::Stopped(Stop::Group),
            ),
            (
                stopped(libc::SIGTRAP, libc::PTRACE_EVENT_STOP),
                Wait::Stopped(Stop::Other),
            ),
            (
                stopped(libc::SIGTRAP, libc::PTRACE_EVENT_FORK),
                Wait::Stopped(Stop::Other),
            ),
        ] {
            assert_eq!(read_status(status), expected, "{status:x}");
        }
    }
}
