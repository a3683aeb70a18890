//! Answers as they arrive, and where their connections go afterwards.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::Response;
use super::wire::{Connection, Framing, Head};

/// So many connections to one server are kept for the next request.
const MAX_IDLE: usize = 8;

/// Connections that wait for the next request, by the way that they go.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<BTreeMap<String, Vec<Connection>>>);

impl Idle {
    pub(super) fn take(&self, way: &str) -> Option<Connection> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ways = idle.get_mut(way)?;
        while let Some(mut connection) = ways.pop() {
            if connection.is_idle() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, way: String, connection: Connection) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ways = idle.entry(way).or_default();
        if ways.len() < MAX_IDLE {
            ways.push(connection);
        }
    }
}

/// Where a connection goes when an answer was read to its end.
pub(super) type Home = Option<(Arc<Idle>, String)>;

/// The answer that begins with a head.
pub(super) fn response(
    connection: Connection,
    head: Head,
    method: &str,
    home: Home,
) -> io::Result<Response> {
    let framing = head.framing(method)?;
    let home = home.filter(|_| head.keeps_alive());
    let (status, headers) = (head.status, head.headers);
    let mut body = Incoming {
        connection: Some(connection),
        framing,
        home,
    };
    body.settle();
    Ok(Response {
        status,
        headers,
        body: Box::new(body),
    })
}

/// A body as it arrives.
struct Incoming {
    /// None once it has been read to its end.
    connection: Option<Connection>,
    framing: Framing,
    home: Home,
}

impl Incoming {
    /// Gives the connection away once nothing more comes.
    fn settle(&mut self) {
        if matches!(self.framing, Framing::Length(0) | Framing::Chunked(Some(0))) {
            self.release();
        }
    }

    fn release(&mut self) {
        if let (Some(connection), Some((idle, way))) = (self.connection.take(), self.home.take()) {
            idle.keep(way, connection);
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(connection) = &mut self.connection else {
            return Ok(0);
        };
        let read = connection.body(&mut self.framing, buffer);
        match &read {
            Ok(_) => self.settle(),
            // What broke is not to be used again.
            Err(_) => self.home = None,
        }
        read
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let framing = self.framing;
        if self
            .connection
            .as_mut()
            .is_some_and(|one| one.skip_rest(framing))
        {
            self.release();
        }
    }
}
