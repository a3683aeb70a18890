//! Extended headers of PAX: records, and the numbers and times in them (POSIX, pax, "pax Extended Header").

use std::collections::BTreeMap;

use super::error::TarProblem;
use super::sparse;
use crate::timestamp::Timestamp;

/// A decimal number without sign.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A time with sign and fraction: `-1.25` is a quarter before one second before 1970.
pub(super) fn time(text: &[u8]) -> Option<Timestamp> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanos = 0;
    let fraction = parts.next().unwrap_or_default();
    for position in 0..9 {
        let digit = fraction.get(position).copied().unwrap_or(b'0');
        nanos = nanos * 10 + u32::from(char::from(digit).to_digit(10)? as u8);
    }
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(match (negative, nanos) {
        (false, _) => Timestamp {
            seconds: whole,
            nanos,
        },
        (true, 0) => Timestamp {
            seconds: -whole,
            nanos,
        },
        (true, _) => Timestamp {
            seconds: -whole - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

/// The records of an extended header: `LENGTH KEY=VALUE\n`, the last of a key wins.
pub(super) fn parse_records(mut body: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, TarProblem> {
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    while !body.is_empty() {
        let (record, rest) = split_record(body).ok_or(TarProblem::Extension)?;
        let mut parts = record.splitn(2, |byte| *byte == b'=');
        let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
            return Err(TarProblem::Extension);
        };
        if sparse::is_repeated(key) {
            let map = records.entry(sparse::MAP.to_vec()).or_default();
            if !map.is_empty() {
                map.push(b',');
            }
            map.extend_from_slice(value);
        } else {
            records.insert(key.to_vec(), value.to_vec());
        }
        body = rest;
    }
    Ok(records)
}

fn split_record(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let digits = body.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&body[..digits])?).ok()?;
    let (record, rest) = body.split_at_checked(length)?;
    Some((record.get(digits + 1..)?.strip_suffix(b"\n")?, rest))
}
