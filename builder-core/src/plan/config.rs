//! Texts of the image history, and small rules about a config's values.
//!
//! Follows what Docker writes into `created_by`, which mixes several of Go's ways to print a list.

use std::fmt::Write as _;
use std::time::Duration;

use crate::dockerfile::duration;
use crate::oci::config::Healthcheck;

/// The shell of shell forms where SHELL set none.
pub fn shell(configured: &[String]) -> Vec<String> {
    if configured.is_empty() {
        return vec!["/bin/sh".to_owned(), "-c".to_owned()];
    }
    configured.to_vec()
}

/// `["a" "b c"]`: how the history shows CMD and ENTRYPOINT.
pub fn quoted_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `[a b]`: how the history shows SHELL, VOLUME and EXPOSE.
pub fn plain_list<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    format!("[{}]", words.join(" "))
}

/// A Go string literal.
fn quoted(text: &str) -> String {
    let mut result = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                result.push('\\');
                result.push(c);
            }
            '\u{7}' => result.push_str("\\a"),
            '\u{8}' => result.push_str("\\b"),
            '\u{c}' => result.push_str("\\f"),
            '\n' => result.push_str("\\n"),
            '\r' => result.push_str("\\r"),
            '\t' => result.push_str("\\t"),
            '\u{b}' => result.push_str("\\v"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => {
                let _ = write!(result, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(result, "\\u{:04x}", u32::from(c));
            }
            c => result.push(c),
        }
    }
    result.push('"');
    result
}

/// How the history shows HEALTHCHECK.
pub fn healthcheck_text(check: &Healthcheck) -> String {
    let period = |nanos: i64| duration::print(Duration::from_nanos(nanos.unsigned_abs()));
    format!(
        "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        plain_list(&check.test),
        period(check.interval),
        period(check.timeout),
        period(check.start_period),
        period(check.start_interval),
        check.retries
    )
}

/// How the history shows RUN: the build arguments in force, counted, then the command.
pub fn run_text(args: &[(String, String)], argv: &[String]) -> String {
    let mut text = String::from("RUN ");
    if !args.is_empty() {
        let _ = write!(text, "|{} ", args.len());
        for (name, value) in args {
            let _ = write!(text, "{name}={value} ");
        }
    }
    text.push_str(&argv.join(" "));
    text.push_str(" # buildkit");
    text
}

/// `keyword name=value name=value`.
pub fn pairs_text(keyword: &str, pairs: &[(String, String)]) -> String {
    pairs
        .iter()
        .fold(keyword.to_owned(), |mut text, (name, value)| {
            let _ = write!(text, " {name}={value}");
            text
        })
}

/// Whether `text` names a signal: a number, or a Linux name with or without `SIG`, in any case.
pub fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=i32::MAX.unsigned_abs()).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, limit: u32| {
        let number = name
            .strip_prefix(prefix)
            .and_then(|number| number.parse::<u32>().ok());
        number.is_some_and(|number| (1..=limit).contains(&number))
    };
    SIGNALS.contains(&name) || real_time("RTMIN+", 15) || real_time("RTMAX-", 14)
}

/// The names of Linux signals.
pub const SIGNALS: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "RTMAX", "RTMIN", "SEGV", "STKFLT", "STOP", "SYS",
    "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU",
    "XFSZ",
];

/// Joins a path to an absolute directory and cleans it lexically: no `.`, no `..`, no double slash.
pub fn join_clean(directory: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{directory}/{path}")
    };
    clean(&whole)
}

/// An absolute path without `.`, `..` and double slashes.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A working directory as a config holds it: as written, unless it climbs above the root on its way. What that means is
/// for each runtime to say, with the directories that it finds; the text says `/b` for `/a/../../b`.
pub fn working_directory(path: String) -> String {
    let mut depth = 0_usize;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return clean(&path),
            },
            _ => depth += 1,
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_like_go() {
        for (text, shown) in [
            ("a\tb", r#""a\tb""#),
            ("é\"\\", r#""é\"\\""#),
            ("\u{1}", r#""\x01""#),
        ] {
            assert_eq!(quoted(text), shown);
        }
    }

    #[test]
    fn knows_signals() {
        for (text, known) in [
            ("SIGTERM", true),
            ("kill", true),
            ("9", true),
            ("SIGRTMIN+3", true),
            ("RTMAX-15", false),
            ("0", false),
            ("SIGNOPE", false),
            ("", false),
        ] {
            assert_eq!(is_signal(text), known, "{text}");
        }
    }

    #[test]
    fn cleans_paths() {
        for (directory, path, joined) in [
            ("/a", "b/../c", "/a/c"),
            ("/a", "../..", "/"),
            ("/a", "/x//y/", "/x/y"),
            ("/", ".", "/"),
        ] {
            assert_eq!(join_clean(directory, path), joined);
        }
        for (path, expected) in [
            ("/a/../../b", "/b"),
            ("/..", "/"),
            ("/../a/./b//c/", "/a/b/c"),
            ("/a/../b//c/", "/a/../b//c/"),
            ("/a/b/../..", "/a/b/../.."),
            ("", ""),
            ("/", "/"),
        ] {
            assert_eq!(working_directory(path.to_owned()), expected);
        }
    }
}
