//! The commit that a reference of a git repository names, without a clone, and what keys say of it.

use crate::build::git::{Git, GitOptions, GitSource};
use crate::build::keys::quoted;
use crate::cache::Key;
use crate::digest::Digest;
use crate::error::Result;
use crate::http::without_user;
use crate::interrupt::Interrupt;
use crate::store::TemporaryDirectory;

/// The commit that a source names now, as far as the repository says so without handing it out: none for a reference
/// that it doesn't list, such as a short commit id, and where `--checksum` names another commit. A source that names
/// the whole id needs no question.
///
/// # Errors
/// Those of `git ls-remote`.
pub(crate) fn find(
    source: &GitSource,
    place: &TemporaryDirectory,
    options: &GitOptions,
    interrupt: &Interrupt,
) -> Result<Option<String>> {
    let reference = source.reference.as_deref().unwrap_or("HEAD");
    let pinned = [Some(reference), source.commit.as_deref()]
        .into_iter()
        .flatten()
        .find(|id| is_whole(id));
    let found = if let Some(pinned) = pinned {
        Some(pinned.to_owned())
    } else {
        let git = Git {
            directory: place.path(),
            source,
            options,
            interrupt,
        };
        let peeled = format!("{reference}^{{}}");
        let listed = git.run(&["ls-remote", "--", &source.remote, reference, &peeled])?;
        resolve(&listed, reference)
    };
    let expected = source.commit.as_deref().unwrap_or("");
    Ok(found.filter(|commit| commit.starts_with(expected)))
}

/// What of a commit's files arrives, for a key: no credentials are in it. What is kept of git's own names the reference.
pub(crate) fn selection(source: &GitSource, commit: &str) -> String {
    let remote = remote(source);
    let text = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), quoted);
    let (subdirectory, submodules) = (text(&source.subdirectory), source.submodules);
    let git_dir = if source.keep_git_dir {
        text(&source.reference)
    } else {
        "none".to_owned()
    };
    format!("git {remote} {commit} {subdirectory} submodules {submodules} git-dir {git_dir}")
}

/// The key of the fact that a source's reference named a commit; none where it is that commit's id.
pub(crate) fn naming(source: &GitSource, commit: &str) -> Option<Key> {
    let reference = source.reference.as_deref().unwrap_or("HEAD");
    if reference == commit {
        return None;
    }
    let mut key = Key::default();
    key.set("repository", remote(source).to_string());
    key.set("reference", reference);
    key.set("names", commit);
    Some(key)
}

fn remote(source: &GitSource) -> Digest {
    Digest::of(without_user(&source.remote).as_bytes())
}

/// What `git fetch` would take for a reference, from the lines of `git ls-remote`: the rules of gitrevisions(7), in
/// their order. A tag with a message stands for its commit.
fn resolve(listed: &str, reference: &str) -> Option<String> {
    let line = |name: &str| {
        let mut lines = listed.lines().filter_map(|line| line.split_once('\t'));
        let (id, _) = lines.find(|(_, listed)| *listed == name)?;
        Some(id.to_owned()).filter(|id| is_whole(id))
    };
    let rules = ["", "refs/", "refs/tags/", "refs/heads/", "refs/remotes/"];
    let name = rules
        .iter()
        .map(|rule| format!("{rule}{reference}"))
        .find(|name| line(name).is_some())?;
    line(&format!("{name}^{{}}")).or_else(|| line(&name))
}

/// Whether a text is a commit's whole id, of SHA-1 or SHA-256, as git prints it.
fn is_whole(text: &str) -> bool {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    matches!(text.len(), 40 | 64) && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_keys_stay() {
        let commit = "1".repeat(40);
        let h = Digest::of(b"https://h/r.git");
        let text = |url: &str, git_dir: bool| {
            let source = GitSource::parse(url, Some(git_dir), None).unwrap();
            selection(&source, &commit)
        };
        for (url, git_dir, expected) in [
            ("https://h/r.git", false, "- submodules true git-dir none"),
            (
                "https://u:p@h/r.git#v1",
                false,
                "- submodules true git-dir none",
            ),
            ("https://h/r.git", true, "- submodules true git-dir -"),
            (
                "https://h/r.git#none",
                true,
                "- submodules true git-dir \"none\"",
            ),
            (
                "https://h/r.git?submodules=0#v1:a b",
                false,
                "\"a b\" submodules false git-dir none",
            ),
        ] {
            assert_eq!(text(url, git_dir), format!("git {h} {commit} {expected}"));
        }
        let named = |url: &str| {
            let source = GitSource::parse(url, None, None).unwrap();
            let key = naming(&source, &commit);
            key.map(|key| key.parts().values().cloned().collect::<Vec<_>>())
        };
        assert_eq!(named(&format!("https://h/r.git#{commit}")), None);
        for (url, reference) in [("https://h/r.git", "HEAD"), ("https://h/r.git#v1", "v1")] {
            let expected = [commit.clone(), reference.to_owned(), h.to_string()];
            assert_eq!(named(url).unwrap(), expected);
        }
    }

    #[test]
    fn resolves_references_as_git_fetch_does() {
        let id = |digit: &str| digit.repeat(40);
        let listed = [
            ("1", "HEAD"),
            ("2", "refs/heads/main"),
            ("3", "refs/heads/v1"),
            ("4", "refs/tags/v1"),
            ("5", "refs/tags/v1^{}"),
            ("6", "refs/heads/x/main"),
            ("7", "refs/tags/light"),
        ];
        let listed = listed.map(|(digit, name)| format!("{}\t{name}\n", id(digit)));
        for (reference, expected) in [
            ("HEAD", Some("1")),
            ("main", Some("2")),
            ("refs/heads/v1", Some("3")),
            ("heads/v1", Some("3")),
            ("v1", Some("5")),
            ("tags/v1", Some("5")),
            ("light", Some("7")),
            ("x", None),
            ("1111111", None),
        ] {
            let found = resolve(&listed.concat(), reference);
            assert_eq!(found, expected.map(id), "{reference}");
        }
        assert_eq!(resolve("warning\tmain\n", "main"), None);
    }

    #[test]
    fn a_whole_id_needs_no_question() {
        // Nothing is there that could be asked.
        let options = GitOptions {
            program: "/nowhere/git".into(),
            environment: Vec::new(),
        };
        let home = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open(home.path()).unwrap();
        let place = store.temporary_directory().unwrap();
        let check = |reference: &str, checksum: Option<&str>| {
            let url = format!("https://h/r.git#{reference}");
            let source = GitSource::parse(&url, None, checksum).unwrap();
            find(&source, &place, &options, &Interrupt::default())
        };
        let (one, two) = ("1".repeat(40), "2".repeat(64));
        assert_eq!(check(&one, None).unwrap(), Some(one.clone()));
        assert_eq!(check("main", Some(&two)).unwrap(), Some(two.clone()));
        assert_eq!(check(&one, Some("111")).unwrap(), Some(one.clone()));
        assert_eq!(check(&one, Some(&two)).unwrap(), None);
        assert!(check("main", Some("111")).is_err());
        assert!(check("1111111", None).is_err());
    }
}
