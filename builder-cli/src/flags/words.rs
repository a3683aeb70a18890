//! The first word of a command line: a command, or what `build` is left out before.

use std::ffi::OsString;
use std::path::Path;

use builder_core::nearest::nearest;
use builder_core::{Error, ErrorKind, Result};
use clap::CommandFactory as _;

use super::Cli;

/// Words that ask for help, and are no commands of clap's list.
const HELP: &[&str] = &["help", "-h", "--help", "-V", "--version"];

/// Commands of Docker's, podman's or buildah's that somebody may try, each with why there is none.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &[
            "ps",
            "exec",
            "start",
            "stop",
            "restart",
            "kill",
            "rm",
            "container",
            "create",
            "attach",
            "logs",
            "top",
            "stats",
            "wait",
            "pause",
            "unpause",
            "cp",
            "diff",
            "port",
            "rename",
            "update",
        ],
        "nothing goes on when rbuild has ended: there are no containers to look after",
    ),
    (
        &[
            "compose", "stack", "service", "swarm", "node", "secret", "config", "pod", "kube",
            "play",
        ],
        "rbuild builds images and runs no services",
    ),
    (
        &["volume", "network"],
        "rbuild has neither volumes nor networks of its own",
    ),
    (&["search"], "registries are not searched"),
];

/// The commands' names, those that are not shown too.
fn commands() -> Vec<String> {
    let cli = Cli::command();
    let names = cli.get_subcommands().flat_map(|one| {
        let own = std::iter::once(one.get_name());
        own.chain(one.get_all_aliases()).map(str::to_owned)
    });
    names.collect::<Vec<String>>()
}

/// Puts the word `build` where it was left out: before anything that is no command and asks for no help. `image` before a
/// command about images, as Docker has it, is left out.
///
/// # Errors
/// [`ErrorKind::Usage`] for a first word that is neither a command nor anything to build from.
pub(crate) fn with_command(
    arguments: impl IntoIterator<Item = OsString>,
    directory: &Path,
) -> Result<Vec<OsString>> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let word = |at: usize| arguments.get(at).and_then(|word| word.to_str());
    if let ("image", Some(second)) = (word(1).unwrap_or_default(), word(2)) {
        let meant = match second {
            "ls" | "list" => Some("images"),
            "rm" | "remove" => Some("rmi"),
            "build" | "history" | "inspect" | "load" | "pull" | "push" | "save" | "tag" => {
                Some(second)
            }
            _ => None,
        };
        if let Some(meant) = meant.map(OsString::from) {
            arguments.splice(1..3, [meant]);
        }
    }
    let known = commands();
    let is_word = |first: &OsString| {
        HELP.iter().any(|word| first == word) || known.iter().any(|word| first == word.as_str())
    };
    if arguments.get(1).is_some_and(|first| !is_word(first)) {
        refuse_unknown(arguments.get(1), &known, directory)?;
        arguments.insert(1, OsString::from("build"));
    }
    Ok(arguments)
}

/// Refuses a first word that is neither a command nor anything to build from, before it is taken for a context.
///
/// # Errors
/// [`ErrorKind::Usage`], with the nearest command, or why there is none.
fn refuse_unknown(typed: Option<&OsString>, known: &[String], directory: &Path) -> Result<()> {
    let Some(word) = typed.and_then(|word| word.to_str()) else {
        return Ok(());
    };
    let could_be = !word.is_empty()
        && word
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        && !word.starts_with('-');
    if !could_be || directory.join(word).symlink_metadata().is_ok() {
        return Ok(());
    }
    let error = Error::new(
        ErrorKind::Usage,
        format!("there is no command `{word}`, and no directory of that name"),
    );
    if let Some((_, why)) = ELSEWHERE.iter().find(|(words, _)| words.contains(&word)) {
        return Err(error
            .with_note(*why)
            .with_help("`rbuild help` lists the commands"));
    }
    Err(match nearest(word, known.iter().map(String::as_str)) {
        Some(near) => error.with_help(format!("did you mean `rbuild {near}`?")),
        None => error
            .with_help("`rbuild help` lists the commands; a context is a directory, `-` or a URL"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let words = with_command(line.split(' ').map(OsString::from), Path::new("/"));
        words
            .unwrap()
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn build_may_be_left_out() {
        let check = |line: &str| words(line).get(1).is_some_and(|word| word == "build");
        assert!(check("rbuild -t x ."));
        assert!(check("rbuild ."));
        assert!(check("rbuild build ."));
        assert!(check("rbuild image build ."));
        assert!(!check("rbuild plan ."));
        assert!(!check("rbuild --help"));
        assert!(!check("rbuild"));
        assert_eq!(words("rbuild image ls -q"), ["rbuild", "images", "-q"]);
        assert_eq!(words("rbuild image rm x"), ["rbuild", "rmi", "x"]);
    }

    #[test]
    fn a_misspelt_command_is_no_context() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("bulid")).unwrap();
        for (word, there, said) in [
            ("bulid", false, Some("`rbuild build`")),
            ("bulid", true, None),
            ("imagse", false, Some("`rbuild images`")),
            ("hsitory", false, Some("`rbuild history`")),
            ("ps", false, Some("lists the commands")),
            ("somethingelse", false, Some("lists the commands")),
            (".", false, None),
            ("-t", false, None),
            ("some/dir", false, None),
            ("https://example.com/x.git", false, None),
        ] {
            let nowhere = home.path().join("nowhere");
            let directory = if there { home.path() } else { &nowhere };
            let refused = refuse_unknown(Some(&OsString::from(word)), &commands(), directory).err();
            let help = refused.as_ref().and_then(|error| error.help());
            assert_eq!(help.is_some(), said.is_some(), "{word}");
            assert!(
                help.unwrap_or_default().contains(said.unwrap_or_default()),
                "{word}: {help:?}"
            );
        }
    }
}
