//! Cases as files: `UPDATE_EXPECT=1` rewrites the expected answers; the diff is then to be read.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::{Path, PathBuf};

/// A folder below the workspace's `testdata`.
pub(crate) fn testdata(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata")
        .join(folder)
}

/// The cases below a folder, sorted; never none.
pub(crate) fn cases(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(testdata(folder)).unwrap();
    let mut cases: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {folder}");
    cases
}

/// Compares with the file, or writes it.
#[allow(
    clippy::disallowed_methods,
    reason = "a switch for whoever runs the tests, not an input of the library"
)]
pub(crate) fn expect(path: &Path, actual: &str) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        actual,
        expected,
        "{} differs; UPDATE_EXPECT=1 rewrites it",
        path.display()
    );
}
