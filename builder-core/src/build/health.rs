//! HEALTHCHECK as a script: the image's program is started, and probed until the verdict is there.
//!
//! Follows the Dockerfile reference, "HEALTHCHECK": a probe that takes longer than the timeout has failed; so many
//! failures in a row make the container unhealthy; in the start period they don't count. Docker waits an interval before
//! the first probe. Here a smoke test waits: until then it is probed each second, and only a success counts.

use crate::error::{Error, ErrorKind, Result};
use crate::oci::config::{Healthcheck, RunConfig};

/// Docker's values where the image gives none, in seconds; retries are a number.
const INTERVAL: i64 = 30;
const TIMEOUT: i64 = 30;
const RETRIES: i64 = 3;

/// The script that starts `program` and gives the verdict as exit status: 0 for healthy, 1 for not.
///
/// # Errors
/// [`ErrorKind::Usage`] where the image has no HEALTHCHECK.
pub(super) fn script(program: &[String], config: &RunConfig) -> Result<String> {
    let none = || {
        Error::new(ErrorKind::Usage, "the image has no HEALTHCHECK")
            .with_help("leave --health out, and write a command behind the image's name")
    };
    let check = config.healthcheck.as_ref().ok_or_else(none)?;
    let probe = probe(check, &config.shell).ok_or_else(none)?;
    let seconds = |nanoseconds: i64, default: i64| match nanoseconds {
        0 => default,
        // No sleep of a shell's is shorter.
        some => (some / 1_000_000_000).max(1),
    };
    let interval = seconds(check.interval, INTERVAL);
    let timeout = seconds(check.timeout, TIMEOUT);
    let patience = interval.max(check.start_period / 1_000_000_000);
    let retries = if check.retries > 0 {
        check.retries
    } else {
        RETRIES
    };
    let (program, probe) = (quoted(program), quoted(&probe));
    Ok(format!(
        "{program} & program=$!
probe() {{
    {probe} & probed=$!
    (sleep {timeout}; kill -9 $probed) 2>/dev/null & watch=$!
    wait $probed; verdict=$?
    kill $watch 2>/dev/null
    return $verdict
}}
waited=0 failed=0
while :; do
    probe && exit 0
    kill -0 $program 2>/dev/null || {{ echo 'the program has ended' >&2; exit 1; }}
    if [ $waited -lt {patience} ]; then
        sleep 1; waited=$((waited + 1))
        continue
    fi
    failed=$((failed + 1))
    [ $failed -lt {retries} ] || {{ echo \"unhealthy: $failed probes in a row failed\" >&2; exit 1; }}
    sleep {interval}
done
"
    ))
}

/// The command of a probe; none where the image has none.
fn probe(check: &Healthcheck, shell: &[String]) -> Option<Vec<String>> {
    let (kind, rest) = check.test.split_first()?;
    match kind.as_str() {
        "CMD" if !rest.is_empty() => Some(rest.to_vec()),
        "CMD-SHELL" => {
            let own = ["/bin/sh".to_owned(), "-c".to_owned()];
            let shell = if shell.is_empty() { &own[..] } else { shell };
            Some(shell.iter().chain(rest).cloned().collect())
        }
        _ => None,
    }
}

/// Words as a shell reads them.
fn quoted(words: &[String]) -> String {
    let one = |word: &String| format!("'{}'", word.replace('\'', "'\\''"));
    words.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn probes_are_commands_or_texts() {
        for (test, shell, expected) in [
            (&["CMD", "a", "b"][..], &[][..], Some(&["a", "b"][..])),
            (&["CMD-SHELL", "a b"], &[], Some(&["/bin/sh", "-c", "a b"])),
            (
                &["CMD-SHELL", "a"],
                &["ash", "-c"],
                Some(&["ash", "-c", "a"]),
            ),
            (&["NONE"], &[], None),
            (&["CMD"], &[], None),
            (&[], &[], None),
        ] {
            let check = Healthcheck {
                test: words(test),
                ..Healthcheck::default()
            };
            assert_eq!(
                probe(&check, &words(shell)),
                expected.map(words),
                "{test:?}"
            );
        }
    }

    #[test]
    fn a_quote_ends_no_word() {
        assert_eq!(quoted(&words(&["a b", "it's", ""])), r"'a b' 'it'\''s' ''");
    }

    #[test]
    fn an_image_without_a_check_is_refused() {
        let error = script(&words(&["a"]), &RunConfig::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}
