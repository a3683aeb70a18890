//! Words and the text that they are cut from, with true places in the file even across continuation lines.
//!
//! Follows the Dockerfile reference for how each instruction's arguments are split: at blanks, as words that keep
//! their quotes, or as a JSON array of strings.

use std::ops::Range;

use crate::source::Span;

/// A piece of an instruction as the user wrote it, nothing expanded, with its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// The raw text; continuation marks are already gone.
    pub text: String,
    /// From its first to its last character in the file; covers the line breaks that it spans.
    pub span: Span,
}

/// One logical line: physical lines joined, with the way back from each character to its offset in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    joined: String,
    pieces: Vec<(usize, usize)>,
    fixed: Option<Span>,
}

impl Text {
    /// Text that has no place of its own in the file: everything in it is blamed on `span`.
    pub fn fixed(text: &str, span: Span) -> Self {
        Self {
            joined: text.to_owned(),
            pieces: Vec::new(),
            fixed: Some(span),
        }
    }

    /// Appends `piece`, which starts at the file's byte `offset`.
    pub fn push(&mut self, piece: &str, offset: usize) {
        self.pieces.push((self.joined.len(), offset));
        self.joined.push_str(piece);
    }

    /// The joined text.
    pub fn as_str(&self) -> &str {
        &self.joined
    }

    /// The part of the joined text in `range`, or nothing where the range isn't in the text.
    pub fn slice(&self, range: Range<usize>) -> &str {
        self.joined.get(range).unwrap_or_default()
    }

    /// The offset in the file of the byte at `at`.
    fn offset(&self, at: usize) -> usize {
        // Pieces without a character begin where the next one does; the last of them counts.
        let behind = self.pieces.partition_point(|(start, _)| *start <= at);
        let piece = self.pieces[..behind].last();
        piece.map_or(at, |(start, offset)| offset + (at - start))
    }

    /// The place in the file of the bytes in `range`.
    pub fn span(&self, range: Range<usize>) -> Span {
        if let Some(span) = self.fixed {
            return span;
        }
        let start = self.offset(range.start);
        if range.end <= range.start {
            return Span::new(start, start);
        }
        Span::new(start, self.offset(range.end - 1) + 1)
    }

    /// The word in `range`.
    pub fn word(&self, range: Range<usize>) -> Word {
        Word {
            text: self.slice(range.clone()).to_owned(),
            span: self.span(range),
        }
    }

    /// `range` without blanks at either end.
    pub fn trim(&self, range: Range<usize>) -> Range<usize> {
        let text = self.slice(range.clone());
        let start = range.start + (text.len() - text.trim_start().len());
        start..start + text.trim().len()
    }
}

/// What separates words: space, tab, vertical tab, form feed, carriage return.
pub fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

/// Words separated by blanks; quotes mean nothing.
pub fn blank_separated(text: &Text, range: Range<usize>) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.slice(range.clone()).char_indices() {
        match (is_blank(c), start) {
            (true, Some(first)) => {
                words.push(range.start + first..range.start + at);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    if let Some(first) = start {
        words.push(range.start + first..range.end);
    }
    words
}

/// Words of ENV, LABEL and ARG: quotes group and stay, the escape character keeps the next character in the word.
pub fn quoted_words(text: &Text, range: Range<usize>, escape: char) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start: Option<usize> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.slice(range.clone()).char_indices().peekable();
    let mut end = range.end;
    while let Some((at, c)) = characters.next() {
        if quote.is_none() && c.is_whitespace() {
            if let Some(first) = start.take() {
                words.push(range.start + first..range.start + at);
            }
            continue;
        }
        start.get_or_insert(at);
        if c == escape && quote != Some('\'') {
            // An escape character that ends the line is dropped.
            if characters.next().is_none() {
                end = range.start + at;
            }
        } else if Some(c) == quote {
            quote = None;
        } else if quote.is_none() && matches!(c, '"' | '\'') {
            quote = Some(c);
        }
    }
    if let Some(first) = start.filter(|first| range.start + first < end) {
        words.push(range.start + first..end);
    }
    words
}

/// How a text reads as the JSON form of an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonForm {
    /// Not a JSON array: the shell form.
    No,
    /// An array of strings, each with its place.
    Strings(Vec<Word>),
    /// A JSON array that holds something else than strings: an error.
    Mixed,
}

/// Reads `range` as a JSON array of strings, if the whole of it is one.
pub fn json_form(text: &Text, range: Range<usize>) -> JsonForm {
    let range = text.trim(range);
    let source = text.slice(range.clone());
    if !source.starts_with('[') {
        return JsonForm::No;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(source) else {
        return JsonForm::No;
    };
    let places = string_places(source);
    let mut words = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let serde_json::Value::String(value) = value else {
            return JsonForm::Mixed;
        };
        let place = places.get(index).cloned().unwrap_or(0..source.len());
        words.push(Word {
            text: value,
            span: text.span(range.start + place.start..range.start + place.end),
        });
    }
    JsonForm::Strings(words)
}

/// Where the string literals of valid JSON stand, quotes included.
fn string_places(source: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut open: Option<usize> = None;
    let mut escaped = false;
    for (at, byte) in source.bytes().enumerate() {
        match (byte, open) {
            _ if escaped => escaped = false,
            (b'\\', Some(_)) => escaped = true,
            (b'"', Some(start)) => {
                places.push(start..at + 1);
                open = None;
            }
            (b'"', None) => open = Some(at),
            _ => {}
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, ranges: Vec<Range<usize>>) -> Vec<&str> {
        ranges.into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn splits_words_and_keeps_their_quotes() {
        for (line, words) in [
            ("a=b c=d", vec!["a=b", "c=d"]),
            ("a=\"b c\" d", vec!["a=\"b c\"", "d"]),
            (r"a=b\ c d='x \' e", vec![r"a=b\ c", r"d='x \'", "e"]),
            (r#"a="x\" y" z"#, vec![r#"a="x\" y""#, "z"]),
            (r"a=b\", vec!["a=b"]),
            ("", vec![]),
            (r"\", vec![]),
        ] {
            let text = Text::fixed(line, Span::default());
            assert_eq!(
                cut(line, quoted_words(&text, 0..line.len(), '\\')),
                words,
                "{line}"
            );
        }
    }

    #[test]
    fn joined_text_knows_its_places() {
        let mut text = Text::default();
        text.push("ab", 10);
        text.push("cd", 20);
        assert_eq!(text.span(0..4), Span::new(10, 22));
        assert_eq!(text.span(2..3), Span::new(20, 21));
        assert_eq!(text.span(1..2), Span::new(11, 12));
        assert_eq!(text.span(4..4), Span::new(22, 22));
    }

    #[test]
    fn json_is_json_or_a_shell_text() {
        for (line, strings) in [
            (r#"["a", "b\"c"]"#, Some(vec!["a", "b\"c"])),
            ("[]", Some(vec![])),
            ("['a']", None),
            (r#"["a"] b"#, None),
            (r#"["a",]"#, None),
        ] {
            let text = Text::fixed(line, Span::default());
            let found = match json_form(&text, 0..line.len()) {
                JsonForm::Strings(words) => {
                    Some(words.into_iter().map(|word| word.text).collect::<Vec<_>>())
                }
                JsonForm::No | JsonForm::Mixed => None,
            };
            assert_eq!(
                found,
                strings.map(|list| list.into_iter().map(str::to_owned).collect()),
                "{line}"
            );
        }
        let text = Text::fixed("[1]", Span::default());
        assert_eq!(json_form(&text, 0..3), JsonForm::Mixed);
    }
}
