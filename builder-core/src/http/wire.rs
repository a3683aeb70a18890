//! HTTP/1.1 on a connection: a request's head out, an answer's head in, a body as its framing says.
//!
//! Follows RFC 9112. Limits are on bytes, not on the number of lines: what stands in front of a registry adds lines by
//! the hundred. Lines that are folded (section 5.2), and lines that end without a CR, are read.

use std::io::{self, Read, Write as _};

use super::stream::Stream;

/// An answer's head is at most so long, in bytes.
const MAX_HEAD: usize = 512 << 10;
/// A line between chunks is at most so long, in bytes.
const MAX_CHUNK_LINE: usize = 4096;
/// So much is read in one go.
const BUFFER: usize = 64 << 10;

/// A connection with what was read from it and not used yet.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    /// Whether anything of the present answer came.
    pub(super) heard: bool,
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    minor: u8,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes of the present chunk are left; none before the first.
    Chunked(Option<u64>),
    /// As long as the connection.
    ToTheEnd,
}

fn odd(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn broke_off() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the connection was closed before the end of the answer",
    )
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            start: 0,
            heard: false,
        }
    }

    /// Whether the next answer on it can only be that of the next request.
    pub(super) fn is_idle(&mut self) -> bool {
        self.start == self.buffer.len() && self.stream.socket().is_quiet()
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.resize(BUFFER, 0);
        self.start = 0;
        let read = self.stream.read(&mut self.buffer);
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        self.heard |= !self.buffer.is_empty();
        read
    }

    fn byte(&mut self) -> io::Result<u8> {
        if self.start == self.buffer.len() && self.fill()? == 0 {
            return Err(broke_off());
        }
        self.start += 1;
        Ok(self.buffer[self.start - 1])
    }

    /// A line without its end; `left` is what may still be read.
    fn line(&mut self, left: &mut usize) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            let byte = self.byte()?;
            *left = left
                .checked_sub(1)
                .ok_or_else(|| odd("the head of the answer is far too long"))?;
            match byte {
                b'\n' => {
                    if line.last() == Some(&b'\r') {
                        line.pop();
                    }
                    return Ok(line);
                }
                other => line.push(other),
            }
        }
    }

    /// Reads the head of the answer. Those that only say that one will come are passed over.
    pub(super) fn head(&mut self) -> io::Result<Head> {
        let mut left = MAX_HEAD;
        loop {
            let head = self.one_head(&mut left)?;
            if !(100..200).contains(&head.status) || head.status == 101 {
                return Ok(head);
            }
        }
    }

    fn one_head(&mut self, left: &mut usize) -> io::Result<Head> {
        let first = self.line(left)?;
        let (minor, status) = status_line(&first).ok_or_else(|| odd("the answer is no HTTP"))?;
        let mut headers: Vec<(String, String)> = Vec::new();
        loop {
            let line = self.line(left)?;
            if line.is_empty() {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            if text.starts_with([' ', '\t']) {
                if let Some((_, value)) = headers.last_mut() {
                    value.push(' ');
                    value.push_str(text.trim());
                }
                continue;
            }
            // A line without a colon is passed over, as others do.
            if let Some((name, value)) = text.split_once(':') {
                let name = name.trim_end().to_ascii_lowercase();
                headers.push((name, value.trim().to_owned()));
            }
        }
        Ok(Head {
            status,
            headers,
            minor,
        })
    }

    /// Reads some of a body.
    pub(super) fn body(&mut self, framing: &mut Framing, out: &mut [u8]) -> io::Result<usize> {
        let limit = match framing {
            Framing::Length(0) | Framing::Chunked(Some(0)) => return Ok(0),
            Framing::Length(left) => *left,
            Framing::ToTheEnd => u64::MAX,
            Framing::Chunked(_) => self.chunk(framing)?,
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(out.len());
        if limit == 0 {
            return Ok(0);
        }
        let ready = self.buffer.len() - self.start;
        let read = if ready > 0 {
            let count = ready.min(limit);
            out[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
            self.start += count;
            count
        } else {
            self.stream.read(&mut out[..limit])?
        };
        match framing {
            Framing::ToTheEnd => return Ok(read),
            _ if read == 0 => return Err(broke_off()),
            Framing::Length(left) | Framing::Chunked(Some(left)) => *left -= read as u64,
            Framing::Chunked(None) => {}
        }
        if matches!(framing, Framing::Chunked(Some(0))) {
            self.end_of_chunk()?;
            *framing = Framing::Chunked(None);
            // The last chunk is looked for at once, so that the connection is free when the last byte was read.
            if self.start < self.buffer.len() {
                self.chunk(framing)?;
            }
        }
        Ok(read)
    }

    /// The bytes that are left of the present chunk; begins the next one. 0 is the end of the body.
    fn chunk(&mut self, framing: &mut Framing) -> io::Result<u64> {
        if let Framing::Chunked(Some(left)) = framing {
            return Ok(*left);
        }
        let mut left = MAX_CHUNK_LINE;
        let line = self.line(&mut left)?;
        let text = String::from_utf8_lossy(&line);
        let digits = text.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).ok();
        let size = size
            .filter(|_| !digits.starts_with('+'))
            .ok_or_else(|| odd("a chunk of the answer has no length"))?;
        if size == 0 {
            let mut left = MAX_HEAD;
            while !self.line(&mut left)?.is_empty() {}
        }
        *framing = Framing::Chunked(Some(size));
        Ok(size)
    }

    fn end_of_chunk(&mut self) -> io::Result<()> {
        if self.line(&mut 2_usize)?.is_empty() {
            return Ok(());
        }
        Err(odd("a chunk of the answer is longer than it says"))
    }

    /// Drops what is left of a body, where all of it is here already. Whether the connection is free then.
    pub(super) fn skip_rest(&mut self, framing: Framing) -> bool {
        let ready = (self.buffer.len() - self.start) as u64;
        match framing {
            Framing::Length(left) if left <= ready => {
                self.start += usize::try_from(left).unwrap_or(0);
                true
            }
            Framing::Chunked(Some(0)) => true,
            _ => false,
        }
    }

    /// Sends bytes.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }
}

impl Head {
    /// Makes it the last answer of its connection.
    pub(super) fn close(&mut self) {
        let close = ("connection".to_owned(), "close".to_owned());
        self.headers.push(close);
    }

    fn words(&self, name: &str) -> Vec<String> {
        self.headers
            .iter()
            .filter(|(known, _)| known == name)
            .flat_map(|(_, value)| value.split(','))
            .map(|word| word.trim().to_ascii_lowercase())
            .collect()
    }

    /// Whether the connection serves another request after this answer.
    pub(super) fn keeps_alive(&self) -> bool {
        let words = self.words("connection");
        let says = |word: &str| words.iter().any(|one| one == word);
        !says("close") && (self.minor > 0 || says("keep-alive"))
    }

    /// How long the body is (section 6.3).
    pub(super) fn framing(&self, method: &str) -> io::Result<Framing> {
        if method == "HEAD" || matches!(self.status, 204 | 304) || self.status < 200 {
            return Ok(Framing::Length(0));
        }
        let codings = self.words("transfer-encoding");
        match codings.last().map(String::as_str) {
            Some("chunked") if codings.len() == 1 => return Ok(Framing::Chunked(None)),
            Some("identity") | None => {}
            Some(_) => return Err(odd("the answer is encoded in a way that nobody asked for")),
        }
        let mut lengths = self.words("content-length");
        lengths.dedup();
        match lengths.as_slice() {
            [] => Ok(Framing::ToTheEnd),
            [one] if one.bytes().all(|digit| digit.is_ascii_digit()) => one
                .parse()
                .map(Framing::Length)
                .map_err(|_| odd("the answer has no sensible length")),
            _ => Err(odd("the answer has no sensible length")),
        }
    }
}

/// `HTTP/1.1 200 OK`: the minor version and the status.
fn status_line(line: &[u8]) -> Option<(u8, u16)> {
    let text = std::str::from_utf8(line.get(..line.len().min(16))?).ok()?;
    let rest = text.strip_prefix("HTTP/1.")?;
    let (minor, rest) = rest.split_once(' ')?;
    let status = rest.trim_start().get(..3)?.parse().ok()?;
    Some((minor.parse().ok()?, status))
}
