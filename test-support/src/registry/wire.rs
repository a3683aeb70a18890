//! The double's HTTP: requests read and answers sent by hand, so that they can be wrong on demand.

use super::answers::answer;
use super::*;
use flate2::write::GzEncoder;

/// An answer in the making.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn error(status: u16, code: &str) -> Self {
        let mut answer = Self::new(status);
        answer.body = format!(r#"{{"errors":[{{"code":"{code}","message":"no"}}]}}"#).into_bytes();
        answer
    }
}

/// A request in the reading.
pub(super) struct Incoming {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: BTreeMap<String, Vec<String>>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
    pub(super) full: String,
}

pub(super) fn serve(connection: &TcpStream, state: &Mutex<State>, address: SocketAddr) {
    let _ = connection.set_nodelay(true);
    let mut reader = BufReader::new(connection);
    while let Some(request) = read_request(&mut reader) {
        let (answer, fault) = {
            let mut state = state
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let fault = take_fault(&mut state, &request);
            let answer = match &fault {
                Some(Fault::Answer(status, headers, body)) => Some(Answer {
                    status: *status,
                    headers: headers.clone(),
                    body: body.clone().into_bytes(),
                }),
                Some(Fault::Reset) => None,
                other => Some(answer(&mut state, &request, address, other.as_ref())),
            };
            state.seen.push(Seen {
                method: request.method.clone(),
                path: request.full.clone(),
                headers: request.headers.clone(),
                body: request.body.len(),
                status: answer.as_ref().map_or(0, |answer| answer.status),
            });
            (answer, fault)
        };
        let Some(answer) = answer else {
            return;
        };
        if send(connection, &request, answer, fault.as_ref()).is_none() {
            return;
        }
    }
}

pub(super) fn take_fault(state: &mut State, request: &Incoming) -> Option<Fault> {
    let rule = state.rules.iter_mut().find(|rule| {
        rule.times > 0 && rule.method == request.method && request.full.contains(&rule.part)
    })?;
    rule.times -= 1;
    Some(rule.fault.clone())
}

pub(super) fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Incoming> {
    // A client that begins TLS is sent away.
    if *reader.fill_buf().ok()?.first()? == 0x16 {
        return None;
    }
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, full) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = full.split_once('?').unwrap_or((&full, ""));
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for field in query.split('&').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        fields
            .entry(name.to_owned())
            .or_default()
            .push(decode(value));
    }
    Some(Incoming {
        method,
        path: path.to_owned(),
        query: fields,
        headers,
        body,
        full: full.clone(),
    })
}

pub(super) fn decode(value: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), value.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' && after.len() >= 2 {
            let hex = std::str::from_utf8(&after[..2]).unwrap();
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}

pub(super) fn send(
    mut to: &TcpStream,
    request: &Incoming,
    answer: Answer,
    fault: Option<&Fault>,
) -> Option<()> {
    let mut body = answer.body;
    let mut announced = body.len();
    match fault {
        Some(Fault::Zipped) => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&body).ok()?;
            body = encoder.finish().ok()?;
            announced = body.len();
        }
        Some(Fault::Short(length)) => {
            body.truncate(*length);
            announced = body.len();
        }
        Some(Fault::Long(more)) => {
            body.extend(vec![b'x'; *more]);
            announced = body.len();
        }
        Some(Fault::Cut(length)) => body.truncate(*length),
        Some(Fault::Lie) => body.iter_mut().for_each(|byte| *byte ^= 1),
        _ => {}
    }
    let mut head = format!(
        "HTTP/1.1 {} x\r\nContent-Length: {announced}\r\n",
        answer.status
    );
    if matches!(fault, Some(Fault::Zipped)) {
        head.push_str("Content-Encoding: gzip\r\n");
    }
    for (name, value) in &answer.headers {
        head.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
    }
    head.push_str("\r\n");
    to.write_all(head.as_bytes()).ok()?;
    if request.method == "HEAD" {
        return Some(());
    }
    let (piece, pause) = match fault {
        Some(Fault::Trickle(piece, pause)) => (*piece, *pause),
        _ => (usize::MAX, Duration::ZERO),
    };
    for chunk in body.chunks(piece.clamp(1, body.len().max(1))) {
        to.write_all(chunk).ok()?;
        std::thread::sleep(pause);
    }
    (body.len() == announced).then_some(())
}
