//! A talk with a helper: the job, what its command prints and reads, an interrupt, the report.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::console::Console;
use super::init::order;
use super::rights;
use super::spec::Job;
use super::streams::TakeOutput;
use crate::event::Stream;
use crate::interrupt::Interrupt;

/// How long a command has to end after it was asked to.
const GRACE: Duration = Duration::from_secs(10);

/// How often the interrupt, and the size of a terminal, are looked at while a command is silent: 50 ms.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// A talk with a helper.
pub(super) struct Conversation<'a> {
    control: UnixStream,
    console: Console<'a>,
    /// The report so far.
    heard: Vec<u8>,
    /// Whether the helper has more to say.
    talking: bool,
    /// What the command prints, and where from.
    pipes: [(Stream, Option<OwnedFd>); 2],
    /// When the command was asked to end.
    asked: Option<Instant>,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    Report,
    Pipe(usize),
    Arrival,
    Terminal,
    Source,
    Sink,
}

impl<'a> Conversation<'a> {
    /// A talk with the helper that has the other end of `control`.
    pub(super) fn new(control: UnixStream, console: Console<'a>, child: &mut Child) -> Self {
        Self {
            control,
            console,
            heard: Vec::new(),
            talking: true,
            pipes: [
                (Stream::Stdout, child.stdout.take().map(OwnedFd::from)),
                (Stream::Stderr, child.stderr.take().map(OwnedFd::from)),
            ],
            asked: None,
        }
    }

    /// Tells the job; `descriptor` is the command's end of its input.
    pub(super) fn say_job(
        &mut self,
        job: &Job,
        descriptor: Option<OwnedFd>,
    ) -> std::io::Result<()> {
        let text = serde_json::to_vec(job)?;
        let theirs = descriptor.as_ref().map(std::os::fd::AsFd::as_fd);
        let length = (text.len() as u64).to_le_bytes();
        rights::send(&self.control, &length, theirs)?;
        // Who reads there sees the end only when nobody else could write.
        drop(descriptor);
        self.control.write_all(&text)
    }

    /// Passes on what the helper's commands print, and what they are to read, until the helper has nothing more to say;
    /// gives the report.
    pub(super) fn listen(
        mut self,
        output: TakeOutput<'_>,
        interrupt: &Interrupt,
    ) -> std::io::Result<Vec<u8>> {
        let mut buffer = vec![0; 64 * 1024];
        while self.talking
            || self.pipes.iter().any(|(_, pipe)| pipe.is_some())
            || self.console.terminal().is_some()
        {
            self.pass_on(interrupt);
            self.console.follow_size();
            for ready in self.wait()? {
                self.work(ready, &mut buffer, &mut *output)?;
            }
        }
        Ok(self.heard)
    }

    /// What there is to do by now, or within a tick.
    fn wait(&self) -> std::io::Result<Vec<Ready>> {
        let talking = self.talking.then(|| self.control.as_fd());
        let pipe = |at: usize| self.pipes[at].1.as_ref().map(std::os::fd::AsFd::as_fd);
        let watched: [(Ready, Option<BorrowedFd<'_>>, PollFlags); 7] = [
            (Ready::Report, talking, PollFlags::IN),
            (Ready::Pipe(0), pipe(0), PollFlags::IN),
            (Ready::Pipe(1), pipe(1), PollFlags::IN),
            (Ready::Arrival, self.console.arrival(), PollFlags::IN),
            (Ready::Terminal, self.console.terminal(), PollFlags::IN),
            (Ready::Source, self.console.source(), PollFlags::IN),
            (Ready::Sink, self.console.sink(), PollFlags::OUT),
        ];
        let watched = watched
            .iter()
            .filter_map(|(ready, descriptor, flags)| Some((*ready, (*descriptor)?, *flags)));
        let (kinds, mut polled): (Vec<Ready>, Vec<PollFd<'_>>) = watched
            .map(|(ready, descriptor, flags)| (ready, PollFd::from_borrowed_fd(descriptor, flags)))
            .unzip();
        match poll(&mut polled, Some(&TICK)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            other => other?,
        };
        let ready = kinds.into_iter().zip(&polled);
        let ready = ready.filter(|(_, polled)| !polled.revents().is_empty());
        Ok(ready.map(|(ready, _)| ready).collect())
    }

    fn work(
        &mut self,
        ready: Ready,
        buffer: &mut [u8],
        output: TakeOutput<'_>,
    ) -> std::io::Result<()> {
        match ready {
            Ready::Report => {
                let read = self.control.read(buffer).unwrap_or(0);
                self.heard.extend_from_slice(&buffer[..read]);
                self.talking = read > 0;
            }
            Ready::Pipe(at) => {
                let (stream, pipe) = &mut self.pipes[at];
                let Some(open) = pipe else {
                    return Ok(());
                };
                match rustix::io::read(&*open, &mut *buffer) {
                    Ok(0) => *pipe = None,
                    Ok(read) => output(*stream, &buffer[..read]),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ready::Arrival => self.console.arrive()?,
            Ready::Terminal => {
                let said = self.console.read_terminal(buffer);
                if !said.is_empty() {
                    output(Stream::Stdout, said);
                }
            }
            Ready::Source => self.console.feed(buffer),
            Ready::Sink => self.console.drain(),
        }
        Ok(())
    }

    /// Tells the helper of an interrupt, and of the end of its grace.
    #[expect(
        clippy::disallowed_methods,
        reason = "the time that a command has to end reaches no byte"
    )]
    fn pass_on(&mut self, interrupt: &Interrupt) {
        let order = match self.asked {
            None if interrupt.is_set() => order::TERMINATE,
            Some(asked) if asked.elapsed() > GRACE => order::KILL,
            _ => return,
        };
        self.asked.get_or_insert_with(Instant::now);
        // A helper that is gone has ended everything.
        let _ = self.control.write_all(&[order]);
    }
}
