//! The destination of COPY and ADD: where the words of an instruction lead in the stage.

use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;
use crate::plan::step::Destination;
use crate::tree::Tree;
use crate::tree::resolve::{Resolved, resolve};

/// A destination, with links in it followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where it is.
    pub(crate) path: ImagePath,
    /// Whether it is written as a directory.
    written_as_directory: bool,
    /// What is there.
    present: Present,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Present {
    Nothing,
    Directory,
    Other,
}

impl Target {
    /// Follows the links of a destination in `base`; without a base (`--link`) it stands as written.
    ///
    /// # Errors
    /// A component that is a file, links in a circle, and those of reading the base.
    pub(crate) fn find(destination: &Destination, base: Option<&dyn Tree>) -> Result<Self> {
        let written = ImagePath::clean(&destination.path);
        let (path, present) = match base {
            None => (written, Present::Nothing),
            Some(base) => match resolve(base, &written, true)? {
                Resolved::Found(node) if node.entry.is_directory() => {
                    (node.entry.path, Present::Directory)
                }
                Resolved::Found(node) => (node.entry.path, Present::Other),
                Resolved::Missing(path) => (path, Present::Nothing),
                Resolved::NotADirectory(path) => return Err(below_file(&written, &path, base)),
                Resolved::Loop(path) => return Err(circle(&written, &path, base)),
            },
        };
        let written_as_directory = destination.directory || path.is_root();
        Ok(Self {
            path,
            written_as_directory,
            present,
        })
    }

    /// Whether files go into it under their own names.
    pub(crate) fn is_directory(&self) -> bool {
        self.written_as_directory || self.present == Present::Directory
    }

    /// Where a file called `name` goes.
    pub(crate) fn file(&self, name: &[u8]) -> Result<ImagePath> {
        if !self.is_directory() {
            return Ok(self.path.clone());
        }
        Ok(self.directory()?.child(name))
    }

    /// Where the content of a directory goes.
    ///
    /// # Errors
    /// Where a file is there.
    pub(crate) fn directory(&self) -> Result<ImagePath> {
        if self.present == Present::Other {
            let message = format!(
                "the destination `{}` is a file, but a directory is needed there",
                self.path
            );
            return Err(Error::new(ErrorKind::Dockerfile, message).with_help("choose another path"));
        }
        Ok(self.path.clone())
    }
}

/// An error for a path that leads through a file.
pub(crate) fn below_file(written: &ImagePath, file: &ImagePath, base: &dyn Tree) -> Error {
    let message = format!(
        "`{written}` can't be made: `{file}` is a file in {}",
        base.describe()
    );
    Error::new(ErrorKind::Dockerfile, message).with_help("choose another path")
}

/// An error for links that lead nowhere.
pub(crate) fn circle(written: &ImagePath, link: &ImagePath, base: &dyn Tree) -> Error {
    let message = format!(
        "`{written}` leads through too many symbolic links in {}",
        base.describe()
    );
    Error::new(ErrorKind::Dockerfile, message).with_note(format!(
        "the last one is `{link}`; it is probably part of a circle"
    ))
}
