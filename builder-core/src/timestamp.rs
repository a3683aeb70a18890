//! Points in time, always handed in: nothing in this library reads a clock.
//!
//! A file keeps its mtime in nanoseconds while it is compared, and in whole seconds in a layer. `SOURCE_DATE_EPOCH`
//! follows the specification of reproducible-builds.org: a time later than the epoch becomes the epoch.

use std::fmt;

/// A point in time: seconds since 1970-01-01 00:00:00 UTC, which may be negative, and nanoseconds from 0 to
/// 999,999,999 after that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1,000,000,000.
    pub nanos: u32,
}

impl Timestamp {
    /// A time in whole seconds since 1970.
    pub fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// The time of day that `std` gives, for the program that reads the clock.
    pub fn from_system_time(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Self {
                seconds: after.as_secs().cast_signed(),
                nanos: after.subsec_nanos(),
            },
            Err(before) => Self::from_seconds(-(before.duration().as_secs().cast_signed())),
        }
    }

    /// This time, or `epoch` where this is later.
    #[must_use]
    pub fn clamp_to(self, epoch: Option<Self>) -> Self {
        epoch.map_or(self, |epoch| self.min(epoch))
    }

    /// RFC 3339 in UTC, as `created` holds it: `2026-11-20T12:00:00Z`, with a fraction where there is one.
    /// Times beyond the years -9999 to 9999 print as the nearest of these years' ends.
    pub fn to_rfc3339(self) -> String {
        let fraction = i32::try_from(self.nanos).unwrap_or(0);
        let limit = if self.seconds < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        };
        jiff::Timestamp::new(self.seconds, fraction)
            .unwrap_or(limit)
            .to_string()
    }

    /// Reads RFC 3339; none where `text` is something else.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        let whole = time.as_second() - i64::from(time.subsec_nanosecond() < 0);
        let nanos = time.subsec_nanosecond().rem_euclid(1_000_000_000);
        Some(Self {
            seconds: whole,
            nanos: nanos.unsigned_abs(),
        })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_reads_rfc3339() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (1_600_000_000, 0, "2020-09-13T12:26:40Z"),
            (1_600_000_000, 5_000_000, "2020-09-13T12:26:40.005Z"),
            (-1, 500_000_000, "1969-12-31T23:59:59.5Z"),
        ] {
            let time = Timestamp { seconds, nanos };
            assert_eq!(time.to_rfc3339(), text);
            assert_eq!(Timestamp::parse_rfc3339(text), Some(time));
        }
    }

    #[test]
    fn clamps_only_later_times() {
        let epoch = Some(Timestamp::from_seconds(10));
        assert_eq!(
            Timestamp {
                seconds: 10,
                nanos: 1
            }
            .clamp_to(epoch),
            Timestamp::from_seconds(10)
        );
        assert_eq!(
            Timestamp::from_seconds(9).clamp_to(epoch),
            Timestamp::from_seconds(9)
        );
        assert_eq!(
            Timestamp::from_seconds(11).clamp_to(None),
            Timestamp::from_seconds(11)
        );
    }
}
