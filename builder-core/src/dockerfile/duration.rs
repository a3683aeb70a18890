//! Durations as Go writes and reads them (`1m30s`, `500ms`): HEALTHCHECK's flags and its history text.

use std::fmt::Write as _;
use std::time::Duration;

const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
];

/// Reads a duration; the error is a fragment that says what is wrong with it.
pub fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err("is empty".to_owned());
    }
    let mut nanos = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                .len();
        let (number, after) = rest.split_at(digits);
        let number: f64 = number
            .parse()
            .map_err(|_| format!("`{text}` is no duration"))?;
        let letters = after.len() - after.trim_start_matches(char::is_alphabetic).len();
        let (unit, after) = after.split_at(letters);
        if unit.is_empty() {
            return Err(format!("`{text}` has no unit"));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("`{text}` has the unknown unit `{unit}`"));
        };
        nanos += number * scale;
        rest = after;
    }
    if nanos > 9.2e18 {
        return Err(format!("`{text}` is too long"));
    }
    Ok(Duration::from_secs_f64(nanos / 1e9).max(whole_nanos(nanos)))
}

/// The exact nanoseconds where a float still holds them.
#[allow(clippy::cast_sign_loss, reason = "the number was read without a sign")]
fn whole_nanos(nanos: f64) -> Duration {
    Duration::from_nanos(nanos as u64)
}

/// Prints as Go does: `0s`, `500ms`, `1m30s`, `2h0m0s`.
pub fn print(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (limit, unit, scale) in [
        (1_000, "ns", 1),
        (1_000_000, "µs", 1_000),
        (1_000_000_000, "ms", 1_000_000),
    ] {
        if nanos > 0 && nanos < limit {
            return format!("{}{unit}", decimal(nanos, scale));
        }
    }
    let seconds = duration.as_secs();
    let mut text = String::new();
    if seconds >= 3600 {
        let _ = write!(text, "{}h", seconds / 3600);
    }
    if seconds >= 60 {
        let _ = write!(text, "{}m", seconds / 60 % 60);
    }
    let rest = nanos - u128::from(seconds / 60) * 60_000_000_000;
    let _ = write!(text, "{}s", decimal(rest, 1_000_000_000));
    text
}

/// `value / scale` with as many decimal places as it needs.
fn decimal(value: u128, scale: u128) -> String {
    let whole = value / scale;
    let part = value % scale;
    if part == 0 {
        return whole.to_string();
    }
    let width = scale.to_string().len() - 1;
    let digits = format!("{part:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_like_go() {
        for (text, printed) in [
            ("0", "0s"),
            ("5s", "5s"),
            ("90s", "1m30s"),
            ("500ms", "500ms"),
            ("2h", "2h0m0s"),
            ("1.5s", "1.5s"),
            ("1h1.5s", "1h0m1.5s"),
            ("1500us", "1.5ms"),
        ] {
            assert_eq!(parse(text).map(print), Ok(printed.to_owned()), "{text}");
        }
        for text in ["", "5", "x", "5y", "-1s", "1.2.3s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
