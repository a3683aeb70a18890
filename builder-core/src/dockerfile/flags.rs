//! Flags in front of an instruction's arguments: `--name=value`.
//!
//! Follows the Dockerfile reference of each instruction for which flags there are. Quotes group and are removed, the
//! escape character keeps the next one, a bare `--` ends the flags. Names are case-sensitive.

use std::ops::Range;

use crate::diagnostic::Diagnostic;
use crate::source::Span;

use super::word::{Text, Word};
use crate::nearest::nearest;

/// One flag as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The name without its two dashes.
    pub name: String,
    /// What follows `=`, quotes removed; none where there is no `=`.
    pub value: Option<Word>,
    /// The whole flag.
    pub span: Span,
}

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagKind {
    /// Nothing, `=true` or `=false`.
    Switch,
    /// One text, once.
    Text,
    /// A text each time it is given.
    List,
}

/// The flags that an instruction knows.
pub type KnownFlags = &'static [(&'static str, FlagKind)];

/// Cuts the flags off the front of `range`; returns them and the offset where the arguments start.
pub fn split(text: &Text, range: Range<usize>, escape: char) -> (Vec<Flag>, usize) {
    let mut flags = Vec::new();
    let mut position = range.start;
    loop {
        let rest = text.slice(position..range.end);
        let start = position + (rest.len() - rest.trim_start().len());
        if !text.slice(start..range.end).starts_with("--") {
            return (flags, start);
        }
        let (flag, end) = one(text, start..range.end, escape);
        if flag.name.is_empty() && flag.value.is_none() {
            return (flags, end);
        }
        flags.push(flag);
        position = end;
    }
}

/// The flag at the start of `range`, and where it ends.
fn one(text: &Text, range: Range<usize>, escape: char) -> (Flag, usize) {
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut value_start: Option<(usize, usize)> = None;
    let mut end = range.end;
    let mut characters = text.slice(range.clone()).char_indices();
    while let Some((at, c)) = characters.next() {
        if quote.is_none() && c.is_whitespace() {
            end = range.start + at;
            break;
        }
        match c {
            _ if c == escape => word.extend(characters.next().map(|(_, next)| next)),
            _ if Some(c) == quote => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            _ => {
                word.push(c);
                if c == '=' && value_start.is_none() {
                    value_start = Some((word.len(), range.start + at + 1));
                }
            }
        }
    }
    let name_end = value_start.map_or(word.len(), |(in_word, _)| in_word - 1);
    let flag = Flag {
        name: word.get(2..name_end).unwrap_or_default().to_owned(),
        value: value_start.map(|(in_word, in_text)| Word {
            text: word.get(in_word..).unwrap_or_default().to_owned(),
            span: text.span(in_text..end),
        }),
        span: text.span(range.start..end),
    };
    (flag, end)
}

/// The flags of one instruction after they were checked against those that it knows.
#[derive(Debug, Default)]
pub struct Flags {
    flags: Vec<Flag>,
}

impl Flags {
    /// Keeps what is right and reports the rest.
    pub fn check(
        keyword: &str,
        flags: Vec<Flag>,
        known: KnownFlags,
        problems: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut kept: Vec<Flag> = Vec::new();
        for flag in flags {
            let kind = known
                .iter()
                .find(|(name, _)| *name == flag.name)
                .map(|(_, kind)| *kind);
            let repeated = kept.iter().any(|other| other.name == flag.name);
            match kind.map(|kind| problem(&flag, kind, repeated)) {
                None => problems.push(unknown(keyword, &flag, known)),
                Some(Some(problem)) => problems.push(problem),
                Some(None) => kept.push(flag),
            }
        }
        Self { flags: kept }
    }

    /// Whether `name` was given.
    pub fn has(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| flag.name == name)
    }

    /// The value of a text flag.
    pub fn text(&self, name: &str) -> Option<Word> {
        self.list(name).into_iter().next()
    }

    /// All values of a list flag, in order.
    pub fn list(&self, name: &str) -> Vec<Word> {
        let named = self.flags.iter().filter(|flag| flag.name == name);
        named.filter_map(|flag| flag.value.clone()).collect()
    }

    /// The value of a switch; none where it wasn't given.
    pub fn switch(&self, name: &str) -> Option<bool> {
        let flag = self.flags.iter().find(|flag| flag.name == name)?;
        Some(
            flag.value
                .as_ref()
                .is_none_or(|value| value.text.eq_ignore_ascii_case("true")),
        )
    }

    /// The place of the first flag called `name`.
    pub fn span(&self, name: &str) -> Option<Span> {
        self.flags
            .iter()
            .find(|flag| flag.name == name)
            .map(|flag| flag.span)
    }
}

fn problem(flag: &Flag, kind: FlagKind, repeated: bool) -> Option<Diagnostic> {
    let name = &flag.name;
    if repeated && kind != FlagKind::List {
        let message = format!("the flag `--{name}` is given twice");
        return Some(
            Diagnostic::error("duplicate-flag", flag.span, message)
                .with_help("keep one of the two"),
        );
    }
    let value = flag.value.as_ref().map(|value| value.text.as_str());
    match (kind, value) {
        (FlagKind::Switch, None) => None,
        (FlagKind::Switch, Some("")) => Some(
            Diagnostic::error(
                "flag-value",
                flag.span,
                format!("the flag `--{name}=` has an empty value"),
            )
            .with_help(format!(
                "write `--{name}`, `--{name}=true` or `--{name}=false`"
            )),
        ),
        (FlagKind::Switch, Some(value)) => {
            let known = value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false");
            let message = format!("the flag `--{name}` takes `true` or `false`, found `{value}`");
            (!known).then(|| Diagnostic::error("flag-value", flag.span, message))
        }
        (_, None) => Some(
            Diagnostic::error(
                "flag-value",
                flag.span,
                format!("the flag `--{name}` needs a value"),
            )
            .with_help(format!("write `--{name}=VALUE`, without a blank")),
        ),
        (_, Some(_)) => None,
    }
}

fn unknown(keyword: &str, flag: &Flag, known: KnownFlags) -> Diagnostic {
    let message = format!("{keyword} has no flag `--{}`", flag.name);
    let problem = Diagnostic::error("unknown-flag", flag.span, message);
    if let Some(meant) = nearest(&flag.name, known.iter().map(|(name, _)| *name)) {
        return problem.with_help(format!("did you mean `--{meant}`?"));
    }
    let names: Vec<String> = known
        .iter()
        .map(|(name, _)| format!("`--{name}`"))
        .collect();
    if names.is_empty() {
        problem.with_help(format!("{keyword} takes no flags"))
    } else {
        problem.with_help(format!("{keyword} takes {}", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_flags_off() {
        for (line, flags, rest) in [
            ("--a=b --c d --e", vec!["a=b", "c"], "d --e"),
            ("--a=\"b c\" --x='y'z f", vec!["a=b c", "x=yz"], "f"),
            ("--a=b\\ c f", vec!["a=b c"], "f"),
            ("-- --odd /x", vec![], " --odd /x"),
            ("f --a", vec![], "f --a"),
            ("--ch\"mod=06\"04 f", vec!["chmod=0604"], "f"),
            ("", vec![], ""),
        ] {
            let text = Text::fixed(line, Span::default());
            let (found, start) = split(&text, 0..line.len(), '\\');
            let shown: Vec<String> = found
                .into_iter()
                .map(|flag| {
                    flag.value.map_or(flag.name.clone(), |value| {
                        format!("{}={}", flag.name, value.text)
                    })
                })
                .collect();
            assert_eq!(
                (shown, &line[start..]),
                (flags.into_iter().map(str::to_owned).collect(), rest),
                "{line}"
            );
        }
    }
}
