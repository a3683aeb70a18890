//! The text of a template in pieces: plain text, and actions as tokens.

use super::Problem;

/// A piece of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// What is copied.
    Text(String),
    /// What stands between `{{` and `}}`.
    Action(Vec<Token>),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A keyword or a function.
    Word(String),
    /// `.` alone.
    Dot,
    /// `.Name`; whether a space stands before it, so that it begins an argument of its own.
    Field(String, bool),
    /// `$name`, without the `$`.
    Variable(String),
    /// A text in quotes.
    Text(String),
    /// A whole number.
    Number(i64),
    /// One of `|`, `(`, `)`, `,`, `=`.
    Sign(char),
    /// `:=`.
    Declare,
}

/// Splits a template.
pub(super) fn split(text: &str) -> Result<Vec<Piece>, Problem> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some(start) = rest.find("{{") {
        let (before, inside) = (&rest[..start], &rest[start + 2..]);
        let trims_before = inside.starts_with('-') && inside[1..].starts_with(char::is_whitespace);
        let inside = if trims_before { &inside[1..] } else { inside };
        push_text(&mut pieces, before, trim, trims_before);
        let comment = inside.trim_start().strip_prefix("/*");
        let end = match comment {
            Some(comment) => {
                let end = comment.find("*/").ok_or_else(|| open("a comment"))?;
                let after = comment[end + 2..].trim_start();
                inside.len() - after.len()
            }
            None => 0,
        };
        let mut scanner = Scanner {
            text: inside,
            at: end,
            tokens: Vec::new(),
        };
        trim = scanner.action()?;
        rest = &inside[scanner.at..];
        if comment.is_none() {
            pieces.push(Piece::Action(scanner.tokens));
        }
    }
    push_text(&mut pieces, rest, trim, false);
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

fn open(what: &str) -> Problem {
    Problem::new(
        format!("{what} is not closed"),
        "an action is written `{{.Name}}`, a text in double quotes or backquotes",
    )
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
    tokens: Vec<Token>,
}

impl Scanner<'_> {
    /// Reads to the end of the action; gives whether the space behind it is trimmed.
    fn action(&mut self) -> Result<bool, Problem> {
        loop {
            let before = self.at;
            self.skip(char::is_whitespace);
            let spaced = self.at > before || self.tokens.is_empty();
            let rest = &self.text[self.at..];
            if rest.starts_with("}}") {
                self.at += 2;
                return Ok(false);
            }
            if rest.starts_with("-}}") && spaced {
                self.at += 3;
                return Ok(true);
            }
            self.token(spaced)?;
        }
    }

    fn token(&mut self, spaced: bool) -> Result<(), Problem> {
        let rest = &self.text[self.at..];
        let Some(first) = rest.chars().next() else {
            return Err(open("an action"));
        };
        let token = match first {
            '|' | '(' | ')' | ',' | '=' => {
                self.at += 1;
                Token::Sign(first)
            }
            ':' if rest.starts_with(":=") => {
                self.at += 2;
                Token::Declare
            }
            '"' => self.quoted()?,
            '`' => self.raw()?,
            '.' => {
                self.at += 1;
                match self.name() {
                    "" => Token::Dot,
                    name => Token::Field(name.to_owned(), spaced),
                }
            }
            '$' => {
                self.at += 1;
                Token::Variable(self.name().to_owned())
            }
            '0'..='9' | '-' | '+' => self.number()?,
            letter if letter.is_alphabetic() || letter == '_' => {
                Token::Word(self.name().to_owned())
            }
            other => {
                return Err(Problem::new(
                    format!("`{other}` does not belong into an action"),
                    "an action holds fields (`.Name`), functions, texts in quotes and numbers",
                ));
            }
        };
        self.tokens.push(token);
        Ok(())
    }

    fn skip(&mut self, is: impl Fn(char) -> bool) {
        let rest = &self.text[self.at..];
        self.at += rest.find(|letter| !is(letter)).unwrap_or(rest.len());
    }

    fn name(&mut self) -> &str {
        let start = self.at;
        self.skip(|letter| letter.is_alphanumeric() || letter == '_');
        &self.text[start..self.at]
    }

    fn number(&mut self) -> Result<Token, Problem> {
        let start = self.at;
        self.at += 1;
        self.skip(|letter| letter.is_ascii_digit());
        let text = &self.text[start..self.at];
        text.parse().map(Token::Number).map_err(|_| {
            Problem::new(
                format!("`{text}` is no number"),
                "numbers are whole and decimal",
            )
        })
    }

    fn raw(&mut self) -> Result<Token, Problem> {
        let rest = &self.text[self.at + 1..];
        let end = rest.find('`').ok_or_else(|| open("a text"))?;
        self.at += end + 2;
        Ok(Token::Text(rest[..end].to_owned()))
    }

    fn quoted(&mut self) -> Result<Token, Problem> {
        let mut text = String::new();
        let mut letters = self.text[self.at + 1..].char_indices();
        while let Some((place, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.at += place + 2;
                    return Ok(Token::Text(text));
                }
                '\n' => break,
                '\\' => match letters.next().map(|(_, letter)| letter) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some(other @ ('"' | '\\' | '\'')) => text.push(other),
                    Some(other) => {
                        return Err(Problem::new(
                            format!("`\\{other}` means nothing in a text"),
                            "write `\\n`, `\\t`, `\\\"` or `\\\\`, or use backquotes",
                        ));
                    }
                    None => break,
                },
                other => text.push(other),
            }
        }
        Err(open("a text"))
    }
}
