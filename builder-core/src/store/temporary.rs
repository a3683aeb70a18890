//! Files in the making: each lies in `tmp/` and is locked as long as its process lives.
//!
//! A file gets its final name by a rename, complete or not at all. One whose lock is free belongs to a process that
//! was killed; the next [`super::Store::open`] deletes it. Nothing is flushed to the disk's platters: after a power
//! failure a blob may be damaged, which every reader notices.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::error::{Error, Result};
use super::lock::{self, Mode};
use super::moved;
use super::remove::remove_tree;

/// A locked file in `tmp/`; dropped, it is deleted.
#[derive(Debug)]
pub struct TemporaryFile(NamedTempFile);

impl TemporaryFile {
    /// Makes one in `folder`.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        loop {
            let file = tempfile::Builder::new()
                .prefix("")
                .permissions(Permissions::from_mode(0o644))
                .tempfile_in(folder)
                .map_err(Error::io("create a file in", folder))?;
            // A cleaner may have come between the creation and the lock: then the name is gone, or about to be.
            let locked = lock::try_lock(file.as_file(), file.path(), Mode::Exclusive)?;
            let links = file
                .as_file()
                .metadata()
                .map_err(Error::io("read", file.path()))?
                .nlink();
            if locked && links > 0 {
                return Ok(Self(file));
            }
        }
    }

    /// The open file, for reading, writing and seeking.
    pub fn file(&self) -> &File {
        self.0.as_file()
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Gives it its final name, in place of what has that name.
    pub fn rename(self, to: &Path) -> Result<File> {
        self.0.persist(to).map_err(|failure| Error::Io {
            verb: "create",
            path: to.to_owned(),
            source: failure.error,
        })
    }
}

impl io::Write for TemporaryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A locked directory in `tmp/`; dropped, it is deleted with all that is in it.
#[derive(Debug)]
pub struct TemporaryDirectory {
    /// None once it was renamed.
    directory: Option<tempfile::TempDir>,
    path: PathBuf,
    _lock: File,
}

impl TemporaryDirectory {
    /// Makes one in `folder`.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        loop {
            let directory = tempfile::Builder::new()
                .prefix("")
                .tempdir_in(folder)
                .map_err(Error::io("create a directory in", folder))?;
            // As for files: a cleaner may have come in between.
            let Ok(lock) = File::open(directory.path()) else {
                continue;
            };
            if lock::try_lock(&lock, directory.path(), Mode::Exclusive)?
                && directory.path().exists()
            {
                return Ok(Self {
                    path: directory.path().to_owned(),
                    directory: Some(directory),
                    _lock: lock,
                });
            }
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its final name, unless something has that name already: then it is deleted. Gives whether it was
    /// renamed.
    pub fn rename(mut self, to: &Path) -> Result<bool> {
        match std::fs::rename(&self.path, to) {
            Ok(()) => {
                if let Some(directory) = self.directory.take() {
                    // It has another name: nothing is left to delete under the old one.
                    let _ = directory.keep();
                }
                Ok(true)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(Error::io("create", to)(error)),
        }
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        if let Some(directory) = self.directory.take() {
            moved::put_back(&self.path);
            // What can't be deleted now is left to the next cleaning.
            let _ = remove_tree(&directory.keep());
        }
    }
}

/// Deletes the files in `folder` whose processes are gone. Failures are left to the next time.
pub(super) fn clean(folder: &Path) -> Result<()> {
    for found in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = found.map_err(Error::io("list", folder))?.path();
        let Ok(file) = File::open(&path) else {
            continue;
        };
        if !lock::try_lock(&file, &path, Mode::Exclusive)? {
            continue;
        }
        moved::put_back(&path);
        if remove_tree(&path).is_err() {
            break;
        }
    }
    Ok(())
}
