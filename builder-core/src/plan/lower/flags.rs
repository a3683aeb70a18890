//! The values of `--chown` and `--chmod`, and what kind of source a word is.
//!
//! Follows the Dockerfile reference, "COPY --chown --chmod" and "ADD"; symbolic modes follow chmod(1).

use crate::plan::step::{Account, Chmod, Chown, SymbolicMode};

/// Reads `USER[:GROUP]`; the error is a fragment.
pub(super) fn chown(text: &str) -> Result<Chown, String> {
    let mut parts = text.split(':');
    let user = parts.next().unwrap_or_default();
    let group = parts.next().unwrap_or_default();
    if parts.next().is_some() {
        return Err(format!("`{text}` has more than a user and a group"));
    }
    Ok(Chown {
        user: account(user),
        group: account(group),
    })
}

fn account(text: &str) -> Option<Account> {
    if text.is_empty() {
        return None;
    }
    if text == "root" {
        return Some(Account::Id(0));
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text
        .parse::<i32>()
        .ok()
        .and_then(|number| u32::try_from(number).ok());
    Some(
        number
            .filter(|_| digits)
            .map_or_else(|| Account::Name(text.to_owned()), Account::Id),
    )
}

/// Whether the owner needs no look into the image.
pub(super) fn is_numeric(chown: &Chown) -> bool {
    let named = |account: &Option<Account>| matches!(account, Some(Account::Name(_)));
    !named(&chown.user) && !named(&chown.group)
}

/// Reads an octal or symbolic mode; the error is a fragment.
pub(super) fn chmod(text: &str) -> Result<Chmod, String> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let octal = u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777);
        return octal
            .map(Chmod::Octal)
            .ok_or_else(|| format!("`{text}` is no mode; expected octal digits from 0 to 7777"));
    }
    let mut modes = Vec::new();
    for clause in text.split(',') {
        let problem = || {
            format!(
                "`{clause}` is no mode; expected octal digits, or clauses such as `u=rwX` or `+x`"
            )
        };
        modes.extend(clause_modes(clause).ok_or_else(problem)?);
    }
    Ok(Chmod::Symbolic(modes))
}

/// The operations of one clause such as `ug+r-w`.
fn clause_modes(clause: &str) -> Option<Vec<SymbolicMode>> {
    let start = clause.find(['+', '-', '='])?;
    let (who_text, mut rest) = clause.split_at(start);
    let mut who = 0;
    for c in who_text.chars() {
        who |= match c {
            'u' => 1,
            'g' => 2,
            'o' => 4,
            'a' => 7,
            _ => return None,
        };
    }
    let who = if who == 0 { 7 } else { who };
    let mut modes = Vec::new();
    while let Some(operation) = rest.chars().next() {
        let after = rest.get(1..)?;
        let end = after.find(['+', '-', '=']).unwrap_or(after.len());
        let (permissions, next) = after.split_at(end);
        let copied = matches!(permissions, "u" | "g" | "o");
        if !copied && !permissions.chars().all(|c| "rwxXst".contains(c)) {
            return None;
        }
        modes.push(SymbolicMode {
            who,
            operation,
            permissions: permissions.to_owned(),
        });
        rest = next;
    }
    Some(modes)
}

/// What a word of ADD or COPY points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    Path,
    Url,
    Git,
}

/// The kind of a source.
pub(crate) fn source_kind(text: &str) -> SourceKind {
    if text.starts_with("git://") || text.starts_with("ssh://") || is_scp_like(text) {
        return SourceKind::Git;
    }
    let Some(rest) = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
    else {
        return SourceKind::Path;
    };
    let path = rest.split(['#', '?']).next().unwrap_or(rest);
    if path.contains('/') && path.as_bytes().ends_with(b".git") {
        SourceKind::Git
    } else {
        SourceKind::Url
    }
}

/// `user@host:path`
fn is_scp_like(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else {
        return false;
    };
    let Some((host, _)) = rest.split_once(':') else {
        return false;
    };
    let name = |text: &str, more: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    name(user, "-_") && name(host, "-.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_modes() {
        for (text, fine) in [
            ("0", true),
            ("755", true),
            ("7777", true),
            ("17777", false),
            ("888", false),
            ("u=rwX,go=rX", true),
            ("+x", true),
            ("g=u", true),
            ("go=", true),
            ("u+r-w", true),
            ("u", false),
            ("u=z", false),
            ("", false),
            ("u=rx,", false),
            ("g=uo", false),
        ] {
            assert_eq!(chmod(text).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn tells_sources_apart() {
        for (text, kind) in [
            ("a/b", SourceKind::Path),
            ("https://h/x.tar", SourceKind::Url),
            ("https://h/x.git#main", SourceKind::Git),
            ("https://h/x.git/y", SourceKind::Url),
            ("git@h.example:a/b", SourceKind::Git),
            ("./git@h:a", SourceKind::Path),
        ] {
            assert_eq!(source_kind(text), kind, "{text}");
        }
    }

    #[test]
    fn reads_owners() {
        let id = |number| Some(Account::Id(number));
        for (text, user, group) in [
            ("5", id(5), None),
            ("5:6", id(5), id(6)),
            (":6", None, id(6)),
            ("root:x", id(0), Some(Account::Name("x".to_owned()))),
            (
                "2147483648",
                Some(Account::Name("2147483648".to_owned())),
                None,
            ),
        ] {
            assert_eq!(chown(text), Ok(Chown { user, group }), "{text}");
        }
        assert!(chown("1:2:3").is_err());
    }
}
