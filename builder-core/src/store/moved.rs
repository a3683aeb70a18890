//! A journal of what was moved into a temporary directory for a while, such as a cache mount into a root: where its
//! process is killed, whoever deletes the directory moves it back before.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// The journal's name in the temporary directory.
const JOURNAL: &str = "moved.json";

/// Writes down what is moved, in order: from where to where. Called before the last of the moves.
///
/// # Errors
/// Those of writing the file.
pub fn write(folder: &Path, moves: &[(&Path, &Path)]) -> io::Result<()> {
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    let moves = moves.iter().map(|(from, to)| (bytes(from), bytes(to)));
    let moves: Vec<(Vec<u8>, Vec<u8>)> = moves.collect();
    std::fs::write(folder.join(JOURNAL), serde_json::to_vec(&moves)?)
}

/// Everything is where it was before.
pub fn forget(folder: &Path) {
    // Where it stays, it says nothing wrong: what it names is gone from there.
    let _ = std::fs::remove_file(folder.join(JOURNAL));
}

/// Moves back what is still away, the last first; what has a successor at its old place stays.
pub(super) fn put_back(folder: &Path) {
    let Ok(text) = std::fs::read(folder.join(JOURNAL)) else {
        return;
    };
    let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
    let moves: Vec<(Vec<u8>, Vec<u8>)> = serde_json::from_slice(&text).unwrap_or_default();
    for (from, to) in moves.into_iter().rev() {
        let (from, to) = (path(from), path(to));
        if to.symlink_metadata().is_ok() && from.symlink_metadata().is_err() {
            // What can't be moved goes with the directory: it was a cache.
            let _ = std::fs::rename(&to, &from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_away_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::create_dir_all(at("tmp/root/old")).unwrap();
        std::fs::create_dir(at("cache")).unwrap();
        std::fs::write(at("cache/f"), "x").unwrap();
        let (root, aside) = (at("tmp/root/old"), at("tmp/aside"));
        write(&at("tmp"), &[(&root, &aside), (&at("cache"), &root)]).unwrap();
        std::fs::rename(&root, &aside).unwrap();
        std::fs::rename(at("cache"), &root).unwrap();
        put_back(&at("tmp"));
        assert!(at("cache/f").exists() && root.is_dir() && !aside.exists());
        forget(&at("tmp"));
        put_back(&at("tmp"));
    }
}
