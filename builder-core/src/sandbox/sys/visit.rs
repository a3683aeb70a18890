//! A visit to another process: it is stopped in a call that waits for its answer, made to do something else, and let go
//! (`ptrace(2)`).
//!
//! For what nobody can do for another process: change its working directory, start a program in it. The call is answered
//! with "begin again" while the thread is asked to stand still, so that it does so on its way back, before it has
//! executed anything.
#![expect(unsafe_code, reason = "ptrace(2) has no safe wrapper")]

use std::io;

use rustix::io::{Errno, Result};

use super::ptrace::{self, Wait};

/// `ERESTARTNOINTR`: the call begins again, whatever signal comes.
pub(crate) const BEGIN_AGAIN: i32 = 513;

/// Why a visit came to nothing.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The thread can't be visited, and its call still waits.
    Refused(Errno),
    /// It ended, in this way; or nothing more is known of it.
    Gone(Option<Wait>),
}

/// A thread that stands still.
pub(crate) struct Visit {
    thread: u32,
    /// Whether it was traced before, and stays so.
    traced: bool,
    registers: Registers,
    mask: u64,
    /// The signal that it stands still for.
    signal: i32,
}

#[cfg(target_arch = "x86_64")]
type Registers = libc::user_regs_struct;
#[cfg(not(target_arch = "x86_64"))]
type Registers = [u64; 6];

impl Visit {
    /// Stops a thread whose call has been received. `answer` answers it with [`BEGIN_AGAIN`]; `traced`, whether this
    /// process traces it already.
    pub(crate) fn begin(
        thread: u32,
        traced: bool,
        answer: impl FnOnce() -> io::Result<()>,
    ) -> std::result::Result<Self, Trouble> {
        if !cfg!(target_arch = "x86_64") {
            return Err(Trouble::Refused(Errno::NOSYS));
        }
        if !traced {
            ptrace::visit(thread).map_err(Trouble::Refused)?;
        }
        let gone = |_| Trouble::Gone(None);
        ptrace::interrupt(thread).map_err(gone)?;
        // Where its caller is gone, the wait says so.
        let _ = answer();
        let signal = match ptrace::wait_for(thread).map_err(gone)? {
            Wait::Stopped(ptrace::Stop::Signal(signal)) => signal,
            Wait::Stopped(_) => 0,
            ended => return Err(Trouble::Gone(Some(ended))),
        };
        let mut visit = Self {
            thread,
            traced,
            registers: empty_registers(),
            mask: 0,
            signal,
        };
        let prepared = visit.read().and_then(|()| visit.block_signals());
        prepared.map_err(gone)?;
        Ok(visit)
    }

    /// Signals wait until the thread is let go: one that stopped it in between would be lost.
    fn block_signals(&mut self) -> Result<()> {
        let size = size_of::<u64>();
        let mut all = u64::MAX;
        let place = (&raw mut self.mask).cast();
        data_request(libc::PTRACE_GETSIGMASK, self.thread, size, place)?;
        data_request(
            libc::PTRACE_SETSIGMASK,
            self.thread,
            size,
            (&raw mut all).cast(),
        )
    }

    fn leave(mut self) -> Result<()> {
        let place = (&raw mut self.mask).cast();
        data_request(
            libc::PTRACE_SETSIGMASK,
            self.thread,
            size_of::<u64>(),
            place,
        )?;
        if self.traced {
            ptrace::go_on(self.thread, self.signal)
        } else {
            ptrace::let_go(self.thread, self.signal)
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Visit {
    fn read(&mut self) -> Result<()> {
        let place = (&raw mut self.registers).cast();
        data_request(libc::PTRACE_GETREGS, self.thread, 0, place)
    }

    fn write(&self, registers: &Registers) -> Result<()> {
        let place = (&raw const *registers).cast_mut().cast();
        data_request(libc::PTRACE_SETREGS, self.thread, 0, place)
    }

    /// Lets the thread go; the call that begins again is another one.
    pub(crate) fn call_instead(self, number: u64, arguments: [u64; 5]) -> Result<()> {
        let mut registers = self.registers;
        registers.orig_rax = number;
        [
            registers.rdi,
            registers.rsi,
            registers.rdx,
            registers.r10,
            registers.r8,
        ] = arguments;
        self.write(&registers)?;
        self.leave()
    }

    /// Lets the thread execute a system call that nobody answers, and stand still again; its result.
    pub(crate) fn call(&mut self, number: u64, argument: u64) -> Result<i64> {
        let mut registers = self.registers;
        // Back to the instruction that makes the call; without a call to begin again.
        registers.rip = registers.rip.wrapping_sub(2);
        registers.rax = number;
        registers.orig_rax = u64::MAX;
        registers.rdi = argument;
        self.write(&registers)?;
        // To its beginning, and to its end.
        for _ in 0..2 {
            ptrace::to_call(self.thread)?;
            match ptrace::wait_for(self.thread)? {
                Wait::Stopped(_) => {}
                Wait::Exited(_) | Wait::Killed(_) => return Err(Errno::SRCH),
            }
        }
        let mut after = empty_registers();
        data_request(
            libc::PTRACE_GETREGS,
            self.thread,
            0,
            (&raw mut after).cast(),
        )?;
        Ok(after.rax.cast_signed())
    }

    /// Lets the thread go; its call has this result.
    pub(crate) fn finish(self, result: i64) -> Result<()> {
        let mut registers = self.registers;
        registers.rax = result.cast_unsigned();
        registers.orig_rax = u64::MAX;
        self.write(&registers)?;
        self.leave()
    }
}

/// Visits need the machine's registers, which are known on one kind alone.
#[cfg(not(target_arch = "x86_64"))]
impl Visit {
    fn read(&mut self) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Not to be had here.
    pub(crate) fn call_instead(self, _: u64, _: [u64; 5]) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Not to be had here.
    pub(crate) fn call(&mut self, _: u64, _: u64) -> Result<i64> {
        Err(Errno::NOSYS)
    }

    /// Not to be had here.
    pub(crate) fn finish(self, _: i64) -> Result<()> {
        self.leave()
    }
}

fn empty_registers() -> Registers {
    // SAFETY: all bit patterns are valid for these integers, zero too.
    unsafe { std::mem::zeroed() }
}

/// A request that reads or writes what `place` points to: registers, or a mask of `size` bytes.
fn data_request(
    request: libc::c_uint,
    thread: u32,
    size: usize,
    place: *mut libc::c_void,
) -> Result<()> {
    let size = std::ptr::without_provenance_mut::<libc::c_void>(size);
    // SAFETY: each caller passes what the request takes: a register structure with any address argument, or a mask with
    // its size there.
    let result = unsafe { libc::ptrace(request, thread.cast_signed(), size, place) };
    if result < 0 {
        Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    } else {
        Ok(())
    }
}
