//! The program of the helper as a copy that nobody can change.
//!
//! Whoever is in the root of a RUN may start `/proc/self/exe` before the command's own program has taken its place,
//! through a script's or a program's interpreter too, and then holds the file that the helper was started from. As root
//! of that file's owner it could change its mode and owner, or what it holds once it is not running any more
//! (CVE-2019-5736 was that). So the helper never runs from the machine's own file.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

/// Copies a program into memory and seals it: neither its bytes nor its length can change any more, whoever holds it.
///
/// # Errors
/// Of reading the program; `EACCES` where the machine forbids programs in memory (`vm.memfd_noexec=2`).
pub(super) fn in_memory(program: &Path) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = match rustix::fs::memfd_create("rbuild", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every file in memory can be executed, and the flag is unknown.
        Err(Errno::INVAL) => rustix::fs::memfd_create("rbuild", flags)?,
        other => other?,
    };
    io::copy(
        &mut File::open(program)?,
        &mut File::from(copy.try_clone()?),
    )?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy)
}

/// Copies a program into a file without a name in `folder`, which is gone with its last user. It is for one start of
/// the helper: who gets hold of it changes this copy alone.
///
/// # Errors
/// Of reading and writing.
pub(super) fn on_disk(program: &Path, folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let copy = rustix::fs::open(folder, flags, Mode::from_raw_mode(0o500))?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open(program)?, &mut copy)?;
    // A file that is open to be written can't be executed.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path_of(&copy), flags, Mode::empty())?)
}

/// The path by which this process, and a child that is about to start another program, reach an open file.
pub(super) fn path_of(file: impl AsFd) -> std::path::PathBuf {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    fn program() -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut file, b"#!/bin/true\n").unwrap();
        file
    }

    #[test]
    fn a_sealed_copy_can_neither_be_written_nor_cut() {
        let program = program();
        let Ok(copy) = in_memory(program.path()) else {
            // `vm.memfd_noexec=2`: the other copy is used.
            return;
        };
        let mut text = String::new();
        let path = path_of(&copy);
        File::open(&path)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "#!/bin/true\n");
        let written = std::fs::write(&path, "other");
        assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(rustix::fs::ftruncate(&copy, 0).is_err());
    }

    #[test]
    fn a_copy_on_disk_has_no_name_and_can_be_executed() {
        let (program, folder) = (program(), tempfile::tempdir().unwrap());
        let copy = on_disk(program.path(), folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let found = std::fs::metadata(path_of(&copy)).unwrap();
        assert_eq!(
            (found.len(), found.permissions().mode() & 0o7777),
            (12, 0o500)
        );
    }
}
