//! The store among processes that are killed and disks that are full.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use builder_core::digest::Digest;
use builder_core::store::{Error, Store};

/// A process that was killed while it wrote: its file stays behind in `tmp/`, its lock doesn't.
#[test]
fn a_killed_process_leaves_nothing_that_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let left = folder.path().join("tmp/left");
    let script = "exec 9>\"$1\"; flock -n 9 || exit 1; echo half >&9; echo ready; sleep 60";
    #[expect(
        clippy::disallowed_methods,
        reason = "the test needs another process to kill"
    )]
    let mut child = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(&left)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    Store::open(folder.path()).unwrap();
    assert!(left.exists(), "the file of a living process was deleted");

    child.kill().unwrap();
    child.wait().unwrap();
    // The shell's own child holds the lock as long as it sleeps; a process of rbuild has no such children.
    std::fs::write(folder.path().join("tmp/other"), b"half").unwrap();
    Store::open(folder.path()).unwrap();
    assert!(!folder.path().join("tmp/other").exists());
    assert_eq!(store.put(b"works").unwrap(), Digest::of(b"works"));
}

/// A disk without room, for which Linux has a device file.
#[test]
fn a_full_disk_is_named_with_its_remedy() {
    let full = Path::new("/dev/full");
    let Ok(mut file) = std::fs::OpenOptions::new().write(true).open(full) else {
        eprintln!("SKIPPED: this machine has no /dev/full");
        return;
    };
    let source = file.write_all(b"x").unwrap_err();
    let error = builder_core::Error::from(Error::io("write", full)(source));
    assert_eq!(error.message(), "cannot write `/dev/full`");
    assert!(error.help().unwrap().contains("rbuild prune"), "{error:?}");
}
