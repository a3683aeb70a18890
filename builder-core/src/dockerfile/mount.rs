//! `RUN --mount`: a comma-separated list of `key=value`, read before anything in it is expanded.
//!
//! Follows the Dockerfile reference, "RUN --mount". Keys are known in any case and in any order; a field may stand in
//! double quotes, as in CSV (RFC 4180).

use crate::diagnostic::Diagnostic;
use crate::source::Span;

use super::word::Word;
use crate::nearest::nearest;

/// One `--mount` flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFlag {
    /// Its fields in order.
    pub fields: Vec<MountField>,
    /// The value of the flag.
    pub span: Span,
}

/// One `key=value`, or a key alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountField {
    /// Which.
    pub key: MountKey,
    /// The value; none for a key alone.
    pub value: Option<Word>,
    /// The field's place.
    pub span: Span,
}

/// The keys, synonyms made one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountKey {
    /// `type`
    Type,
    /// `target`, `dst`, `destination`
    Target,
    /// `source`, `src`
    Source,
    /// `from`
    From,
    /// `ro`, `readonly`
    ReadOnly,
    /// `rw`, `readwrite`
    ReadWrite,
    /// `id`
    Id,
    /// `sharing`
    Sharing,
    /// `mode`
    Mode,
    /// `uid`
    Uid,
    /// `gid`
    Gid,
    /// `size`
    Size,
    /// `required`
    Required,
    /// `env`
    Env,
}

impl MountKey {
    /// The name in messages.
    pub fn name(self) -> &'static str {
        KEYS.iter()
            .find(|(_, key)| *key == self)
            .map_or("", |(name, _)| name)
    }

    /// Whether the key may stand without a value.
    pub fn may_be_bare(self) -> bool {
        matches!(self, Self::ReadOnly | Self::ReadWrite | Self::Required)
    }
}

const KEYS: &[(&str, MountKey)] = &[
    ("type", MountKey::Type),
    ("target", MountKey::Target),
    ("dst", MountKey::Target),
    ("destination", MountKey::Target),
    ("source", MountKey::Source),
    ("src", MountKey::Source),
    ("from", MountKey::From),
    ("readonly", MountKey::ReadOnly),
    ("ro", MountKey::ReadOnly),
    ("readwrite", MountKey::ReadWrite),
    ("rw", MountKey::ReadWrite),
    ("id", MountKey::Id),
    ("sharing", MountKey::Sharing),
    ("mode", MountKey::Mode),
    ("uid", MountKey::Uid),
    ("gid", MountKey::Gid),
    ("size", MountKey::Size),
    ("required", MountKey::Required),
    ("env", MountKey::Env),
];

/// Reads the value of one `--mount`.
pub fn parse(value: &Word, problems: &mut Vec<Diagnostic>) -> MountFlag {
    let mut fields = Vec::new();
    for (text, span) in csv_fields(value) {
        match field(&text, span) {
            Ok(field) => fields.push(field),
            Err(problem) => problems.push(problem),
        }
    }
    MountFlag {
        fields,
        span: value.span,
    }
}

fn field(text: &str, span: Span) -> Result<MountField, Diagnostic> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let lower = name.to_ascii_lowercase();
    let Some((_, key)) = KEYS.iter().find(|(known, _)| *known == lower) else {
        let problem = Diagnostic::error("mount-key", span, format!("a mount has no key `{name}`"));
        return Err(match nearest(&lower, KEYS.iter().map(|(known, _)| *known)) {
            Some(meant) => problem.with_help(format!("did you mean `{meant}`?")),
            None => problem.with_help("keys are `type`, `target`, `source`, `from`, `readonly`, `readwrite`, `id`, `sharing`, `mode`, `uid`, `gid`, `size`, `required` and `env`"),
        });
    };
    if value.is_none() && !key.may_be_bare() {
        let problem = Diagnostic::error(
            "mount-value",
            span,
            format!("the key `{name}` of a mount needs a value"),
        );
        return Err(problem.with_help(format!("write `{name}=VALUE`")));
    }
    let value = value.map(|value| Word {
        text: value.to_owned(),
        span,
    });
    if *key == MountKey::From && value.as_ref().is_some_and(|value| value.text.contains('$')) {
        let problem = Diagnostic::error(
            "mount-from-variable",
            span,
            "`from` of a mount can't hold a variable",
        );
        return Err(problem
            .with_help("give the image a name with `FROM image AS name` and use that name here"));
    }
    Ok(MountField {
        key: *key,
        value,
        span,
    })
}

/// The fields with their places; a field that starts with `"` goes to the next `"`, two of which stand for one.
fn csv_fields(value: &Word) -> Vec<(String, Span)> {
    let exact = value.span.end - value.span.start == value.text.len();
    let place = |start: usize, end: usize| {
        if exact {
            Span::new(value.span.start + start, value.span.start + end)
        } else {
            value.span
        }
    };
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut start = 0;
    let mut quoted = false;
    let mut characters = value.text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' if quoted && characters.peek().is_some_and(|(_, next)| *next == '"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if at == start => quoted = true,
            ',' if !quoted => {
                fields.push((std::mem::take(&mut field), place(start, at)));
                start = at + 1;
            }
            _ => field.push(c),
        }
    }
    fields.push((field, place(start, value.text.len())));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_and_synonyms() {
        let word = |text: &str| Word {
            text: text.to_owned(),
            span: Span::new(0, text.len()),
        };
        for (text, shown) in [
            (
                "type=bind,dst=/x,RW",
                vec!["type=bind", "target=/x", "readwrite"],
            ),
            ("target=\"/x\"", vec!["target=\"/x\""]),
            (
                "\"target=/a,b\",ro=false",
                vec!["target=/a,b", "readonly=false"],
            ),
        ] {
            let mut problems = Vec::new();
            let found: Vec<String> = parse(&word(text), &mut problems)
                .fields
                .into_iter()
                .map(|field| match field.value {
                    Some(value) => format!("{}={}", field.key.name(), value.text),
                    None => field.key.name().to_owned(),
                })
                .collect();
            assert_eq!(found, shown);
            assert_eq!(problems, []);
        }
        for text in ["nope=1", "target", "from=$x", ""] {
            let mut problems = Vec::new();
            parse(&word(text), &mut problems);
            assert_eq!(problems.len(), 1, "{text}");
        }
    }
}
