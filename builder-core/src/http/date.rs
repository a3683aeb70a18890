//! Dates in headers (RFC 9110, section 5.6.7): the fixed-length form that servers must send.

use crate::timestamp::Timestamp;

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT`; none for anything else.
pub fn parse(text: &str) -> Option<Timestamp> {
    let time = jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S GMT", text).ok()?;
    let time = time
        .to_datetime()
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?;
    Some(Timestamp::from_seconds(time.timestamp().as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_http_dates() {
        let time = parse("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(time, Some(Timestamp::from_seconds(784_111_777)));
        assert_eq!(parse("yesterday"), None);
    }
}
