//! Expansion of variables, quotes and escapes in one word.
//!
//! Follows the Dockerfile reference, "Environment replacement", and Docker's own answers where it says nothing: the
//! word never splits, and an unset name is the empty string.

mod problem;

use std::iter::Peekable;
use std::str::CharIndices;

use crate::diagnostic::Diagnostic;
use crate::source::Span;

use problem::{Problem, diagnostic, problem, required, unclosed, unsupported};

use super::pattern;
use super::word::Word;

/// A word after expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The value.
    pub value: String,
    /// Names that were used without a default and have no value, in order.
    pub unset: Vec<String>,
    /// Every name that was looked at, in order.
    pub used: Vec<String>,
}

/// How quotes are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// An instruction's word: quotes group and go.
    Word,
    /// A heredoc's body: quotes are text, and the escape character is always the backslash.
    Heredoc,
}

/// Expands words with the values that `lookup` knows.
#[derive(Clone, Copy)]
pub struct Expander<'a> {
    /// The escape character of the file.
    pub escape: char,
    /// A name's value; none where it is unset.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl std::fmt::Debug for Expander<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expander")
            .field("escape", &self.escape)
            .finish_non_exhaustive()
    }
}

impl Expander<'_> {
    /// Expands an instruction's word. The error points at the part of the word that is wrong.
    pub fn word(&self, word: &Word) -> Result<Expanded, Diagnostic> {
        self.run(&word.text, self.escape, Mode::Word)
            .map_err(|problem| diagnostic(problem, &word.text, word.span))
    }

    /// Expands the body of an unquoted heredoc: quotes stay, a backslash keeps the next character and goes.
    pub fn heredoc(&self, body: &str, span: Span) -> Result<Expanded, Diagnostic> {
        self.run(body, '\\', Mode::Heredoc)
            .map_err(|problem| diagnostic(problem, body, span))
    }

    fn run(&self, text: &str, escape: char, mode: Mode) -> Result<Expanded, Problem> {
        let mut reader = Reader {
            characters: text.char_indices().peekable(),
            length: text.len(),
            depth: 0,
            escape,
            raw: None,
            mode,
            lookup: self.lookup,
            unset: Vec::new(),
            used: Vec::new(),
        };
        let value = reader.until(None, None, 0)?;
        Ok(Expanded {
            value,
            unset: reader.unset,
            used: reader.used,
        })
    }
}

/// Longer than any value that makes sense, in bytes; a name that doubles itself line by line stops here.
const MAX_VALUE: usize = 16 << 20;

/// Deeper nesting than anyone writes; keeps hostile text off the stack.
const MAX_DEPTH: u32 = 100;

struct Reader<'t, 'l> {
    characters: Peekable<CharIndices<'t>>,
    length: usize,
    depth: u32,
    escape: char,
    /// What an escape character leaves behind where it stays: in patterns and replacements.
    raw: Option<char>,
    mode: Mode,
    lookup: &'l dyn Fn(&str) -> Option<String>,
    unset: Vec<String>,
    used: Vec<String>,
}

impl Reader<'_, '_> {
    fn peek(&mut self) -> Option<char> {
        self.characters.peek().map(|(_, c)| *c)
    }

    fn next(&mut self) -> Option<char> {
        self.characters.next().map(|(_, c)| c)
    }

    fn position(&mut self) -> usize {
        self.characters.peek().map_or(self.length, |(at, _)| *at)
    }

    fn value_of(&mut self, name: &str) -> Option<String> {
        self.used.push(name.to_owned());
        (self.lookup)(name)
    }

    /// Text up to `stop` (which is taken) or to the end. With `raw`, an escape character leaves that behind.
    fn until(
        &mut self,
        stop: Option<char>,
        raw: Option<char>,
        opened: usize,
    ) -> Result<String, Problem> {
        let outer = std::mem::replace(&mut self.raw, raw);
        let found = self.text_until(stop, opened);
        self.raw = outer;
        found
    }

    fn text_until(&mut self, stop: Option<char>, opened: usize) -> Result<String, Problem> {
        let mut result = String::new();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.next();
                return Ok(result);
            }
            match c {
                '$' => {
                    let at = self.position();
                    result.push_str(&self.dollar()?);
                    if result.len() > MAX_VALUE {
                        return Err(problem(at, "the value grows beyond 16 MiB here"));
                    }
                }
                '\'' if self.mode == Mode::Word => self.single_quotes(&mut result)?,
                '"' if self.mode == Mode::Word => self.double_quotes(&mut result)?,
                _ => {
                    self.next();
                    if c != self.escape {
                        result.push(c);
                    } else if let Some(next) = self.next() {
                        result.extend(self.raw);
                        result.push(next);
                    }
                }
            }
        }
        match stop {
            None => Ok(result),
            Some(stop) => Err(unclosed(stop, opened)),
        }
    }

    fn single_quotes(&mut self, result: &mut String) -> Result<(), Problem> {
        let opened = self.position();
        self.next();
        while let Some(c) = self.next() {
            if c == '\'' {
                return Ok(());
            }
            result.push(c);
        }
        Err(problem(opened, "the single quote is not closed"))
    }

    fn double_quotes(&mut self, result: &mut String) -> Result<(), Problem> {
        let opened = self.position();
        self.next();
        while let Some(c) = self.peek() {
            if c == '$' {
                result.push_str(&self.dollar()?);
                continue;
            }
            self.next();
            match c {
                '"' => return Ok(()),
                _ if c == self.escape => {
                    result.extend(self.raw);
                    match self.peek() {
                        Some(next) if matches!(next, '"' | '$') || next == self.escape => {
                            self.next();
                            result.push(next);
                        }
                        Some(_) => result.push(c),
                        None => {}
                    }
                }
                _ => result.push(c),
            }
        }
        Err(problem(opened, "the double quote is not closed"))
    }

    /// `$name` and `${…}`; a `$` before anything else is itself.
    fn dollar(&mut self) -> Result<String, Problem> {
        let opened = self.position();
        self.next();
        if self.peek() == Some('{') {
            self.next();
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(problem(opened, "the substitutions are nested too deeply"));
            }
            let value = self.braces(opened);
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(self.plain(&name))
    }

    fn plain(&mut self, name: &str) -> String {
        self.value_of(name).unwrap_or_else(|| {
            self.unset.push(name.to_owned());
            String::new()
        })
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        let digits = self.peek().is_some_and(char::is_numeric);
        while let Some(c) = self.peek() {
            let first = name.is_empty();
            if first && "@*#?-$!".contains(c) {
                self.next();
                return c.to_string();
            }
            let belongs = if digits {
                c.is_numeric()
            } else {
                c.is_alphanumeric() || c == '_'
            };
            if !belongs {
                break;
            }
            name.push(c);
            self.next();
        }
        name
    }

    fn braces(&mut self, opened: usize) -> Result<String, Problem> {
        let name = match self.peek() {
            Some('{' | '}' | ':') | None => String::new(),
            Some(_) => self.name(),
        };
        if name.is_empty() {
            let what = if self.peek().is_none() {
                "`${` is not closed"
            } else {
                "`${` is not followed by a name"
            };
            return Err(problem(opened, what));
        }
        match self.next() {
            Some('}') => Ok(self.plain(&name)),
            Some(':') => {
                let operator = self.next();
                self.operator(&name, operator, true, opened)
            }
            Some('/') => self.replace(&name, opened),
            operator => self.operator(&name, operator, false, opened),
        }
    }

    /// `- + ? # %` behind a name; `colon` stands before the first three and makes an empty value count as unset.
    fn operator(
        &mut self,
        name: &str,
        operator: Option<char>,
        colon: bool,
        opened: usize,
    ) -> Result<String, Problem> {
        let trims = matches!(operator, Some('#' | '%')) && !colon;
        let operator = match operator {
            Some(operator @ ('-' | '+' | '?')) => operator,
            Some(operator) if trims => operator,
            Some(other) => return Err(unsupported(name, colon, other, opened)),
            None => return Err(unclosed('}', opened)),
        };
        let word = self.until(Some('}'), trims.then_some('\\'), opened)?;
        let value = self.value_of(name);
        let missing = value.as_ref().is_none_or(|value| colon && value.is_empty());
        match operator {
            '-' if missing => Ok(word),
            '+' if missing => Ok(String::new()),
            '+' => Ok(word),
            '?' if missing => Err(required(name, &word, value.is_some(), opened)),
            '-' | '?' => Ok(value.unwrap_or_default()),
            _ => {
                let value = self.or_unset(name, value);
                pattern::trim(&value, &word, operator == '%')
                    .map_err(|message| problem(opened, message))
            }
        }
    }

    fn or_unset(&mut self, name: &str, value: Option<String>) -> String {
        value.unwrap_or_else(|| {
            self.unset.push(name.to_owned());
            String::new()
        })
    }

    /// `${name/pattern/replacement}`, with a second slash for all matches.
    fn replace(&mut self, name: &str, opened: usize) -> Result<String, Problem> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let form = |_| {
            problem(
                opened,
                format!("`${{{name}/pattern/replacement}}` needs both slashes and a `}}`"),
            )
        };
        let pattern = self.until(Some('/'), Some('\\'), opened).map_err(form)?;
        // A backslash of the replacement is no escape of anything, and stays.
        let replacement = self.until(Some('}'), Some(self.escape), opened)?;
        let value = self.value_of(name);
        let value = self.or_unset(name, value);
        pattern::replace(&value, &pattern, &replacement, all)
            .map_err(|message| problem(opened, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "s" => Some("val".to_owned()),
            "e" => Some(String::new()),
            _ => None,
        };
        let word = Word {
            text: text.to_owned(),
            span: Span::new(0, text.len()),
        };
        let found = Expander {
            escape: '\\',
            lookup: &lookup,
        }
        .word(&word);
        found.map(|one| one.value).map_err(|one| one.message)
    }

    #[test]
    fn errors_point_into_the_word() {
        let lookup = |_: &str| None;
        let word = Word {
            text: "a${v:?gone}".to_owned(),
            span: Span::new(10, 21),
        };
        let found = Expander {
            escape: '\\',
            lookup: &lookup,
        }
        .word(&word)
        .unwrap_err();
        assert_eq!(found.span, Span::new(11, 21));
        assert_eq!(found.message, "`v` is not set: gone");
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert!(expand(&"${a-".repeat(5000)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[ -~\\\\$`'\"{}é\n]{0,60}") {
            let _ = expand(&text);
        }
    }
}
