//! The store among processes that are killed and disks that are full.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::disallowed_methods,
    reason = "these tests need other processes"
)]

use std::io::Read as _;
use std::process::{Command, Stdio};

use builder_core::digest::Digest;
use builder_core::entry::Entry;
use builder_core::image_path::ImagePath;
use builder_core::layer::{Compression, LayerOptions, LayerWriter};
use builder_core::store::Store;
use builder_core::timestamp::Timestamp;

/// A process that was killed while it wrote: its file stays behind in `tmp/`, its lock doesn't.
#[test]
fn a_killed_process_leaves_nothing_that_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let left = folder.path().join("tmp/left");
    let script = "exec 9>\"$1\"; flock -n 9 || exit 1; echo half >&9; echo ready; exec sleep 60";
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
    Store::open(folder.path()).unwrap();
    assert!(
        !left.exists(),
        "the file of a killed process is still there"
    );
    assert_eq!(store.put(b"works").unwrap(), Digest::of(b"works"));
}

/// A file system that is taken away at the end of a test.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// A file system in memory with two megabytes; none where this machine doesn't let us.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = ["-t", "tmpfs", "-o", "size=2m", "tmpfs"];
        run(Command::new("mount").args(options).arg(folder.path())).then(|| Self(folder))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Command::new("umount").arg(self.0.path()));
    }
}

fn run(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// A disk that gets full while a layer is made: the error comes back from the writing thread, with its remedy, and
/// nothing is left.
#[test]
fn a_full_disk_is_named_with_its_remedy() {
    let Some(disk) = Mounted::new() else {
        eprintln!("SKIPPED: this machine doesn't let the tests mount a small disk");
        return;
    };
    let store = Store::open(disk.0.path()).unwrap();
    let options = LayerOptions {
        compression: Compression::None,
        epoch: None,
        threads: 2,
    };
    let mut writer = LayerWriter::new(&store, &options).unwrap();
    let size = 64 << 20;
    let entry = Entry::file(
        ImagePath::clean("/f"),
        size,
        0o644,
        Timestamp::from_seconds(0),
    );
    let written = writer.append(&entry, Some(&mut std::io::repeat(7).take(size)));
    let error = written.and_then(|()| writer.finish()).unwrap_err();
    let error = builder_core::Error::from(error);
    let start = format!("cannot write `{}", disk.0.path().display());
    assert!(error.message().starts_with(&start), "{error}");
    assert!(error.help().unwrap().contains("rbuild prune"), "{error:?}");
    assert_eq!(error.kind(), builder_core::ErrorKind::Store);
    assert_eq!(store.put(b"small").unwrap(), Digest::of(b"small"));
}
