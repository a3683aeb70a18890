//! The program's own streams, lent to a command: keys and size of the terminal, bytes of standard input, its output.

use std::io::IsTerminal as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use builder_core::build::session::Console;
use builder_core::event::{Event, EventSink, Stream};
use builder_core::interrupt::Interrupt;
use builder_core::sandbox::{Input, Streams};
use rustix::termios::{OptionalActions, Termios};

use crate::render::{Display, Sink};

/// What of its own the program lends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lent {
    /// Standard input.
    pub(crate) input: bool,
    /// The command gets a terminal.
    pub(crate) terminal: bool,
}

impl Lent {
    /// What a shell is lent: a terminal, where the program has one.
    pub(crate) fn shell() -> Self {
        Self {
            input: true,
            terminal: std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        }
    }
}

/// A display that ends when a command begins, and what that command is lent.
pub(crate) struct Stage {
    lent: Lent,
    interrupt: Interrupt,
    shown: Mutex<Option<(Display, Sink)>>,
    /// Which events are shown.
    filter: fn(&Event) -> bool,
}

impl Stage {
    pub(crate) fn new(
        lent: Lent,
        display: Display,
        filter: fn(&Event) -> bool,
        interrupt: &Interrupt,
    ) -> Self {
        let sink = display.sink();
        Self {
            lent,
            interrupt: interrupt.clone(),
            shown: Mutex::new(Some((display, sink))),
            filter,
        }
    }

    /// Ends the display, if it hasn't ended.
    pub(crate) fn finish(&self) {
        let shown = self
            .shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((display, sink)) = shown {
            drop(sink);
            display.finish();
        }
    }
}

impl EventSink for Stage {
    fn send(&self, event: Event) {
        if !(self.filter)(&event) {
            return;
        }
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sink)) = &*shown {
            sink.send(event);
        }
    }
}

impl Console for Stage {
    fn converse(&self, command: &mut dyn FnMut(Streams<'_>)) {
        self.finish();
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let keys = self.lent.input.then(|| stdin.as_fd());
        let input = match (self.lent.terminal, keys) {
            (true, keys) => Input::Terminal {
                keys,
                window: stdout.is_terminal().then(|| stdout.as_fd()),
            },
            (false, Some(keys)) => Input::Bytes(keys),
            (false, None) => Input::Nothing,
        };
        // What is typed goes to the command's terminal as it is: that one echoes, edits lines, and makes signals of keys.
        let _raw = keys.filter(|_| self.lent.terminal).and_then(Raw::set);
        let mut output = |stream, bytes: &[u8]| {
            let written = match stream {
                Stream::Stdout => write(&mut std::io::stdout().lock(), bytes),
                Stream::Stderr => write(&mut std::io::stderr().lock(), bytes),
            };
            if written.is_err() {
                // Nobody reads any more, as in `rbuild run … | head`: the command is asked to end.
                self.interrupt.set();
            }
        };
        command(Streams {
            input,
            output: &mut output,
        });
    }
}

fn write(out: &mut dyn std::io::Write, bytes: &[u8]) -> std::io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}

/// A terminal that passes keys on as they are; dropped, it is as it was.
struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    /// None where it is no terminal.
    fn set(terminal: BorrowedFd<'a>) -> Option<Self> {
        let before = rustix::termios::tcgetattr(terminal).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(terminal, OptionalActions::Drain, &raw).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing any more.
        let _ = rustix::termios::tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
    }
}
