//! The ignore file: which one holds, and its patterns.
//!
//! `NAME.dockerignore` beside the Dockerfile `NAME` replaces `.dockerignore` in the root of the context; the two are
//! never merged (Docker's reference, "Filename and location").

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::tree::pattern::PatternList;

/// The patterns of a context, and where they come from.
#[derive(Clone, Debug, Default)]
pub struct IgnoreFile {
    /// How messages name the file: `.dockerignore`.
    pub name: String,
    /// Its patterns, in order; empty where there is no file.
    pub patterns: Arc<PatternList>,
}

/// More than any ignore file has; a larger one is a mistake.
const MAX_BYTES: u64 = 4 << 20;

/// Reads the first of `candidates` that exists.
///
/// # Errors
/// [`ErrorKind::Context`] for a file that can't be read, is no text, or holds a broken pattern: all of them are
/// named with their lines.
pub fn read(candidates: &[PathBuf]) -> Result<IgnoreFile> {
    for path in candidates {
        match std::fs::metadata(path) {
            Ok(found) if found.len() > MAX_BYTES => {
                let message = format!(
                    "`{}` has {} bytes; more than {MAX_BYTES} are no ignore file",
                    path.display(),
                    found.len()
                );
                return Err(Error::new(ErrorKind::Context, message));
            }
            Ok(found) if found.is_file() => return parse(path),
            Err(error)
                if error.kind() != io::ErrorKind::NotFound
                    && error.kind() != io::ErrorKind::NotADirectory =>
            {
                return Err(unreadable(path, error));
            }
            _ => {}
        }
    }
    Ok(IgnoreFile::default())
}

fn parse(path: &Path) -> Result<IgnoreFile> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, error))?;
    let text = decode(path, &bytes)?;
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    match PatternList::parse_file(text) {
        Ok(patterns) => Ok(IgnoreFile {
            name,
            patterns: Arc::new(patterns),
        }),
        Err(problems) => {
            let mut error = Error::new(
                ErrorKind::Context,
                format!("the ignore file `{}` has broken patterns", path.display()),
            );
            for problem in problems {
                error = error.with_note(format!("{name}:{}: {problem}", problem.line));
            }
            Err(error.with_help(
                "write `[` as `\\[` to mean the character, and a pattern behind each `!`",
            ))
        }
    }
}

/// The text of an ignore file. One that can't be read would exclude nothing, and let into an image what it was made to
/// keep out.
fn decode<'b>(path: &Path, bytes: &'b [u8]) -> Result<&'b str> {
    let refused = |what: String| {
        let message = format!("the ignore file `{}` {what}", path.display());
        Error::new(ErrorKind::Context, message).with_help(
            "save it as UTF-8; in PowerShell: `… | Out-File -Encoding utf8 .dockerignore`",
        )
    };
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || bytes.contains(&0) {
        return Err(refused("is UTF-16 or no text at all".to_owned()));
    }
    str::from_utf8(bytes).map_err(|error| {
        let lines = bytes.iter().take(error.valid_up_to());
        let line = lines.filter(|byte| **byte == b'\n').count() + 1;
        let odd = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
        refused(format!("is no UTF-8: line {line} has the byte 0x{odd:02x}"))
    })
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::new(
        ErrorKind::Context,
        format!("the ignore file `{}` can't be read", path.display()),
    )
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_that_exists_replaces_the_others() {
        let home = tempfile::tempdir().unwrap();
        let (own, general) = (
            home.path().join("x.dockerignore"),
            home.path().join(".dockerignore"),
        );
        assert!(
            read(&[own.clone(), general.clone()])
                .unwrap()
                .patterns
                .is_empty()
        );
        std::fs::write(&general, "a\n").unwrap();
        assert_eq!(
            read(&[own.clone(), general.clone()]).unwrap().name,
            ".dockerignore"
        );
        std::fs::write(&own, "").unwrap();
        let found = read(&[own, general]).unwrap();
        assert!(found.patterns.is_empty() && found.name == "x.dockerignore");
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".dockerignore");
        for (bytes, words) in [
            (&b"\xff\xfes\0e\0c\0\n\0"[..], Some("UTF-16")),
            (b"\xfe\xff\0s\0\n", Some("UTF-16")),
            (b"s\0e\0\n\0", Some("UTF-16")),
            (b"a\ncaf\xe9\n", Some("line 2 has the byte 0xe9")),
            (b"\xef\xbb\xbfcaf\xc3\xa9\n", None),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let found = read(std::slice::from_ref(&path)).err();
            let said = found.as_ref().map(Error::message);
            match words {
                Some(words) => assert!(said.unwrap().contains(words), "{said:?}"),
                None => assert_eq!(said, None),
            }
        }
    }

    #[test]
    fn all_broken_patterns_are_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".dockerignore");
        std::fs::write(&path, "ok\n!\n[a\n").unwrap();
        let error = read(&[path]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Context);
        assert_eq!(error.notes().len(), 2);
    }
}
