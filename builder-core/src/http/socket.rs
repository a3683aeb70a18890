//! A connection that never waits without end: for a silent peer there is a limit, and an interrupt is noticed.
//!
//! While a request's body is sent, the peer is listened to as well: who answers before the end has heard enough, and may
//! have closed the connection already (RFC 9112, section 9.3).

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::interrupt::Interrupt;

/// An interrupt is noticed after so long.
const SLICE: Duration = Duration::from_millis(100);
/// One address of a host is tried for so long at most: another one may answer.
const PER_ADDRESS: Duration = Duration::from_secs(10);

/// The peer answers while it is still being sent to.
#[derive(Debug, thiserror::Error)]
#[error("the server answered before it had heard all")]
struct Answering;

fn answering() -> io::Error {
    io::Error::other(Answering)
}

/// Whether an error says that the peer answers, or has closed: what it said can be read.
pub(super) fn is_answering(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner
        .and_then(|inner| inner.downcast_ref::<Answering>())
        .is_some()
}

fn interrupted() -> io::Error {
    io::Error::other("interrupted")
}

/// A TCP connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    interrupt: Interrupt,
    /// How long the peer may be silent.
    pub(super) patience: Duration,
    /// Whether writing ends when the peer says something.
    pub(super) watching: bool,
}

impl Socket {
    /// Connects to a host, to the first of its addresses that answers.
    pub(super) fn connect(
        address: &str,
        within: Duration,
        patience: Duration,
        interrupt: &Interrupt,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let address = address.to_owned();
        // The system's resolver can't be interrupted: it is left behind where it takes too long.
        std::thread::Builder::new()
            .name("connect".to_owned())
            .spawn(move || sender.send(connect(&address, within)))?;
        let mut left = within + SLICE;
        let stream = loop {
            match receiver.recv_timeout(SLICE) {
                Ok(stream) => break stream?,
                Err(RecvTimeoutError::Timeout) if interrupt.is_set() => return Err(interrupted()),
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => {
                    left = left.saturating_sub(SLICE);
                }
                Err(_) => return Err(timed_out("no connection was made within", within)),
            }
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            interrupt: interrupt.clone(),
            patience,
            watching: false,
        })
    }

    /// Waits until the connection is ready for one of these.
    fn wait(&self, wanted: PollFlags) -> io::Result<PollFlags> {
        let mut waited = Duration::ZERO;
        while waited <= self.patience {
            if self.interrupt.is_set() {
                return Err(interrupted());
            }
            let ready = self.ready(wanted, SLICE)?;
            if !ready.is_empty() {
                return Ok(ready);
            }
            waited += SLICE;
        }
        Err(timed_out("no byte was moved for", self.patience))
    }

    fn ready(&self, wanted: PollFlags, within: Duration) -> io::Result<PollFlags> {
        let mut polled = [PollFd::new(&self.stream, wanted)];
        let within = Timespec {
            tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: within.subsec_nanos().into(),
        };
        match poll(&mut polled, Some(&within)) {
            Ok(_) => Ok(polled[0].revents()),
            Err(rustix::io::Errno::INTR) => Ok(PollFlags::empty()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether nothing has come since the last answer. A connection that has something to say has been closed.
    pub(super) fn is_quiet(&self) -> bool {
        self.ready(PollFlags::IN, Duration::ZERO)
            .is_ok_and(|ready| ready.is_empty())
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::IN)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if self.watching {
                let ready = self.wait(PollFlags::IN | PollFlags::OUT)?;
                if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                    return Err(answering());
                }
            }
            match self.stream.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.watching {
                        self.wait(PollFlags::OUT)?;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.watching && is_closed(&error) => return Err(answering()),
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the peer has closed its side: what it said before may still be read.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn timed_out(what: &str, after: Duration) -> io::Error {
    let text = format!("{what} {} s", after.as_secs_f32());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

fn connect(address: &str, within: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let each = match addresses.len() {
        0 | 1 => within,
        several => PER_ADDRESS.min(within / u32::try_from(several).unwrap_or(u32::MAX).min(3)),
    };
    for address in addresses {
        match TcpStream::connect_timeout(&address, each) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The addresses of a host; none where its name is unknown.
pub(super) fn addresses(host: &str) -> Vec<IpAddr> {
    let found = (host, 0).to_socket_addrs();
    let found = found.into_iter().flatten();
    found.map(|address| address.ip()).collect()
}
