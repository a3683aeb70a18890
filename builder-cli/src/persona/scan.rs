//! Flags of another tool, as Go's `pflag` reads them: `--name value`, `--name=value`, `-n value`, `-nvalue`; a switch has a
//! value only behind `=`.

use std::collections::VecDeque;

use builder_core::nearest::nearest;
use builder_core::{Error, ErrorKind, Result};

use super::refuse;

/// What a flag is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    /// With dashes; the first is its name.
    pub(super) names: &'static [&'static str],
    pub(super) kind: Kind,
    pub(super) take: Take,
}

/// Whether a flag has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Value,
    Switch,
}

/// What becomes of a flag.
#[derive(Clone, Copy, Debug)]
pub(super) enum Take {
    /// It is rbuild's too, under this name.
    As(&'static str),
    /// What it asks for is done in any case, or means nothing here.
    Drop,
    /// The tool's own module looks at it.
    Own,
    /// It can't be honoured, and why.
    Refuse(&'static str),
}

/// A value flag.
pub(super) const fn value(names: &'static [&'static str], take: Take) -> Flag {
    Flag {
        names,
        kind: Kind::Value,
        take,
    }
}

/// A switch.
pub(super) const fn switch(names: &'static [&'static str], take: Take) -> Flag {
    Flag {
        names,
        kind: Kind::Switch,
        take,
    }
}

/// A command line, read.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// Flags of rbuild's.
    pub(super) out: Vec<String>,
    /// Flags for the tool's own module: name and value; of a switch `true` or what it was given.
    pub(super) own: Vec<(&'static str, String)>,
    /// What is no flag.
    pub(super) rest: Vec<String>,
}

impl Scanned {
    /// The last value of a flag.
    pub(super) fn last(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// All values of a flag, in order.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.own
            .iter()
            .filter(move |(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.last(name)
            .is_some_and(|value| !matches!(value, "false" | "0" | "f" | "F" | "False" | "FALSE"))
    }
}

/// Reads words by a table. With `stop`, the first word that is no flag ends it, and all that follows is no flag either.
pub(super) fn scan(tool: &str, words: Vec<String>, known: &[Flag], stop: bool) -> Result<Scanned> {
    let mut scanned = Scanned::default();
    let mut words: VecDeque<String> = words.into();
    while let Some(word) = words.pop_front() {
        if word == "--" {
            scanned.rest.extend(words);
            break;
        }
        if !word.starts_with('-') || word == "-" {
            scanned.rest.push(word);
            if stop {
                scanned.rest.extend(words);
                break;
            }
            continue;
        }
        let (mut name, mut given) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word.clone(), None),
        };
        if !word.starts_with("--") && word.chars().count() > 2 {
            // Short ones may stand together, the last with its value.
            name = word.chars().take(2).collect();
            let rest: String = word.chars().skip(2).collect();
            let flag = find(tool, &name, known)?;
            if flag.kind == Kind::Switch && !rest.starts_with('=') {
                take(tool, flag, "true".to_owned(), &mut scanned)?;
                words.push_front(format!("-{rest}"));
                continue;
            }
            given = Some(rest.trim_start_matches('=').to_owned());
        }
        let flag = find(tool, &name, known)?;
        let value = match (flag.kind, given) {
            (_, Some(value)) => value,
            (Kind::Switch, None) => "true".to_owned(),
            (Kind::Value, None) => words.pop_front().ok_or_else(|| {
                let message = format!("`{tool} {name}` has no value");
                Error::new(ErrorKind::Usage, message).with_help(format!("write `{name} VALUE`"))
            })?,
        };
        take(tool, flag, value, &mut scanned)?;
    }
    Ok(scanned)
}

fn find<'f>(tool: &str, name: &str, known: &'f [Flag]) -> Result<&'f Flag> {
    let found = known.iter().find(|flag| flag.names.contains(&name));
    found.ok_or_else(|| {
        let error = Error::new(
            ErrorKind::Usage,
            format!("rbuild as `{tool}` knows no `{name}`"),
        );
        let names = known.iter().flat_map(|flag| flag.names.iter().copied());
        match nearest(name, names) {
            Some(near) => error.with_help(format!("did you mean `{near}`?")),
            None => {
                error.with_help("leave it out, or use rbuild's own flags: `rbuild build --help`")
            }
        }
    })
}

fn take(tool: &str, flag: &Flag, value: String, scanned: &mut Scanned) -> Result<()> {
    let off = flag.kind == Kind::Switch && matches!(value.as_str(), "false" | "0");
    match flag.take {
        Take::As(_) if off => {}
        Take::As(name) if flag.kind == Kind::Switch => scanned.out.push(name.to_owned()),
        Take::As(name) => scanned.out.push(format!("{name}={value}")),
        Take::Drop => {}
        Take::Own => scanned.own.push((flag.names[0], value)),
        Take::Refuse(_) if off => {}
        Take::Refuse(why) => {
            let what = format!("{tool} {}", flag.names[0]);
            return Err(refuse(&what, why, "leave it out"));
        }
    }
    Ok(())
}
