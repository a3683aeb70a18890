//! No call that is answered here is interrupted.
//!
//! Until a supervisor has received a notification, its caller's wait can be interrupted: a signal with a handler that
//! was set without `SA_RESTART` turns `stat`, `execve` or `getuid` into `EINTR`, which they never give natively
//! (`signal(7)`). So a process that sets such a handler is traced, and a signal that meets a call which is still to be
//! answered is held back: the call begins again, and the signal comes when it has been answered. A process is let go
//! when it starts another program, whose handlers are the default ones again; so `strace` and `gdb` find what they
//! start without a tracer.
//!
//! One mechanism for all machines: where the kernel rewinds a call before it stops for a signal (aarch64), its result
//! can't be changed any more.

use std::collections::{BTreeSet, HashMap, HashSet};

use rustix::fs::{Dir, Mode, OFlags, openat};

use crate::sandbox::calls::{COMPAT_ARCH, Call, NATIVE_ARCH, call as named};
use crate::sandbox::filter::Policy;
use crate::sandbox::supervisor::Reply;
use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::sys::ptrace::{self, SignalInfo, Stop, Wait};

/// `ERESTARTNOINTR`, the kernel's own number: the call begins again after the handler, whatever its flags say.
const BEGIN_AGAIN: i32 = 513;
/// `SIGRTMIN`, the kernel's: signals below it are pending once at most.
const FIRST_QUEUED: i32 = 32;

/// A signal on its way, with its sender and reason.
struct Signal {
    number: i32,
    info: SignalInfo,
}

/// Follows the processes whose handlers would interrupt.
pub(super) struct Tracer {
    policy: Policy,
    /// Whether a call that has been received waits for its answer whatever signals come.
    killable: bool,
    traced: HashSet<u32>,
    /// Signals that wait until a thread's call has been answered.
    held: HashMap<u32, Vec<Signal>>,
    /// Those that were sent again and are to be delivered as they were.
    returning: HashMap<u32, Vec<Signal>>,
    /// Threads that are let go at their next stop: another process is to trace them.
    leaving: HashSet<u32>,
}

impl Tracer {
    /// Traces nobody yet. `policy` is what the RUN's filter was made of; `killable`, whether a received call can't be
    /// interrupted.
    pub(super) fn new(policy: Policy, killable: bool) -> Self {
        Self {
            policy,
            killable,
            traced: HashSet::new(),
            held: HashMap::new(),
            returning: HashMap::new(),
            leaving: HashSet::new(),
        }
    }

    /// `rt_sigaction`: from here on the caller's calls may be interrupted, if its handler says so.
    pub(super) fn handler_set(&mut self, caller: &Caller<'_>) -> Reply {
        // What can't be read, the kernel refuses too.
        if !self.is_traced(caller.pid()) && sets_interrupting(caller) == Some(true) {
            self.seize_all(caller);
        }
        Reply::Continue
    }

    /// `ptrace`: a thread that the RUN's own debugger is to trace can have no other tracer. From then on its calls may be
    /// interrupted.
    pub(super) fn traced_by_another(&mut self, caller: &Caller<'_>) -> Reply {
        let itself = caller.word(0) == libc::PTRACE_TRACEME;
        let thread = if itself { caller.pid() } else { caller.word(1) };
        if !self.is_traced(thread) || ptrace::interrupt(thread).is_err() {
            return Reply::Continue;
        }
        self.leaving.insert(thread);
        if itself {
            // It stops when it has this answer, and then asks once more.
            Reply::Fail(BEGIN_AGAIN)
        } else {
            Reply::When(thread)
        }
    }

    /// Whether a thread is traced.
    pub(super) fn is_traced(&self, thread: u32) -> bool {
        self.traced.contains(&thread)
    }

    /// Seizes all threads of the caller's process. Those that have a tracer of the RUN's own stay as they are.
    fn seize_all(&mut self, caller: &Caller<'_>) {
        let Ok(status) = caller.status() else {
            return;
        };
        let mut seen = BTreeSet::new();
        // A thread that has not been seized may make another one meanwhile.
        while let Some(new) = new_threads(caller, status.group, &mut seen) {
            for thread in new {
                if ptrace::seize(thread).is_ok() {
                    self.traced.insert(thread);
                }
            }
        }
    }

    /// Whether signals of a thread are held back.
    pub(super) fn holds(&self, thread: u32) -> bool {
        self.held.contains_key(&thread)
    }

    /// An answer by which the call begins again after the signals that were held back: a new program would not know
    /// their handlers.
    pub(super) fn begin_again(&mut self, thread: u32) -> Reply {
        self.release(thread);
        Reply::Fail(BEGIN_AGAIN)
    }

    /// A call of this thread is about to be answered. Signals that were held back are sent while it still waits, so that
    /// they come with its result, and before the thread makes another call.
    pub(super) fn before_answer(&mut self, thread: u32) {
        if self.killable {
            self.release(thread);
        }
    }

    /// It has been answered. Where signals would have taken the call back, they are sent now; one that meets the next
    /// call is held back again.
    pub(super) fn after_answer(&mut self, thread: u32) {
        if !self.killable {
            self.release(thread);
        }
    }

    /// Sends a thread what was held back.
    fn release(&mut self, thread: u32) {
        for signal in self.held.remove(&thread).unwrap_or_default() {
            if ptrace::send(thread, signal.number).is_ok() {
                self.returning.entry(thread).or_default().push(signal);
            }
        }
    }

    /// Takes note of what happened to a child or a tracee.
    pub(super) fn note(&mut self, thread: u32, event: Wait) {
        let Wait::Stopped(stop) = event else {
            self.forget(thread);
            return;
        };
        // A tracee that was killed meanwhile needs nothing any more, and says so itself.
        let _ = match stop {
            Stop::Exec => {
                self.forget(thread);
                ptrace::let_go(thread, 0)
            }
            Stop::Signal(number) if self.leaving.contains(&thread) => {
                self.forget(thread);
                ptrace::let_go(thread, number)
            }
            Stop::Other | Stop::Group if self.leaving.contains(&thread) => {
                self.forget(thread);
                ptrace::let_go(thread, 0)
            }
            Stop::Group => ptrace::listen(thread),
            Stop::Other => {
                self.traced.insert(thread);
                ptrace::go_on(thread, 0)
            }
            Stop::Signal(number) => {
                let number = if self.hold_back(thread, number) {
                    0
                } else {
                    number
                };
                ptrace::go_on(thread, number)
            }
        };
    }

    fn forget(&mut self, thread: u32) {
        self.traced.remove(&thread);
        self.held.remove(&thread);
        self.returning.remove(&thread);
        self.leaving.remove(&thread);
    }

    /// Holds a signal back that would interrupt a call which is still to be answered; whether it was.
    fn hold_back(&mut self, thread: u32, number: i32) -> bool {
        if let Some(signal) = self.take_returning(thread, number) {
            if !self.killable && self.is_in_answered_call(thread) {
                self.held.entry(thread).or_default().push(signal);
                return true;
            }
            // Where the thread was killed, nobody sees the difference.
            let _ = ptrace::set_signal_info(thread, &signal.info);
            return false;
        }
        if stops(number) || !self.is_in_answered_call(thread) {
            return false;
        }
        let Ok(info) = ptrace::signal_info(thread) else {
            return false;
        };
        let held = self.held.entry(thread).or_default();
        if number >= FIRST_QUEUED || held.iter().all(|one| one.number != number) {
            held.push(Signal { number, info });
        }
        true
    }

    fn take_returning(&mut self, thread: u32, number: i32) -> Option<Signal> {
        let signals = self.returning.get_mut(&thread)?;
        let at = signals.iter().position(|one| one.number == number)?;
        let signal = signals.remove(at);
        if signals.is_empty() {
            self.returning.remove(&thread);
        }
        Some(signal)
    }

    fn is_in_answered_call(&self, thread: u32) -> bool {
        let Ok(Some(call)) = ptrace::interrupted(thread) else {
            return false;
        };
        let arch = if call.compat {
            COMPAT_ARCH
        } else {
            NATIVE_ARCH
        };
        // Those may be interrupted natively, and can't be begun again.
        let of_sockets = matches!(
            named(arch, call.number),
            Some(Call::Connect | Call::Sendto | Call::Sendmsg | Call::Sendmmsg)
        );
        !of_sockets && self.policy.notifies(arch, call.number, &call.arguments)
    }
}

/// Signals that stop a process: no handler runs before it goes on.
fn stops(number: i32) -> bool {
    matches!(
        number,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
    )
}

/// Whether an action is a handler that interrupts calls.
fn sets_interrupting(caller: &Caller<'_>) -> Option<bool> {
    let address = caller.argument(1);
    // `struct sigaction` of the kernel: handler, flags, and more.
    let (handler, flags) = if caller.notification.arch == COMPAT_ARCH {
        let mut words = [0; 8];
        caller.bytes(address, &mut words).ok()?;
        let (words, _) = words.as_chunks();
        let word = |index: usize| u64::from(u32::from_ne_bytes(words[index]));
        (word(0), word(1))
    } else {
        let mut words = [0; 16];
        caller.bytes(address, &mut words).ok()?;
        let (words, _) = words.as_chunks();
        let word = |index: usize| u64::from_ne_bytes(words[index]);
        (word(0), word(1))
    };
    let restarts = flags & libc::SA_RESTART as u64 != 0;
    // SIG_DFL is 0, SIG_IGN is 1.
    Some(handler > 1 && !restarts)
}

/// The threads of a process that are not among those seen; none where there is no new one.
fn new_threads(caller: &Caller<'_>, group: u32, seen: &mut BTreeSet<u32>) -> Option<Vec<u32>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tasks = openat(caller.proc, format!("{group}/task"), flags, Mode::empty());
    let tasks = tasks.and_then(Dir::new).ok()?;
    let names = tasks.flatten().filter_map(|task| {
        let name = task.file_name().to_str().ok()?;
        name.parse::<u32>().ok()
    });
    let new: Vec<u32> = names.filter(|thread| seen.insert(*thread)).collect();
    (!new.is_empty()).then_some(new)
}
