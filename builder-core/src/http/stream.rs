//! Bytes to and from a server: as they are, within TLS, or within TLS in TLS through a proxy.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::socket::{Socket, is_answering};

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    /// Plain.
    Plain(Socket),
    /// Within TLS.
    Tls(Box<Tls>),
}

/// TLS on top of another connection.
#[derive(Debug)]
pub(super) struct Tls {
    connection: ClientConnection,
    below: Stream,
    /// Whether anything came from the server yet.
    heard: bool,
}

impl Stream {
    /// Begins TLS on a connection, and ends when both sides agree.
    ///
    /// # Errors
    /// An inner [`rustls::Error`] where they don't.
    pub(super) fn begin_tls(
        below: Self,
        config: Arc<ClientConfig>,
        host: &str,
    ) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut tls = Tls {
            connection,
            below,
            heard: false,
        };
        while tls.connection.is_handshaking() {
            tls.send()?;
            if tls.connection.is_handshaking() && tls.receive()? == 0 {
                let text = if tls.heard {
                    "the server closed the connection while TLS was being agreed on"
                } else {
                    NO_HELLO
                };
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
        }
        tls.send()?;
        Ok(Self::Tls(Box::new(tls)))
    }

    /// The connection below all TLS.
    pub(super) fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.below.socket(),
        }
    }
}

/// What is said of a server that closes the connection at the first word of TLS.
pub(super) const NO_HELLO: &str = "the server closed the connection instead of beginning TLS";

impl Tls {
    /// Sends what waits to be sent.
    fn send(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut self.below) {
                Ok(_) => {}
                // Something came: what TLS itself has to say is none of the answer.
                Err(error) if is_answering(&error) => {
                    let count = self.receive()?;
                    if count == 0 || self.has_plain_text()? {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes what has come, and waits for it; 0 at the end.
    fn receive(&mut self) -> io::Result<usize> {
        let count = self.connection.read_tls(&mut self.below)?;
        self.heard |= count > 0;
        self.process()?;
        Ok(count)
    }

    fn process(&mut self) -> io::Result<usize> {
        match self.connection.process_new_packets() {
            Ok(state) => Ok(state.plaintext_bytes_to_read()),
            Err(error) => {
                // The other side learns why, where it still listens.
                let _ = self.connection.write_tls(&mut self.below);
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    fn has_plain_text(&mut self) -> io::Result<bool> {
        Ok(self.process()? > 0)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let tls = match self {
            Self::Plain(socket) => return socket.read(buffer),
            Self::Tls(tls) => tls,
        };
        loop {
            match tls.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tls.send()?;
                    tls.receive()?;
                }
                done => return done,
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let tls = match self {
            Self::Plain(socket) => return socket.write(bytes),
            Self::Tls(tls) => tls,
        };
        let count = tls.connection.writer().write(bytes)?;
        tls.send()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(tls) => tls.send(),
        }
    }
}
