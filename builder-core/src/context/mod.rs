//! The build context: a directory less what its ignore file excludes.

pub mod ignore;

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::image_path::ImagePath;
use crate::tree::Tree;
use crate::tree::directory::Directory;
use crate::tree::filter::{Filtered, Keep};
use crate::tree::pattern::PatternList;
use ignore::IgnoreFile;

/// A directory to copy from, with the patterns of its ignore file.
#[derive(Debug)]
pub struct Context {
    directory: Directory,
    ignore: IgnoreFile,
    /// Outputs of this and of earlier builds that lie in the directory; see [`Context::hide`].
    hidden: PatternList,
}

impl Context {
    /// Opens a directory. `ignore_files` are the paths where its ignore file may be, the first that exists holds.
    /// `description` is how messages name it: "the build context".
    ///
    /// # Errors
    /// [`ErrorKind::Context`](crate::ErrorKind::Context) where the directory or the ignore file can't be read, or
    /// a pattern is broken.
    pub fn open(path: &Path, ignore_files: &[PathBuf], description: &str) -> Result<Self> {
        let directory = Directory::open(path, description)?;
        let ignore = ignore::read(ignore_files)?;
        Ok(Self {
            directory,
            ignore,
            hidden: PatternList::default(),
        })
    }

    /// Leaves out files that rbuild itself wrote into the directory, so that one build's output is not the next
    /// one's input.
    pub fn hide(&mut self, paths: &[ImagePath]) {
        self.hidden = PatternList::from_literals(paths);
    }

    /// The patterns of the ignore file.
    pub fn ignore(&self) -> &IgnoreFile {
        &self.ignore
    }

    /// Calls `use_tree` with the visible part of the directory.
    pub fn with_tree<R>(&self, use_tree: impl FnOnce(&dyn Tree) -> R) -> R {
        let root = ImagePath::root();
        let ignored = Filtered::new(
            &self.directory,
            root.clone(),
            &self.ignore.patterns,
            Keep::Unmatched,
            &self.ignore.name,
        );
        if self.hidden.is_empty() {
            return use_tree(&ignored);
        }
        use_tree(&Filtered::new(
            &ignored,
            root,
            &self.hidden,
            Keep::Unmatched,
            "an output of rbuild",
        ))
    }
}
