//! From a file to logical lines: comments left out, continuations joined, heredoc bodies taken.
//!
//! Follows the Dockerfile reference ("Format", "escape", "Here-Documents"). Every logical line keeps the way back to
//! the file's offsets.

use crate::source::Span;

use super::heredoc::{Heredoc, Marker};
use super::hints;
use super::word::Text;

/// A comment line directly above an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// What follows the `#`, without blanks around it.
    pub text: String,
    /// The whole comment, `#` included.
    pub span: Span,
}

/// One instruction's text.
#[derive(Clone, Debug, Default)]
pub struct LogicalLine {
    /// The joined text; leading blanks are gone.
    pub text: Text,
    /// From its first character to the last of its last physical line.
    pub span: Span,
    /// The block of comments directly above.
    pub comments: Vec<Comment>,
    /// Blank lines inside the continuation.
    pub empty_lines: Vec<Span>,
    /// Characters that nobody sees behind a continuation mark; the line is taken as continued.
    pub hidden: Vec<Span>,
}

/// One line of the file.
#[derive(Clone, Copy, Debug)]
struct PhysicalLine<'a> {
    start: usize,
    /// Without the line's end (LF or CR LF).
    text: &'a str,
    /// With it.
    whole: &'a str,
}

impl PhysicalLine<'_> {
    fn is_comment(&self) -> bool {
        self.text.trim_start().starts_with('#')
    }

    fn span(&self) -> Span {
        let lead = self.text.len() - self.text.trim_start().len();
        Span::new(
            self.start + lead,
            self.start + lead + self.text.trim().len(),
        )
    }
}

/// Reads logical lines from a text.
#[derive(Debug)]
pub struct Lines<'a> {
    source: &'a str,
    position: usize,
    escape: char,
}

impl<'a> Lines<'a> {
    /// Starts at the file's byte `position`; `escape` is the continuation mark.
    pub fn new(source: &'a str, position: usize, escape: char) -> Self {
        Self {
            source,
            position,
            escape,
        }
    }

    fn next_physical(&mut self) -> Option<PhysicalLine<'a>> {
        let start = self.position;
        let rest = self.source.get(start..).filter(|rest| !rest.is_empty())?;
        let whole = rest.split_inclusive('\n').next().unwrap_or(rest);
        self.position = start + whole.len();
        let text = whole.strip_suffix('\n').unwrap_or(whole);
        let text = text.strip_suffix('\r').unwrap_or(text);
        Some(PhysicalLine { start, text, whole })
    }

    /// `text` without the continuation mark at its end, if it has one that counts.
    fn without_mark<'t>(&self, text: &'t str) -> Option<&'t str> {
        let before = text
            .trim_end_matches([' ', '\t'])
            .strip_suffix(self.escape)?;
        (!before.ends_with(self.escape)).then_some(before)
    }

    /// The same where invisible characters stand behind the mark, which are noted.
    fn before_mark<'t>(
        &self,
        text: &'t str,
        start: usize,
        hidden: &mut Vec<Span>,
    ) -> Option<&'t str> {
        let Some(seen) = hints::before_invisible_end(text) else {
            return self.without_mark(text);
        };
        let before = self.without_mark(seen)?;
        hidden.push(Span::new(start + seen.len(), start + text.len()));
        Some(before)
    }

    /// The next instruction's line; none at the end of the file.
    pub fn next_line(&mut self) -> Option<LogicalLine> {
        let mut line = LogicalLine::default();
        loop {
            let physical = self.next_physical()?;
            if physical.is_comment() {
                note_comment(&mut line.comments, physical);
                continue;
            }
            let text = physical.text.trim_start();
            let start = physical.start + (physical.text.len() - text.len());
            if text.is_empty() {
                line.comments.clear();
                continue;
            }
            line.span = physical.span();
            match self.before_mark(text, start, &mut line.hidden) {
                None => line.text.push(text, start),
                Some(before) => {
                    line.text.push(before, start);
                    self.continue_line(&mut line);
                }
            }
            return Some(line);
        }
    }

    /// Appends continuation lines up to the first that isn't continued.
    fn continue_line(&mut self, line: &mut LogicalLine) {
        while let Some(physical) = self.next_physical() {
            if physical.is_comment() {
                continue;
            }
            if physical.text.trim().is_empty() {
                line.empty_lines.push(Span::new(
                    physical.start,
                    physical.start + physical.text.len(),
                ));
                continue;
            }
            line.span = line.span.to(physical.span());
            let before = self.before_mark(physical.text, physical.start, &mut line.hidden);
            let Some(before) = before else {
                line.text.push(physical.text, physical.start);
                return;
            };
            line.text.push(before, physical.start);
        }
    }

    /// Takes the body of a heredoc from the lines that follow. On failure nothing is taken, so that reading goes on
    /// with the line after the instruction.
    pub fn take_heredoc(&mut self, marker: &Marker) -> Option<Heredoc> {
        let before = self.position;
        let mut content = String::new();
        while let Some(physical) = self.next_physical() {
            let candidate = if marker.chomp {
                physical.text.trim_start_matches('\t')
            } else {
                physical.text
            };
            if candidate == marker.name {
                let body = Span::new(before, physical.start);
                return Some(Heredoc::new(marker, content, body, physical.span()));
            }
            content.push_str(physical.whole);
        }
        self.position = before;
        None
    }
}

fn note_comment(comments: &mut Vec<Comment>, line: PhysicalLine<'_>) {
    let text = line.text.trim_start().trim_start_matches('#').trim();
    if text.is_empty() {
        comments.clear();
    } else {
        comments.push(Comment {
            text: text.to_owned(),
            span: line.span(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_continuations() {
        for (source, lines) in [
            ("A b\\\n  c\nD", vec!["A b  c", "D"]),
            ("A \\\n# gone\n\n b", vec!["A  b"]),
            ("A b\\\\\nC", vec!["A b\\\\", "C"]),
            ("A \\ \t\nb", vec!["A b"]),
            ("\\\nA", vec!["A"]),
            ("A \\", vec!["A "]),
            ("# c\r\n  A b\r\n", vec!["A b"]),
        ] {
            let mut reader = Lines::new(source, 0, '\\');
            let found: Vec<String> = std::iter::from_fn(|| reader.next_line())
                .map(|line| line.text.as_str().to_owned())
                .collect();
            assert_eq!(found, lines, "{source:?}");
        }
    }

    #[test]
    fn comments_directly_above_belong_to_the_instruction() {
        let mut reader = Lines::new("# a\n#\n# b\n# c\nX\n# d\n\nY\n", 0, '\\');
        let texts = |line: LogicalLine| -> Vec<String> {
            line.comments.into_iter().map(|one| one.text).collect()
        };
        assert_eq!(
            reader.next_line().map(texts),
            Some(vec!["b".to_owned(), "c".to_owned()])
        );
        assert_eq!(reader.next_line().map(texts), Some(vec![]));
    }
}
