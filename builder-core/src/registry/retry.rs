//! When a request is sent again: pure decisions, and the one place that waits.
//!
//! Follows RFC 9110, section 10.2.3 (`Retry-After`). What a server refuses for a reason is not asked again; what it
//! could not do now, and what broke on the way, is, each time after a longer pause.

use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::insecure::Insecure;
use crate::http::proxy::{is_loopback, split};
use crate::http::{self, Request, Response, Transport, Url};
use crate::interrupt::Interrupt;

/// Time as the registry room sees it: answered in place of the world in tests.
pub trait Clock: Sync {
    /// Time since some moment in the past.
    fn elapsed(&self) -> Duration;
    /// Waits.
    fn sleep(&self, pause: Duration);
}

/// The real clock.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the age of a token is measured, and reaches no byte"
    )]
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, pause: Duration) {
        std::thread::sleep(pause);
    }
}

/// How often a request is sent in all.
pub(crate) const ATTEMPTS: u32 = 5;
/// The first pause; each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A server that wants a longer pause is reported instead.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// An interrupt is noticed after so long.
const SLICE: Duration = Duration::from_millis(100);

/// The pause after the attempt with this number, from 1.
pub(crate) fn backoff(attempt: u32) -> Duration {
    FIRST_PAUSE * 2_u32.pow(attempt.saturating_sub(1).min(6))
}

/// Whether a status says that the same request may work later.
pub(crate) fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Whether a failure may be none the next time.
pub(crate) fn may_pass(error: &http::Error) -> bool {
    matches!(
        error,
        http::Error::Unreachable { .. } | http::Error::Proxy { passes: true, .. }
    )
}

/// What `Retry-After` says, as a pause. A date is taken relative to the server's own `Date`.
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.header("retry-after")?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = http::date::parse(value)?.seconds;
    let now = http::date::parse(response.header("date")?)?.seconds;
    Some(Duration::from_secs(
        then.saturating_sub(now).max(0).unsigned_abs(),
    ))
}

/// How long to wait before the next attempt; none where there is no point in one, or no attempt left.
pub(crate) fn pause(
    attempt: u32,
    outcome: &std::result::Result<Response, http::Error>,
) -> Option<Duration> {
    if attempt >= ATTEMPTS {
        return None;
    }
    match outcome {
        Ok(response) if is_temporary(response.status) => {
            let wanted = retry_after(response).unwrap_or_default();
            (wanted <= LONGEST_PAUSE).then(|| wanted.max(backoff(attempt)))
        }
        Err(error) if may_pass(error) => Some(backoff(attempt)),
        _ => None,
    }
}

/// A transport that tries again.
pub(crate) struct Link<'a> {
    pub(crate) transport: &'a dyn Transport,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) insecure: Insecure<'a>,
}

impl Link<'_> {
    /// Sends a request, follows redirects, and tries again where that may help.
    pub(crate) fn send(&self, request: &Request) -> Result<Response> {
        self.send_times(request, ATTEMPTS)
            .map(|(response, _)| response)
    }

    /// The same with so many attempts at most; and the URL that answered in the end.
    pub(crate) fn send_times(
        &self,
        request: &Request,
        attempts: u32,
    ) -> Result<(Response, String)> {
        // Attempts that are not granted count as made.
        let mut attempt = 1 + ATTEMPTS.saturating_sub(attempts);
        loop {
            let outcome = self.once(request, &|_| ())?;
            let outcome = outcome.map(|(response, url)| (Ok(response), url));
            let (outcome, url) = outcome.unwrap_or_else(|error| (Err(error), String::new()));
            match pause(attempt, &outcome) {
                Some(pause) => self.wait(pause)?,
                None => return Ok((outcome?, url)),
            }
            attempt += 1;
        }
    }

    /// Sends a request once; `sent` is told how much of a file is on its way. The answer, and the URL that gave it.
    pub(crate) fn once(
        &self,
        request: &Request,
        sent: &dyn Fn(u64),
    ) -> Result<std::result::Result<(Response, String), http::Error>> {
        self.check()?;
        let mut request = request.clone();
        self.trust(&mut request);
        let admit = |from: &Url, next: &mut Request| self.admit(from, next);
        Ok(http::follow_by(self.transport, &request, sent, &admit))
    }

    /// Whether certificates are checked: not those of a host that was named insecure, nor those of what a registry that
    /// was named insecure names.
    fn trust(&self, request: &mut Request) {
        let (_, authority) = http::authority(&request.url);
        let names = [Some(&authority), request.trust.registry.as_ref()];
        request.trust.unchecked = names
            .into_iter()
            .flatten()
            .any(|name| self.insecure.contains(name, self.transport));
    }

    /// A redirect may go on in TLS; from there to plain HTTP only where that is allowed.
    fn admit(&self, from: &Url, next: &mut Request) -> std::result::Result<(), http::Error> {
        self.trust(next);
        let (scheme, authority) = http::authority(&next.url);
        if from.is_tls() && scheme == "http" && !self.may_be_plain(&authority) {
            return Err(http::Error::Downgrade {
                from: http::for_message(&from.to_string()),
                url: http::for_message(&next.url),
            });
        }
        Ok(())
    }

    /// Whether a host may be spoken to without TLS: this machine, and what the user named.
    pub(crate) fn may_be_plain(&self, authority: &str) -> bool {
        is_loopback(split(authority).0) || self.insecure.contains(authority, self.transport)
    }

    /// Waits, unless someone asks to stop.
    pub(crate) fn wait(&self, pause: Duration) -> Result<()> {
        let mut left = pause;
        while !left.is_zero() {
            self.check()?;
            let slice = left.min(SLICE);
            self.clock.sleep(slice);
            left -= slice;
        }
        Ok(())
    }

    /// Fails once someone asked to stop.
    pub(crate) fn check(&self) -> Result<()> {
        if self.interrupt.is_set() {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)]) -> Response {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Response {
            status,
            headers: headers.iter().map(own).collect(),
            body: Box::new(std::io::empty()),
        }
    }

    #[test]
    fn pauses_follow_the_server_and_grow() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let later = "Sun, 06 Nov 1994 08:49:40 GMT";
        for (attempt, status, headers, expected) in [
            (1, 200, vec![], None),
            (1, 404, vec![], None),
            (1, 401, vec![], None),
            (1, 500, vec![], Some(250)),
            (2, 503, vec![], Some(500)),
            (4, 502, vec![], Some(2000)),
            (5, 502, vec![], None),
            (1, 429, vec![("retry-after", "3")], Some(3000)),
            (3, 429, vec![("retry-after", "0")], Some(1000)),
            (1, 429, vec![("retry-after", "3600")], None),
            (1, 429, vec![("retry-after", "soon")], Some(250)),
            (
                1,
                503,
                vec![("retry-after", later), ("date", date)],
                Some(3000),
            ),
            (1, 503, vec![("retry-after", later)], Some(250)),
            (1, 501, vec![], None),
        ] {
            let found = pause(attempt, &Ok(answer(status, &headers)));
            let expected = expected.map(Duration::from_millis);
            assert_eq!(found, expected, "{attempt} {status} {headers:?}");
        }
        let url = String::new;
        let reason = String::new;
        let broken = Err(http::Error::Unreachable {
            url: url(),
            reason: reason(),
        });
        assert_eq!(pause(1, &broken), Some(Duration::from_millis(250)));
        let distrusted = Err(http::Error::Certificate {
            url: url(),
            problem: http::CertificateProblem::Expired,
        });
        assert_eq!(pause(1, &distrusted), None);
    }
}
