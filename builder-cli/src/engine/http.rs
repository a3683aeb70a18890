//! A request to Docker's API over a socket of this machine: a head, a body in pieces, an answer.
//!
//! Registries have a client of their own; this one knows neither proxies nor TLS, and speaks to a socket in the file
//! system.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use builder_core::interrupt::Interrupt;

use super::choose::Endpoint;

/// An answer with more bytes is none of Docker's.
const MAX_ANSWER: u64 = 16 << 20;
/// How long a call to the socket may keep an interrupt waiting.
const PATIENCE: Duration = Duration::from_millis(100);

/// A status and a body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// A connection that listens to the interrupt.
struct Stream<'i> {
    socket: Socket,
    interrupt: &'i Interrupt,
}

enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream<'_> {
    fn retry<T>(&mut self, mut work: impl FnMut(&mut Socket) -> io::Result<T>) -> io::Result<T> {
        loop {
            if self.interrupt.is_set() {
                return Err(io::Error::other("interrupted"));
            }
            match work(&mut self.socket) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) => {}
                done => return done,
            }
        }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.retry(|socket| match socket {
            Socket::Unix(socket) => socket.read(buffer),
            Socket::Tcp(socket) => socket.read(buffer),
        })
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(|socket| match socket {
            Socket::Unix(socket) => socket.write(bytes),
            Socket::Tcp(socket) => socket.write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends a request, with what a pipe gives as its body, and reads the answer.
pub(super) fn ask(
    endpoint: &Endpoint,
    method: &str,
    path: &str,
    body: Option<File>,
    interrupt: &Interrupt,
) -> io::Result<Answer> {
    let socket = match endpoint {
        Endpoint::Unix(path) => {
            let socket = UnixStream::connect(path)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Socket::Unix(socket)
        }
        Endpoint::Tcp(address) => {
            let socket = TcpStream::connect(address)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Socket::Tcp(socket)
        }
    };
    let mut stream = Stream { socket, interrupt };
    let kind = match body {
        Some(_) => "Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n",
        None => "Content-Length: 0\r\n",
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: docker\r\nUser-Agent: rbuild\r\nConnection: close\r\n{kind}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    if let Some(body) = body {
        // An engine that refuses says why before it has read everything: its answer counts more than the broken pipe.
        let sent = send(&mut stream, body);
        let answer = receive(&mut stream);
        return match (sent, answer) {
            (Err(problem), Err(_)) => Err(problem),
            (_, answer) => answer,
        };
    }
    receive(&mut stream)
}

fn send(stream: &mut Stream<'_>, mut body: File) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let taken = body.read(&mut buffer)?;
        stream.write_all(format!("{taken:x}\r\n").as_bytes())?;
        stream.write_all(&buffer[..taken])?;
        stream.write_all(b"\r\n")?;
        if taken == 0 {
            return Ok(());
        }
    }
}

fn receive(stream: &mut Stream<'_>) -> io::Result<Answer> {
    let mut reader = BufReader::new(stream.take(MAX_ANSWER));
    let (status, chunked) = loop {
        let (status, chunked) = head(&mut reader)?;
        if status != 100 {
            break (status, chunked);
        }
    };
    let mut body = Vec::new();
    if !chunked {
        // The connection is closed behind the answer.
        reader.read_to_end(&mut body)?;
        return Ok(Answer { status, body });
    }
    loop {
        let line = line(&mut reader)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| nonsense())?;
        if size == 0 {
            return Ok(Answer { status, body });
        }
        let before = body.len() as u64;
        (&mut reader).take(size).read_to_end(&mut body)?;
        if body.len() as u64 - before != size {
            return Err(nonsense());
        }
        self::line(&mut reader)?;
    }
}

/// The status of an answer, and whether its body comes in pieces.
fn head(reader: &mut impl io::BufRead) -> io::Result<(u16, bool)> {
    let first = line(reader)?;
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| {
        let status = rest.split(' ').nth(1)?;
        status.parse().ok()
    });
    let status = status.ok_or_else(nonsense)?;
    let mut chunked = false;
    loop {
        let line = line(reader)?.to_ascii_lowercase();
        if line.is_empty() {
            return Ok((status, chunked));
        }
        chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
    }
}

fn line(reader: &mut impl io::BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(nonsense());
    }
    Ok(line.trim_end().to_owned())
}

fn nonsense() -> io::Error {
    let message = "what answers there is no engine of Docker's, or it broke off";
    io::Error::new(io::ErrorKind::InvalidData, message)
}
