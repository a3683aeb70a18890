//! A file that appears whole under its name or not at all.
//!
//! The bytes go to a file without a name in the same directory (`O_TMPFILE`), which gets its name in the end: whatever
//! kills the program before, nothing is left. Where the file system knows no such files, a hidden one is used.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

/// A file on its way to its name.
#[derive(Debug)]
pub(crate) struct WholeFile {
    file: File,
    destination: PathBuf,
    /// The hidden name, where there is one; removed on drop unless the file got its own.
    hidden: Option<PathBuf>,
}

impl WholeFile {
    /// Starts a file that will be called `destination`; its directory must exist.
    pub(crate) fn create(destination: &Path) -> io::Result<Self> {
        let directory = directory_of(destination);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::open(directory, flags, Mode::from_raw_mode(0o666)) {
            return Ok(Self {
                file: file.into(),
                destination: destination.to_owned(),
                hidden: None,
            });
        }
        let hidden = hidden_name(destination);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&hidden)?;
        Ok(Self {
            file,
            destination: destination.to_owned(),
            hidden: Some(hidden),
        })
    }

    /// The open file.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file its name; what had it before is replaced in one step.
    pub(crate) fn persist(mut self) -> io::Result<()> {
        let hidden = match self.hidden.take() {
            Some(hidden) => hidden,
            None => {
                let hidden = hidden_name(&self.destination);
                let source = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, &source, CWD, &hidden, AtFlags::SYMLINK_FOLLOW)?;
                hidden
            }
        };
        std::fs::rename(&hidden, &self.destination).inspect_err(|_| {
            let _ = std::fs::remove_file(&hidden);
        })
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            let _ = std::fs::remove_file(hidden);
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// A name beside the destination that no other process uses at the same time.
pub(crate) fn hidden_name(destination: &Path) -> PathBuf {
    let name = destination
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    directory_of(destination).join(format!(".{name}.{}.partial", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_dropped_file_leaves_nothing_and_a_kept_one_replaces() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("image.tar");
        let mut file = WholeFile::create(&path).unwrap();
        file.file().write_all(b"half").unwrap();
        drop(file);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
        for text in ["one", "two"] {
            let mut file = WholeFile::create(&path).unwrap();
            file.file().write_all(text.as_bytes()).unwrap();
            file.persist().unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
