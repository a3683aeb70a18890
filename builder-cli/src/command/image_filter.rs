//! `--filter` of `images`: which images are shown.

use std::collections::BTreeMap;

use builder_core::catalog::{self, Summary};
use builder_core::store::Store;
use builder_core::timestamp::Timestamp;
use builder_core::{Error, ErrorKind, Result};

use super::images::repository_and_tag;

/// What an image must be. Several patterns are one wish of which one must fit, as with Docker; everything else must fit
/// as a whole.
#[derive(Debug, Default)]
pub(super) struct Filter {
    patterns: Vec<String>,
    labels: Vec<(String, Option<String>)>,
    dangling: Option<bool>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Filter {
    /// Reads filters, and the name that `images` was given. Images that they name must be there.
    pub(super) fn read(filters: &[String], name: Option<&str>, store: &Store) -> Result<Self> {
        let mut filter = Self::default();
        filter.patterns.extend(name.map(str::to_owned));
        for given in filters {
            let (key, value) = given.split_once('=').ok_or_else(|| unknown(given))?;
            match key {
                "reference" => filter.patterns.push(value.to_owned()),
                "label" => {
                    let (name, value) = match value.split_once('=') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (value, None),
                    };
                    filter.labels.push((name.to_owned(), value));
                }
                "dangling" => match value {
                    "true" | "1" => filter.dangling = Some(true),
                    "false" | "0" => filter.dangling = Some(false),
                    _ => return Err(unknown(given)),
                },
                "before" => filter.before = Some(made(store, value)?),
                "since" => filter.since = Some(made(store, value)?),
                _ => return Err(unknown(given)),
            }
        }
        Ok(filter)
    }

    /// Whether it asks for images without a name.
    pub(super) fn wants_unnamed(&self) -> bool {
        self.dangling == Some(true)
    }

    /// Whether an image is shown.
    pub(super) fn fits(&self, image: &Summary) -> bool {
        let named = || {
            let Some(name) = &image.name else {
                return false;
            };
            let (repository, tag) = repository_and_tag(name);
            let whole = format!("{repository}:{tag}");
            // The names of Docker's registry are shown short, and may be asked for in full.
            let short = |pattern: &'_ String| {
                let rest = pattern.strip_prefix("docker.io/").unwrap_or(pattern);
                rest.strip_prefix("library/").unwrap_or(rest).to_owned()
            };
            let mut patterns = self.patterns.iter().map(short);
            patterns.any(|pattern| matches(&pattern, &whole) || matches(&pattern, &repository))
        };
        let labelled = |labels: &BTreeMap<String, String>| {
            let mut wanted = self.labels.iter();
            wanted.all(|(name, value)| {
                let found = labels.get(name);
                found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
            })
        };
        (self.patterns.is_empty() || named())
            && labelled(&image.labels)
            && self
                .dangling
                .is_none_or(|dangling| dangling == image.name.is_none())
            && self
                .before
                .is_none_or(|before| image.created < Some(before))
            && self.since.is_none_or(|since| image.created > Some(since))
    }
}

fn unknown(given: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("--filter `{given}` is unknown")).with_help(
        "write reference=PATTERN, dangling=true or false, before=IMAGE, since=IMAGE, label=NAME or label=NAME=VALUE",
    )
}

/// When an image was made.
fn made(store: &Store, name: &str) -> Result<Timestamp> {
    let found = catalog::find(store, name)?;
    let all = catalog::list(store, found.names.is_empty(), 1)?;
    let digest = found.descriptor.digest;
    let same = all.into_iter().find(|one| one.descriptor.digest == digest);
    Ok(same.and_then(|one| one.created).unwrap_or_default())
}

/// Whether a name fits a pattern: `*` is any letters but `/`, `?` one of them, `[a-c]` one of a set, `\` takes the next
/// letter as it is. Each `*` is tried once: what fits later fits the one after it too.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
            continue;
        }
        if let Some(after) = one(&pattern, p, name[n]) {
            p = after;
            n += 1;
            continue;
        }
        match star {
            Some((at, from)) if name[from] != '/' => {
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
            _ => return false,
        }
    }
    pattern[p..].iter().all(|letter| *letter == '*')
}

/// Where the pattern goes on, if what stands at `p` fits a letter.
fn one(pattern: &[char], p: usize, letter: char) -> Option<usize> {
    match pattern.get(p)? {
        '?' => (letter != '/').then_some(p + 1),
        '\\' => (pattern.get(p + 1) == Some(&letter)).then_some(p + 2),
        '[' => {
            let end = p + 2 + pattern.get(p + 2..)?.iter().position(|one| *one == ']')?;
            let (negated, from) = match pattern[p + 1] {
                '^' | '!' => (true, p + 2),
                _ => (false, p + 1),
            };
            let set = &pattern[from..end];
            let mut found = false;
            let mut at = 0;
            while at < set.len() {
                if at + 2 < set.len() && set[at + 1] == '-' {
                    found |= (set[at]..=set[at + 2]).contains(&letter);
                    at += 3;
                } else {
                    found |= set[at] == letter;
                    at += 1;
                }
            }
            (found != negated && letter != '/').then_some(end + 1)
        }
        other => (*other == letter).then_some(p + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell_in_one_directory() {
        for (pattern, name, fits) in [
            ("app", "app", true),
            ("app", "apps", false),
            ("app:*", "app:1.2", true),
            ("*", "app", true),
            ("*", "team/app", false),
            ("*/app", "team/app", true),
            ("a*p*", "app:1", true),
            ("a*x", "app", false),
            ("a?p", "app", true),
            ("app:[0-9]*", "app:1", true),
            ("app:[^0-9]*", "app:1", false),
            ("app:[0-9", "app:1", false),
            ("\\*", "*", true),
            ("*:1", "a:b:1", true),
            ("", "", true),
            ("**", "ab", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
        // No text makes it slow.
        assert!(!matches(&"*a".repeat(5000), &"a".repeat(4000)));
    }
}
