//! A source file and the places in it: what a diagnostic points at.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// The text of a Dockerfile or of an ignore file, with the name to show for it.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// How the user named the file: `Dockerfile`, `ci/app.Dockerfile`, `-`.
    pub name: String,
    /// The whole text. Cloning is cheap.
    pub text: Arc<str>,
    /// Of the text; made when a place is asked for.
    table: Arc<OnceLock<Table>>,
}

impl PartialEq for SourceFile {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.text) == (&other.name, &other.text)
    }
}

impl Eq for SourceFile {}

/// A range of bytes in a [`SourceFile`]: `start` inclusive, `end` exclusive, both on character boundaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
}

/// A place as people count: lines and columns start at 1, and a column is a character, not a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Span {
    /// The range `start..end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The smallest span that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

impl SourceFile {
    /// A file with its name and text.
    pub fn new(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
            table: Arc::default(),
        }
    }

    /// A file whose bytes may not all be UTF-8, as in comments of another encoding. A byte that is part of no character
    /// stands in the text as a character of the last private plane, which [`odd_byte`] reads back.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let mut text = String::new();
                for chunk in error.as_bytes().utf8_chunks() {
                    text.push_str(chunk.valid());
                    text.extend(chunk.invalid().iter().map(|byte| odd(*byte)));
                }
                text
            }
        };
        Self::new(name, text)
    }

    /// Line and column of the byte at `offset`; an offset behind the end counts as the end. The lines are found once, so
    /// that a file of many problems costs its length.
    pub fn position(&self, offset: usize) -> Position {
        let table = self.table();
        let offset = self.text.floor_char_boundary(offset.min(self.text.len()));
        let line = table.starts.partition_point(|start| *start <= offset);
        let start = table.starts[..line].last().copied().unwrap_or(0);
        Position {
            line: line.max(1),
            column: self.characters(offset) - self.characters(start) + 1,
        }
    }

    /// The place of the line that holds the byte at `offset`, its end of line included.
    pub fn line_at(&self, offset: usize) -> Range<usize> {
        let starts = &self.table().starts;
        let line = starts.partition_point(|start| *start <= offset);
        let start = starts[..line].last().copied().unwrap_or(0);
        start..starts.get(line).copied().unwrap_or(self.text.len())
    }

    /// Number of characters before the byte at `offset`.
    fn characters(&self, offset: usize) -> usize {
        let (table, block) = (self.table(), offset / BLOCK);
        let before = table.characters.get(block).copied().unwrap_or(0);
        before + count(&self.text.as_bytes()[block * BLOCK..offset])
    }

    fn table(&self) -> &Table {
        self.table.get_or_init(|| {
            let bytes = self.text.as_bytes();
            let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            let starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1));
            let mut sum = 0;
            let characters = bytes.chunks(BLOCK).map(|block| {
                let before = sum;
                sum += count(block);
                before
            });
            Table {
                characters: characters.collect(),
                starts: starts.collect(),
            }
        })
    }

    /// The text that `span` covers.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }
}

/// Bytes between two entries of the table of characters.
const BLOCK: usize = 1024;

/// Where lines begin, and how many characters are before each block of bytes.
#[derive(Debug)]
struct Table {
    starts: Vec<usize>,
    characters: Vec<usize>,
}

/// The characters that begin in some bytes of UTF-8.
fn count(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

/// The first of the characters that stand for bytes: the end of the last private plane, where no text has any.
const ODD: u32 = 0x0010_ff00;

/// What stands in a text for a byte that is part of no character.
fn odd(byte: u8) -> char {
    char::from_u32(ODD + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that a character stands for.
pub fn odd_byte(character: char) -> Option<u8> {
    u8::try_from(u32::from(character).checked_sub(ODD)?).ok()
}

/// The bytes that a text was made of.
pub fn to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match odd_byte(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// A text as a JSON document can hold it: with the replacement character for each byte that is part of none.
pub fn replaced(text: &str) -> String {
    let replace = |character| match odd_byte(character) {
        Some(_) => char::REPLACEMENT_CHARACTER,
        None => character,
    };
    text.chars().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_come_back() {
        let bytes = b"# \xe9t\xe9 \xc3\xa9\n\xff";
        let file = SourceFile::from_bytes("Dockerfile", bytes.to_vec());
        assert_eq!(to_bytes(&file.text), bytes);
        assert_eq!(replaced(&file.text), String::from_utf8_lossy(bytes));
        assert_eq!(
            file.text.chars().filter_map(odd_byte).collect::<Vec<_>>(),
            [0xe9, 0xe9, 0xff]
        );
    }

    #[test]
    fn counts_lines_and_characters_from_one() {
        let file = SourceFile::new("Dockerfile", "ab\ncé d\n");
        for (offset, line, column) in [(0, 1, 1), (2, 1, 3), (3, 2, 1), (6, 2, 3), (99, 3, 1)] {
            assert_eq!(file.position(offset), Position { line, column }, "{offset}");
        }
    }
}
