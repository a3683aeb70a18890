//! The first process of a RUN: starts the command, answers for the kernel, reaps, and leaves nothing running.

use std::ffi::CString;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, WaitOptions};

use super::command;
use super::handover;
use super::isolation::Isolation;
use super::spec::{Bytes, Doing as _, Ended, Failure, Report, RunSpec};
use super::streams::InputKind;
use super::supervisor::Supervisor;
use super::sys;
use super::sys::process::Forked;
use super::sys::ptrace::{self, Wait};
use super::terminal::Standard;
use crate::owners::SideTable;

/// What the builder says on the control socket after the job.
pub(super) mod order {
    /// Ask the command to end.
    pub(in crate::sandbox) const TERMINATE: u8 = b'T';
    /// End it.
    pub(in crate::sandbox) const KILL: u8 = b'K';
}

/// Executes a RUN to its end. Everything that it started is gone when this returns.
pub(super) fn run(
    engine: &mut dyn Isolation,
    spec: &RunSpec,
    (kind, descriptor): (InputKind, Option<OwnedFd>),
    control: &UnixStream,
) -> Report {
    // Modes are meant as they are given; the command gets the usual mask.
    rustix::process::umask(rustix::fs::Mode::empty());
    // Their paths are those of the host, which is out of sight once the root is entered.
    let mut report = tables(spec)
        .and_then(|table| {
            engine.prepare()?;
            let standard = Standard::open(kind, descriptor)?;
            start_and_wait(engine, spec, (table, standard), control)
        })
        .unwrap_or_else(|failure| Report::Failed(failure.what, failure.errno));
    let elsewhere = engine.finish();
    if let Report::Ended { moved, .. } = &mut report {
        *moved = elsewhere.into_iter().map(Bytes::from).collect();
    }
    report
}

/// The side tables of owners as one.
fn tables(spec: &RunSpec) -> Result<SideTable, Failure> {
    let mut table = SideTable::default();
    for path in &spec.tables {
        table.merge(SideTable::load(path.as_path()).doing("reading the table of owners")?);
    }
    Ok(table)
}

fn start_and_wait(
    engine: &mut dyn Isolation,
    spec: &RunSpec,
    (table, standard): (SideTable, Standard),
    control: &UnixStream,
) -> Result<Report, Failure> {
    let signals = sys::process::signal_fd(&[libc::SIGCHLD]).doing("waiting for signals")?;
    let starting = "starting the command";
    let pair = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    );
    let (ours, theirs) = pair.doing(starting)?;
    let child = match sys::process::fork().doing(starting)? {
        Forked::Parent(child) => child,
        Forked::Child => {
            drop(ours);
            command::start(engine, spec, standard, &theirs);
        }
    };
    drop(theirs);
    let terminal = standard.terminal();
    drop(standard);
    let mut watch = Watch {
        child,
        control,
        // A real-time signal that asks for the end of an init system's services has no name here.
        stop: Signal::from_named_raw(spec.stop_signal).unwrap_or(Signal::TERM),
        signals,
        supervisor: None,
        status: None,
        asking: true,
        all: !engine.has_own_processes(),
    };
    let begun = match handover::receive(ours.as_fd(), child) {
        Ok(listener) => engine.duty(table, terminal).and_then(|duty| {
            watch.supervisor = match (listener, duty) {
                (Some(listener), Some(duty)) => {
                    let supervisor = Supervisor::new(listener, duty, engine.policy());
                    Some(supervisor.doing("starting the supervisor")?)
                }
                _ => None,
            };
            watch.until_exec(&ours)
        }),
        Err(error) => Err(error).doing(starting),
    };
    let result = begun.and_then(|outcome| match outcome {
        Some(report) => Ok(report),
        None => watch.until_end().doing("waiting for the command"),
    });
    watch.end_everything();
    let mut report = result?;
    if let (Report::Ended { table, .. }, Some(supervisor)) = (&mut report, &watch.supervisor) {
        *table = supervisor.table().to_text();
    }
    Ok(report)
}

/// A running command and what is heard of it.
struct Watch<'a> {
    child: Pid,
    control: &'a UnixStream,
    /// What asks the command to end.
    stop: Signal,
    signals: OwnedFd,
    supervisor: Option<Supervisor>,
    status: Option<Ended>,
    /// Whether someone may still ask the supervisor.
    asking: bool,
    /// Whether its processes must be hunted one by one.
    all: bool,
}

impl Watch<'_> {
    /// Waits until the command's program runs; the report of what kept it from running.
    fn until_exec(&mut self, messages: &OwnedFd) -> Result<Option<Report>, Failure> {
        let mut text = Vec::new();
        loop {
            let ready = self
                .turn(Some(messages.as_fd()))
                .doing("waiting for the command")?;
            if !ready {
                continue;
            }
            let mut buffer = [0; 4096];
            match rustix::io::read(messages, &mut buffer) {
                Ok(0) => break,
                Ok(read) => text.extend_from_slice(&buffer[..read]),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).doing("starting the command"),
            }
        }
        if text.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(std::io::Error::from)
            .doing("starting the command")
    }

    /// Waits until the command has ended.
    fn until_end(&mut self) -> std::io::Result<Report> {
        loop {
            if let Some(status) = self.status {
                return Ok(Report::Ended {
                    status,
                    table: String::new(),
                    moved: Vec::new(),
                });
            }
            self.turn(None)?;
        }
    }

    /// Waits for something to happen and deals with it; whether `extra` can be read.
    fn turn(&mut self, extra: Option<BorrowedFd<'_>>) -> std::io::Result<bool> {
        let (heard, asked, ordered, more) = {
            let listener = self.supervisor.as_ref().filter(|_| self.asking);
            let listener = listener.map(Supervisor::listener);
            let mut polled = vec![
                PollFd::new(&self.signals, PollFlags::IN),
                PollFd::new(self.control, PollFlags::IN),
            ];
            polled.extend(listener.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let extra_at = polled.len();
            polled.extend(extra.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            match poll(&mut polled, None) {
                Err(rustix::io::Errno::INTR) => return Ok(false),
                other => other?,
            };
            let seen = |at: usize| polled.get(at).map_or(PollFlags::empty(), PollFd::revents);
            let asked = if listener.is_some() {
                seen(2)
            } else {
                PollFlags::empty()
            };
            (seen(0), asked, seen(1), seen(extra_at))
        };
        if asked.contains(PollFlags::IN) {
            if let Some(supervisor) = &mut self.supervisor {
                supervisor.answer()?;
                for (pid, event) in supervisor.take_missed() {
                    self.note(pid, event);
                }
            }
        } else if !asked.is_empty() {
            self.asking = false;
        }
        if !heard.is_empty() {
            self.reap();
        }
        if !ordered.is_empty() {
            self.obey();
        }
        Ok(!more.is_empty())
    }

    /// Takes note of all processes that ended.
    fn reap(&mut self) {
        let mut buffer = [0; 1024];
        // What it says is found out below.
        let _ = rustix::io::read(&self.signals, &mut buffer);
        while let Ok(Some((pid, event))) = ptrace::wait(false) {
            self.note(pid, event);
        }
    }

    /// Takes note of what happened to a process.
    fn note(&mut self, pid: u32, event: Wait) {
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.note(pid, event);
        }
        if pid.cast_signed() != self.child.as_raw_nonzero().get() {
            return;
        }
        match event {
            Wait::Exited(status) => self.status = Some(Ended::Status(status)),
            Wait::Killed(signal) => self.status = Some(Ended::Signal(signal)),
            Wait::Stopped(_) => {}
        }
    }

    /// Does what the builder says; a builder that is gone wants the command to end.
    fn obey(&mut self) {
        let mut said = [0];
        let mut control = self.control;
        let signal = match control.read(&mut said) {
            Ok(1) if said[0] == order::TERMINATE => self.stop,
            _ => Signal::KILL,
        };
        // It may have ended just now.
        let _ = rustix::process::kill_process_group(self.child, signal);
        if signal == Signal::KILL {
            let _ = rustix::process::kill_process(self.child, signal);
        }
    }

    /// Whether any process is left that this one must wait for; takes note of those that have ended.
    fn has_children(&mut self) -> bool {
        loop {
            match ptrace::wait(false) {
                Ok(Some((pid, event))) => self.note(pid, event),
                Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Ends every process that the command left behind.
    fn end_everything(&mut self) {
        while self.has_children() {
            if self.all {
                kill_children();
            } else {
                sys::process::kill_everyone();
            }
            match ptrace::wait(true) {
                Ok(Some((pid, event))) => self.note(pid, event),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// Ends all children of this process, and those that become its own when their parents are gone.
pub(super) fn end_children() {
    loop {
        kill_children();
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Kills the children of this process. Those of theirs become its own when they are gone: it is their subreaper.
fn kill_children() {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return;
    };
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in parentheses, may hold anything; state and parent follow it.
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1));
        if parent == Some(own.to_string().as_str())
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// A string for the kernel; one with a NUL byte in it can't be passed on.
pub(super) fn c_string(text: &str) -> Result<CString, Failure> {
    CString::new(text)
        .map_err(|_| std::io::Error::from_raw_os_error(libc::EINVAL))
        .doing("passing on a text with a NUL byte")
}
