//! The builder's end of a command's input: a pipe, or the master of the command's terminal, which the helper hands over.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::termios::Winsize;

use super::rights;
use super::streams::Input;

/// The size of a terminal that follows no other.
const SIZE: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

/// The builder's end.
pub(super) struct Console<'a> {
    /// Where bytes for the command come from, until they end.
    from: Option<BorrowedFd<'a>>,
    /// Where they go.
    to: Option<OwnedFd>,
    /// What was read and could not be passed on yet.
    pending: Vec<u8>,
    /// The terminal whose size counts.
    window: Option<BorrowedFd<'a>>,
    size: Option<Winsize>,
    /// Where the master of the terminal will arrive.
    arrival: Option<UnixStream>,
    is_terminal: bool,
}

impl<'a> Console<'a> {
    /// The two ends of an input; the second is for the helper.
    pub(super) fn open(input: Input<'a>) -> std::io::Result<(Self, Option<OwnedFd>)> {
        let mut console = Self {
            from: None,
            to: None,
            pending: Vec::new(),
            window: None,
            size: None,
            arrival: None,
            is_terminal: false,
        };
        match input {
            Input::Nothing => Ok((console, None)),
            Input::Bytes(from) => {
                let (theirs, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
                rustix::io::ioctl_fionbio(&ours, true)?;
                (console.from, console.to) = (Some(from), Some(ours));
                Ok((console, Some(theirs)))
            }
            Input::Terminal { keys, window } => {
                let (ours, theirs) = UnixStream::pair()?;
                (console.from, console.window) = (keys, window);
                console.arrival = Some(ours);
                console.is_terminal = true;
                Ok((console, Some(theirs.into())))
            }
        }
    }

    /// Where the master arrives, as long as it hasn't.
    pub(super) fn arrival(&self) -> Option<BorrowedFd<'_>> {
        self.arrival.as_ref().map(std::os::fd::AsFd::as_fd)
    }

    /// Takes the master.
    pub(super) fn arrive(&mut self) -> std::io::Result<()> {
        let Some(arrival) = self.arrival.take() else {
            return Ok(());
        };
        // A helper that failed before sends none.
        let (_, master) = rights::receive(&arrival, &mut [0])?;
        if let Some(master) = &master {
            rustix::io::ioctl_fionbio(master, true)?;
        }
        self.to = master;
        self.follow_size();
        Ok(())
    }

    /// What the command prints comes from here, if it has a terminal.
    pub(super) fn terminal(&self) -> Option<BorrowedFd<'_>> {
        let master = self.to.as_ref().filter(|_| self.is_terminal);
        master.map(std::os::fd::AsFd::as_fd)
    }

    /// Reads what the command printed on its terminal; nothing when nobody is left to print.
    pub(super) fn read_terminal<'b>(&mut self, buffer: &'b mut [u8]) -> &'b [u8] {
        let Some(master) = self.terminal() else {
            return &[];
        };
        match rustix::io::read(master, &mut *buffer) {
            Ok(0) => self.to = None,
            Ok(read) => return &buffer[..read],
            Err(Errno::AGAIN | Errno::INTR) => {}
            // `EIO`: the other side is closed everywhere.
            Err(_) => self.to = None,
        }
        &[]
    }

    /// What is to be read for the command, when there is room for it.
    pub(super) fn source(&self) -> Option<BorrowedFd<'a>> {
        self.from
            .filter(|_| self.to.is_some() && self.pending.is_empty())
    }

    /// Where something waits to be written.
    pub(super) fn sink(&self) -> Option<BorrowedFd<'_>> {
        let to = self.to.as_ref().filter(|_| !self.pending.is_empty());
        to.map(std::os::fd::AsFd::as_fd)
    }

    /// Reads from the source, and passes on.
    pub(super) fn feed(&mut self, buffer: &mut [u8]) {
        let Some(source) = self.source() else {
            return;
        };
        match rustix::io::read(source, &mut *buffer) {
            Ok(0) | Err(Errno::IO) => self.end_input(),
            Ok(read) => self.pending.extend_from_slice(&buffer[..read]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.end_input(),
        }
        self.drain();
    }

    fn end_input(&mut self) {
        self.from = None;
        if !self.is_terminal {
            // The command reads the end of its input.
            self.to = None;
        }
    }

    /// Writes what waits, as far as there is room.
    pub(super) fn drain(&mut self) {
        let Some(to) = self.to.as_ref().filter(|_| !self.pending.is_empty()) else {
            return;
        };
        match rustix::io::write(to, &self.pending) {
            Ok(written) => {
                self.pending.drain(..written);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody reads any more.
            Err(_) => {
                self.pending.clear();
                self.from = None;
            }
        }
    }

    /// Gives the command's terminal the size of the caller's.
    pub(super) fn follow_size(&mut self) {
        let Some(master) = self.to.as_ref().filter(|_| self.is_terminal) else {
            return;
        };
        let window = self.window.map(rustix::termios::tcgetwinsize);
        let size = window.and_then(Result::ok).unwrap_or(SIZE);
        if self.size != Some(size) {
            // Terminals without a size work too.
            let _ = rustix::termios::tcsetwinsize(master.as_fd(), size);
            self.size = Some(size);
        }
    }
}
