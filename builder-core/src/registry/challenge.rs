//! Challenges: what a server says about how to prove who we are.
//!
//! Follows RFC 9110, section 11.6.1 (`WWW-Authenticate`). Servers write it in many ways: several challenges in one
//! header, scheme names in any case, values without quotes, blanks around `=`. All of it is read; nothing is an error.

use std::collections::BTreeMap;

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// `basic`, `bearer`, …: in lower case.
    pub(crate) scheme: String,
    /// Names in lower case, and values without quotes.
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// A parameter that is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }
}

/// Reads one header; it may hold several challenges.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return found;
        }
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start();
        match (after.strip_prefix('='), found.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, left) = read_value(value.trim_start());
                let name = word.to_ascii_lowercase();
                challenge.parameters.entry(name).or_insert(value);
                rest = left;
            }
            // A parameter before any scheme belongs to nothing.
            (Some(value), None) => rest = read_value(value.trim_start()).1,
            (None, _) => {
                found.push(Challenge {
                    scheme: word.to_ascii_lowercase(),
                    parameters: BTreeMap::new(),
                });
                rest = after;
            }
        }
    }
}

/// A quoted string or a token, and what follows it.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, character) in quoted.char_indices() {
        match character {
            _ if escaped => {
                value.push(character);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_however_they_are_written() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull,push""#,
                "bearer realm=https://a/t scope=repository:x:pull,push service=s",
            ),
            (r#"BASIC realm="a b""#, "basic realm=a b"),
            ("Basic", "basic"),
            (
                r#"bearer realm = "https://a" , service=s"#,
                "bearer realm=https://a service=s",
            ),
            (
                r#"Basic realm="x", Bearer realm="https://a?b=c,d""#,
                "basic realm=x; bearer realm=https://a?b=c,d",
            ),
            (r#"Bearer realm="a\"b\\c",,"#, r#"bearer realm=a"b\c"#),
            (r#"Bearer realm="open"#, "bearer realm=open"),
            (
                "Negotiate YWJj==, Basic realm=x",
                "negotiate ywjj==; basic realm=x",
            ),
            (r#"realm="lost""#, ""),
            (",, ,", ""),
            ("", ""),
        ] {
            let shown: Vec<String> = parse(header)
                .iter()
                .map(|one| {
                    let parameters = one.parameters.iter();
                    let shown = parameters.map(|(name, value)| format!(" {name}={value}"));
                    one.scheme.clone() + &shown.collect::<String>()
                })
                .collect();
            assert_eq!(shown.join("; "), expected, "{header}");
        }
    }
}
