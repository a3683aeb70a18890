//! The words of keys: each value has one text, and no two values have the same. They are written here and nowhere
//! derived from names of the code, because they stand in caches that outlive it.

use crate::image_path::ImagePath;
use crate::plan::step::{Account, CacheSharing, Chmod, Chown, CopyFrom, Destination, SymbolicMode};

/// A text in quotes, so that what follows it doesn't run into it.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_default())
}

/// The destination of COPY and ADD: its clean path, with a `/` at its end where it is written as a directory.
pub(super) fn destination(destination: &Destination) -> String {
    let Destination {
        path,
        directory,
        span: _,
    } = destination;
    let path = ImagePath::clean(path);
    let slash = if *directory && !path.is_root() {
        "/"
    } else {
        ""
    };
    // It was text, and cleaning takes it apart at slashes only: nothing is lost.
    format!("/{}{slash}", String::from_utf8_lossy(path.as_relative()))
}

/// `--chown`: numbers as they are, names in quotes.
pub(super) fn chown(chown: &Chown) -> String {
    let Chown { user, group } = chown;
    format!("{}:{}", account(user.as_ref()), account(group.as_ref()))
}

fn account(account: Option<&Account>) -> String {
    match account {
        Some(Account::Id(id)) => id.to_string(),
        Some(Account::Name(name)) => quoted(name),
        None => String::new(),
    }
}

/// `--chmod`: octal, or clauses as chmod(1) takes them.
pub(super) fn chmod(chmod: &Chmod) -> String {
    match chmod {
        Chmod::Octal(mode) => format!("{mode:o}"),
        Chmod::Symbolic(clauses) => {
            let clauses: Vec<String> = clauses.iter().map(clause).collect();
            clauses.join(",")
        }
    }
}

fn clause(clause: &SymbolicMode) -> String {
    let SymbolicMode {
        who,
        operation,
        permissions,
    } = clause;
    let people = [(1, 'u'), (2, 'g'), (4, 'o')];
    let people = people.iter().filter(|(bit, _)| who & bit != 0);
    let people: String = people.map(|(_, letter)| letter).collect();
    format!("{people}{operation}{permissions}")
}

/// How a cache mount is shared.
pub(super) fn sharing(sharing: CacheSharing) -> &'static str {
    match sharing {
        CacheSharing::Shared => "shared",
        CacheSharing::Private => "private",
        CacheSharing::Locked => "locked",
    }
}

/// Where the files of a mount come from. It tells the sources of one build apart and is part of no key: what counts is
/// what is found there.
pub(super) fn from(from: &CopyFrom) -> String {
    match from {
        CopyFrom::Context => "context".to_owned(),
        CopyFrom::Stage(index) => format!("stage {index}"),
        CopyFrom::Named(name) => format!("named {}", quoted(name)),
        CopyFrom::Image(reference) => format!("image {}", quoted(&reference.value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Span;

    #[test]
    fn destinations_have_one_text() {
        for (path, directory, expected) in [
            ("/t", false, "/t"),
            ("/t/", true, "/t/"),
            ("/t/.", true, "/t/"),
            ("//a//b/../c", false, "/a/c"),
            ("/", true, "/"),
            ("/", false, "/"),
            ("/x/..", false, "/"),
            ("/w", true, "/w/"),
        ] {
            let written = Destination {
                path: path.to_owned(),
                directory,
                span: Span::default(),
            };
            assert_eq!(destination(&written), expected, "{path}");
        }
    }

    #[test]
    fn owners_have_one_text() {
        let name = |name: &str| Some(Account::Name(name.to_owned()));
        let id = |id| Some(Account::Id(id));
        for (user, group, expected) in [
            (id(5), None, "5:"),
            (id(5), id(5), "5:5"),
            (None, id(5), ":5"),
            (name("5"), None, "\"5\":"),
            (name("a"), name("b:\""), "\"a\":\"b:\\\"\""),
        ] {
            assert_eq!(chown(&Chown { user, group }), expected);
        }
    }

    #[test]
    fn modes_have_one_text() {
        let one = |who, operation, permissions: &str| SymbolicMode {
            who,
            operation,
            permissions: permissions.to_owned(),
        };
        for (mode, expected) in [
            (Chmod::Octal(0o4755), "4755"),
            (Chmod::Octal(0), "0"),
            (
                Chmod::Symbolic(vec![one(1, '=', "rwX"), one(6, '-', "")]),
                "u=rwX,go-",
            ),
            (Chmod::Symbolic(vec![one(7, '+', "x")]), "ugo+x"),
            (Chmod::Symbolic(vec![one(2, '=', "u")]), "g=u"),
        ] {
            assert_eq!(chmod(&mode), expected);
        }
    }

    #[test]
    fn the_other_words() {
        let sharings = [
            CacheSharing::Shared,
            CacheSharing::Private,
            CacheSharing::Locked,
        ];
        assert_eq!(sharings.map(sharing), ["shared", "private", "locked"]);
        assert_eq!(quoted("a \"b\"\n\u{e9}"), "\"a \\\"b\\\"\\n\\u{e9}\"");
        assert_eq!(from(&CopyFrom::Stage(1)), "stage 1");
        assert_eq!(from(&CopyFrom::Named("1".to_owned())), "named \"1\"");
    }
}
