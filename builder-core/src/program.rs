//! Programs of the machine that rbuild asks something: `git`, credential helpers.
//!
//! They are other people's and may wait for a network for ever, so an interrupt ends them, with all that they have
//! started: each runs in a process group of its own, which the terminal's Ctrl-C does not reach.

use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::interrupt::Interrupt;

/// How long an interrupt may wait for its answer, in nanoseconds.
const PATIENCE_NANOSECONDS: i64 = 50_000_000;

/// The most bytes of standard output that are taken. A listing of a hundred thousand references is a tenth of it.
const MAX_OUTPUT: usize = 64 << 20;

/// The most bytes of standard error that are kept; the last ones, for they say why.
const MAX_SAID: usize = 64 << 10;

/// What a program left.
#[derive(Debug)]
pub struct Finished {
    /// Whether its status was 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// The end of its standard error; empty where the caller sent that elsewhere.
    pub stderr: Vec<u8>,
}

/// Why a program has left nothing.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It could not be started or waited for.
    #[error("it can't be started")]
    Start(#[source] std::io::Error),
    /// The interrupt was set; nothing of the program runs any more.
    #[error("interrupted")]
    Interrupted,
    /// It wrote more than is taken of any program, and was ended.
    #[error("it wrote more than {} MiB", MAX_OUTPUT >> 20)]
    TooMuch,
}

/// Runs a program to its end: gives it `input`, and takes what it writes to standard output, and to standard error
/// where `command` has a pipe there.
///
/// A process that it leaves running in the background is not waited for, even if it holds the pipes open.
///
/// # Errors
/// [`Problem::Interrupted`] not later than 50 ms after the interrupt.
pub fn run(
    command: &mut Command,
    input: &[u8],
    interrupt: &Interrupt,
) -> Result<Finished, Problem> {
    let stdin = if input.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(Problem::Start)?;
    let finished = converse(&mut child, input, interrupt);
    if finished.is_err() {
        // It may have ended meanwhile, and is waited for in any case.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        let _ = child.wait();
    }
    finished
}

/// Runs a program as [`run`] does, and gives it what `feed` writes, as it is written. `feed` runs beside the program; where
/// that ends early, writing fails.
///
/// # Errors
/// As [`run`].
pub fn run_fed<T: Send>(
    command: &mut Command,
    feed: impl FnOnce(File) -> T + Send,
    interrupt: &Interrupt,
) -> Result<(Finished, T), Problem> {
    let (reader, writer) = std::io::pipe().map_err(Problem::Start)?;
    let mut child = command
        .stdin(reader)
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(Problem::Start)?;
    // Only the program reads from here on: its end is the writer's.
    command.stdin(Stdio::null());
    std::thread::scope(|scope| {
        let fed = scope.spawn(move || feed(File::from(OwnedFd::from(writer))));
        let finished = converse(&mut child, &[], interrupt);
        if finished.is_err() {
            // It may have ended meanwhile, and is waited for in any case.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            let _ = child.wait();
        }
        let fed = fed.join();
        let fed = fed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((finished?, fed))
    })
}

/// A pipe from the program.
struct Source<R> {
    pipe: Option<R>,
    bytes: Vec<u8>,
}

impl<R: Read + AsFd> Source<R> {
    fn new(pipe: Option<R>) -> Result<Self, Problem> {
        if let Some(pipe) = &pipe {
            without_waiting(pipe)?;
        }
        let bytes = Vec::new();
        Ok(Self { pipe, bytes })
    }

    /// Takes what is there. A pipe that has ended is closed.
    fn take(&mut self, keep: impl Fn(&mut Vec<u8>) -> Result<(), Problem>) -> Result<(), Problem> {
        let mut buffer = [0; 16384];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    self.bytes.extend_from_slice(&buffer[..count]);
                    keep(&mut self.bytes)?;
                }
                Err(error) if error.kind() == IoErrorKind::WouldBlock => break,
                Err(error) if error.kind() == IoErrorKind::Interrupted => {}
                Err(error) => return Err(Problem::Start(error)),
            }
        }
        Ok(())
    }
}

fn without_waiting(pipe: &impl AsFd) -> Result<(), Problem> {
    let flags = rustix::fs::fcntl_getfl(pipe).map_err(|error| Problem::Start(error.into()))?;
    rustix::fs::fcntl_setfl(pipe, flags | OFlags::NONBLOCK)
        .map_err(|error| Problem::Start(error.into()))
}

/// Speaks with a program until it has ended.
fn converse(
    child: &mut Child,
    mut input: &[u8],
    interrupt: &Interrupt,
) -> Result<Finished, Problem> {
    let mut stdin = child.stdin.take();
    if let Some(pipe) = &stdin {
        without_waiting(pipe)?;
    }
    let mut stdout = Source::new(child.stdout.take())?;
    let mut stderr = Source::new(child.stderr.take())?;
    loop {
        if interrupt.is_set() {
            return Err(Problem::Interrupted);
        }
        // Asked before the pipes are read: all that a program that has ended wrote is in them.
        let status = child.try_wait().map_err(Problem::Start)?;
        give(&mut stdin, &mut input);
        stdout.take(|bytes| match bytes.len() {
            0..=MAX_OUTPUT => Ok(()),
            _ => Err(Problem::TooMuch),
        })?;
        stderr.take(|bytes| {
            if bytes.len() > 2 * MAX_SAID {
                bytes.drain(..bytes.len() - MAX_SAID);
            }
            Ok(())
        })?;
        if let Some(status) = status {
            return Ok(Finished {
                success: status.success(),
                stdout: stdout.bytes,
                stderr: stderr.bytes,
            });
        }
        let fds = [
            stdin.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::OUT)),
            (stdout.pipe.as_ref()).map(|pipe| PollFd::new(pipe, PollFlags::IN)),
            (stderr.pipe.as_ref()).map(|pipe| PollFd::new(pipe, PollFlags::IN)),
        ];
        let mut fds: Vec<PollFd<'_>> = fds.into_iter().flatten().collect();
        wait(&mut fds);
    }
}

/// Waits until a pipe can be used, and never long: the program's end and the interrupt are asked for.
fn wait(fds: &mut [PollFd<'_>]) {
    if fds.is_empty() {
        // Its pipes are closed, so it is about to end.
        std::thread::sleep(Duration::from_millis(2));
        return;
    }
    let patience = Timespec {
        tv_sec: 0,
        tv_nsec: PATIENCE_NANOSECONDS,
    };
    // A signal is a reason to look, as any other.
    let _ = poll(fds, Some(&patience));
}

/// Writes what the pipe takes. A program that reads nothing says so with its status.
fn give(stdin: &mut Option<ChildStdin>, input: &mut &[u8]) {
    while let Some(pipe) = stdin {
        if input.is_empty() {
            *stdin = None;
            return;
        }
        match pipe.write(input) {
            Ok(count) => *input = &input[count..],
            Err(error) if error.kind() == IoErrorKind::WouldBlock => return,
            Err(error) if error.kind() == IoErrorKind::Interrupted => {}
            Err(_) => *stdin = None,
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "programs are started here, and the clock measures them"
)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stderr(Stdio::piped());
        command
    }

    #[test]
    fn a_program_is_given_its_input_and_says_what_it_says() {
        let large = vec![b'x'; 1 << 20];
        for (script, input, success, stdout, stderr) in [
            ("cat; echo e >&2", &b"in"[..], true, &b"in"[..], &b"e\n"[..]),
            ("cat", &large, true, &large, b""),
            ("exit 3", &large, false, b"", b""),
            ("exec >&- 2>&-; sleep 0.1; exit 1", b"", false, b"", b""),
            // What stays behind holds the pipes.
            ("echo a; sleep 30 & exit 0", b"", true, b"a\n", b""),
        ] {
            let started = Instant::now();
            let finished = run(&mut shell(script), input, &Interrupt::default()).unwrap();
            assert_eq!(finished.success, success, "{script}");
            assert!(finished.stdout == stdout, "{script}");
            assert_eq!(finished.stderr, stderr, "{script}");
            assert!(started.elapsed() < Duration::from_secs(10), "{script}");
        }
    }

    #[test]
    fn an_interrupt_ends_it_and_its_children() {
        for script in [
            "sleep 60",
            "sleep 60 & wait",
            "trap '' TERM INT; sleep 60; sleep 60",
        ] {
            let (reader, writer) = std::io::pipe().unwrap();
            let mut command = shell(script);
            command.stderr(writer);
            let interrupt = Interrupt::default();
            let started = Instant::now();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(300));
                    interrupt.set();
                });
                let problem = run(&mut command, b"", &interrupt).unwrap_err();
                assert!(matches!(problem, Problem::Interrupted), "{script}");
            });
            drop(command);
            // No process is left that could write.
            assert_eq!((&reader).read(&mut [0]).unwrap(), 0, "{script}");
            assert!(started.elapsed() < Duration::from_secs(30), "{script}");
        }
    }

    #[test]
    fn what_it_writes_is_bounded() {
        let problem = run(&mut shell("cat /dev/zero"), b"", &Interrupt::default()).unwrap_err();
        assert!(matches!(problem, Problem::TooMuch));
        let said = "head -c 9000000 /dev/zero >&2; echo why >&2";
        let finished = run(&mut shell(said), b"", &Interrupt::default()).unwrap();
        assert!(finished.stderr.ends_with(b"why\n") && finished.stderr.len() <= 2 * MAX_SAID);
    }
}
