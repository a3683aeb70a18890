//! The output of commands as lines: what comes in pieces is put together, and a line without end is shown in parts.

use std::collections::BTreeMap;

use builder_core::event::StepId;

/// A longer line is shown in parts of so many bytes.
const LONGEST: usize = 64 * 1024;

/// Output that is not a whole line yet.
#[derive(Debug, Default)]
pub(crate) struct Lines(BTreeMap<StepId, Vec<u8>>);

impl Lines {
    /// Takes what a step printed, and calls `show` with each line that is whole.
    pub(crate) fn push(&mut self, id: StepId, bytes: &[u8], mut show: impl FnMut(&[u8])) {
        let partial = self.0.entry(id).or_default();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            // Each byte is looked at once, however long the line grows.
            partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                show(without_end(partial));
                partial.clear();
            }
            while partial.len() >= LONGEST {
                let rest = partial.split_off(LONGEST);
                show(partial);
                *partial = rest;
            }
        }
    }

    /// Gives the line that a step left without its end.
    pub(crate) fn finish(&mut self, id: StepId) -> Option<Vec<u8>> {
        self.0.remove(&id).filter(|rest| !rest.is_empty())
    }
}

/// A line without the characters that end it.
fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_cut() {
        let mut lines = Lines::default();
        let mut seen: Vec<Vec<u8>> = Vec::new();
        let (one, two) = (StepId(1), StepId(2));
        for (id, bytes) in [
            (one, &b"a"[..]),
            (two, b"x\ny"),
            (one, b"b \r\nc"),
            (one, b"\n\n"),
        ] {
            lines.push(id, bytes, |line| seen.push(line.to_vec()));
        }
        assert_eq!(seen, [&b"x"[..], b"ab", b"c", b""]);
        assert_eq!(
            (lines.finish(one), lines.finish(two)),
            (None, Some(b"y".to_vec()))
        );
        let (mut count, mut length) = (0, 0);
        for _ in 0..100 {
            lines.push(one, &[b'x'; 10_000], |line| {
                count += 1;
                length += line.len();
            });
        }
        let rest = lines.finish(one).unwrap();
        assert_eq!((count, length + rest.len()), (15, 1_000_000));
        assert!(rest.len() < LONGEST);
    }
}
