//! Where an output that is one file goes: to a name that it gets when it is whole, or into what is there and is no file.
//!
//! A device, a named pipe or a link is never replaced. A link to a file leaves the link as it is; what is written through
//! a pipe or a device can't be whole or not there, and isn't meant to be.

use std::fs::File;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Problem;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Interrupt;

/// How often a pipe without a reader is tried.
const PAUSE: Duration = Duration::from_millis(50);

/// A place for the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A name for a whole file: the destination, or what a link there leads to.
    Name(PathBuf),
    /// Something to write into.
    Through,
}

/// Looks at what is at a destination; nothing is opened.
///
/// # Errors
/// [`ErrorKind::Output`] for what can't, or must not, be written: a disk, a socket, a link to nothing.
pub(super) fn find(path: &Path) -> Result<Place> {
    let Ok(found) = path.symlink_metadata() else {
        return Ok(Place::Name(path.to_owned()));
    };
    let kind = found.file_type();
    if kind.is_file() {
        return Ok(Place::Name(path.to_owned()));
    }
    // `/dev/stdout` and its like lead to something that is open already.
    let is_opened = path.starts_with("/dev") || path.starts_with("/proc");
    match path.metadata().map(|found| found.file_type()) {
        Ok(kind) if kind.is_char_device() || kind.is_fifo() => Ok(Place::Through),
        Ok(kind) if kind.is_file() && is_opened => Ok(Place::Through),
        Ok(kind) if kind.is_file() => {
            let real = path.canonicalize().map_err(Problem::at("find", path))?;
            Ok(Place::Name(real))
        }
        Ok(kind) if kind.is_block_device() => Err(refusal(path, "is a disk")),
        Ok(kind) if kind.is_socket() => Err(refusal(path, "is a socket")),
        Ok(_) => Err(refusal(path, "is a directory")),
        Err(_) => Err(refusal(path, "is a link to nothing")),
    }
}

fn refusal(path: &Path, what: &str) -> Error {
    let message = format!("`{}` {what}; nothing is written", path.display());
    Error::new(ErrorKind::Output, message).with_help("name a file with `dest=`")
}

/// Opens what is to be written into. A pipe is waited for until somebody reads it.
///
/// # Errors
/// [`ErrorKind::Output`], [`ErrorKind::Interrupted`].
pub(super) fn open(path: &Path, interrupt: &Interrupt) -> Result<File> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = loop {
        interrupt.check()?;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::NXIO) => std::thread::sleep(PAUSE),
            other => break other.map_err(|error| Problem::at("open", path)(error.into()))?,
        }
    };
    // From here on a slow reader is waited for by the kernel.
    let status = rustix::fs::fcntl_getfl(&file);
    status
        .and_then(|status| rustix::fs::fcntl_setfl(&file, status.difference(OFlags::NONBLOCK)))
        .map_err(|error| Problem::at("open", path)(error.into()))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_is_no_file_is_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        symlink("file", at("link")).unwrap();
        symlink("link", at("link-to-link")).unwrap();
        symlink("nothing", at("dangling")).unwrap();
        symlink(home.path(), at("to-directory")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), fifo, Mode::RWXU, 0).unwrap();
        symlink("fifo", at("to-fifo")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        let real = home.path().canonicalize().unwrap().join("file");
        for (name, expected) in [
            ("new", Some(Place::Name(at("new")))),
            ("file", Some(Place::Name(at("file")))),
            ("link", Some(Place::Name(real.clone()))),
            ("link-to-link", Some(Place::Name(real))),
            ("fifo", Some(Place::Through)),
            ("to-fifo", Some(Place::Through)),
            ("socket", None),
            ("dangling", None),
            ("to-directory", None),
        ] {
            assert_eq!(find(&at(name)).ok(), expected, "{name}");
        }
        assert_eq!(find(Path::new("/dev/null")).unwrap(), Place::Through);
    }

    #[test]
    fn a_pipe_without_a_reader_is_waited_for_until_an_interrupt() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("fifo");
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, Mode::RWXU, 0).unwrap();
        let interrupt = Interrupt::default();
        interrupt.set();
        assert!(open(&path, &interrupt).is_err());
        let reader = std::thread::spawn({
            let path = path.clone();
            move || std::fs::read(path).unwrap()
        });
        let mut file = open(&path, &Interrupt::default()).unwrap();
        std::io::Write::write_all(&mut file, b"x").unwrap();
        drop(file);
        assert_eq!(reader.join().unwrap(), b"x");
    }
}
