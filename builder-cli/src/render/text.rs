//! What a Dockerfile, a command, a registry or a file's name says, made fit for a terminal: text and colour, nothing that
//! moves the cursor, switches the screen, sets a title or fills the clipboard.
//!
//! Two ways: a live view shows what a terminal would, and leaves out what a terminal would act on; lines for pipes and
//! files lose nothing, and show such bytes escaped.

use std::fmt::Write as _;

use vte::{Params, Parser, Perform};

/// Ends all colours.
const RESET: &str = "\u{1b}[0m";

/// A text with everything that is more than text and colour escaped: `\x1b`, `\u{9b}`. Ends of lines and tabs stay.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if let Some(length) = colour(rest) {
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        push(&mut out, character);
        rest = &rest[character.len_utf8()..];
    }
    out
}

/// A text with a star for each character of a password in a URL: `https://me:****@host/`.
pub(crate) fn without_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`');
        let authority = &after[..after.find(ends).unwrap_or(after.len())];
        rest = after;
        let user = authority.rfind('@').map(|end| &authority[..end]);
        if let Some((name, password)) = user.and_then(|user| user.split_once(':')) {
            out.push_str(name);
            out.push(':');
            out.extend(password.chars().map(|_| '*'));
            rest = &after[name.len() + 1 + password.len()..];
        }
    }
    out.push_str(rest);
    out
}

/// A text as [`shown`], of bytes that may be no text.
pub(crate) fn shown_bytes(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.push_str(&shown(chunk.valid()));
        for byte in chunk.invalid() {
            // Writing to a string can't fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    if out.contains('\u{1b}') {
        out.push_str(RESET);
    }
    out
}

fn push(out: &mut String, character: char) {
    let harmless = matches!(character, '\n' | '\t') || !acts(character);
    match character {
        _ if harmless => out.push(character),
        '\r' => out.push_str("\\r"),
        // Writing to a string can't fail.
        '\0'..='\x7f' => {
            let _ = write!(out, "\\x{:02x}", u32::from(character));
        }
        _ => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
        }
    }
}

/// Whether a terminal does something else with a character than to show it: controls, and what turns the direction of the
/// text around it.
fn acts(character: char) -> bool {
    let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || turns
}

/// The length of the sequence that sets a colour (ECMA-48, SGR) at the front of a text; none where there is another.
fn colour(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("\u{1b}[")?;
    let length = rest.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'))?;
    rest[length..].starts_with('m').then_some(length + 3)
}

/// A line of JSON in which nothing is left that a terminal would act on: JSON itself leaves the controls beyond ASCII.
pub(crate) fn json(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for character in line.chars() {
        if acts(character) {
            // Writing to a string can't fail.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

/// One line of a command's output as a terminal would show it in the end, colours included.
pub(crate) fn on_terminal(line: &[u8]) -> String {
    let mut screen = Screen::default();
    Parser::new().advance(&mut screen, line);
    if screen.coloured {
        screen.text.push_str(RESET);
    }
    screen.text
}

/// A line of a screen.
#[derive(Default)]
struct Screen {
    text: String,
    /// The cursor went back to the beginning: what comes replaces what is there.
    returned: bool,
    coloured: bool,
}

impl Perform for Screen {
    fn print(&mut self, character: char) {
        if std::mem::take(&mut self.returned) {
            self.text.clear();
        }
        if !acts(character) {
            self.text.push(character);
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\t' => self.text.push('\t'),
            b'\r' => self.returned = true,
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        if action != 'm' || ignore || !intermediates.is_empty() {
            return;
        }
        let part = |numbers: &[u16]| {
            let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
            numbers.join(":")
        };
        let parts: Vec<String> = params.iter().map(part).collect();
        // Writing to a string can't fail.
        let _ = write!(self.text, "\u{1b}[{}m", parts.join(";"));
        self.coloured = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_starred() {
        for (text, expected) in [
            (
                "ADD https://me:se\u{e9}@h/r.git /x",
                "ADD https://me:***@h/r.git /x",
            ),
            ("https://me:a@b:c@h", "https://me:*****@h"),
            ("git://h:1/a@b, http://u:p@h", "git://h:1/a@b, http://u:*@h"),
            ("https://me@h ://:x@ ://", "https://me@h ://:*@ ://"),
        ] {
            assert_eq!(without_passwords(text), expected);
        }
    }

    #[test]
    fn only_text_and_colour_reach_a_terminal() {
        for (bytes, on, off) in [
            (&b"plain \xc3\xa9"[..], "plain é", "plain é"),
            (
                b"\x1b[31mred",
                "\u{1b}[31mred\u{1b}[0m",
                "\u{1b}[31mred\u{1b}[0m",
            ),
            (
                b"\x1b[1;38:2:1:2:3mx",
                "\u{1b}[1;38:2:1:2:3mx\u{1b}[0m",
                "\u{1b}[1;38:2:1:2:3mx\u{1b}[0m",
            ),
            (b"\x1b]0;TITLE\x07x", "x", "\\x1b]0;TITLE\\x07x"),
            (
                b"\x1b]52;c;ZXZpbA==\x1b\\x",
                "x",
                "\\x1b]52;c;ZXZpbA==\\x1b\\x",
            ),
            (b"\x1b[2J\x1b[1Aup", "up", "\\x1b[2J\\x1b[1Aup"),
            (b"\x1b[?1049hx", "x", "\\x1b[?1049hx"),
            (b"\x1b[>4;2mx", "x", "\\x1b[>4;2mx"),
            (b"\x1bcx", "x", "\\x1bcx"),
            (b"\x1bP1$r0m\x1b\\x", "x", "\\x1bP1$r0m\\x1b\\x"),
            (b"10%\r20%", "20%", "10%\\r20%"),
            (b"a\x08b\x00c\x7f", "abc", "a\\x08b\\x00c\\x7f"),
            (
                "\u{9b}31mx\u{9d}0;t\u{9c}".as_bytes(),
                "31mx0;t",
                "\\u{9b}31mx\\u{9d}0;t\\u{9c}",
            ),
            ("a\u{202e}b".as_bytes(), "ab", "a\\u{202e}b"),
            (b"\xff", "\u{fffd}", "\\xff"),
            (b"\x1b[31", "", "\\x1b[31"),
            (b"\x1b", "", "\\x1b"),
        ] {
            assert_eq!(on_terminal(bytes), on, "{bytes:?}");
            let expected = off.to_owned();
            assert_eq!(shown_bytes(bytes), expected, "{bytes:?}");
        }
        assert_eq!(shown("a\n\tb\u{7}"), "a\n\tb\\x07");
    }
}
