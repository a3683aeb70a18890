//! The build context: a directory less what its ignore file excludes.

pub mod ignore;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use crate::image_path::ImagePath;
use crate::tree::directory::Directory;
use crate::tree::filter::{Filtered, Keep};
use crate::tree::pattern::PatternList;
use crate::tree::{Listing, Node, Tree};
use ignore::IgnoreFile;

/// A directory to copy from, without what its ignore file excludes.
#[derive(Debug)]
pub struct Context {
    visible: Filtered<Filtered<Directory>>,
    ignore: IgnoreFile,
}

impl Context {
    /// Opens a directory. `ignore_files` are the paths where its ignore file may be, the first that exists holds.
    /// `hidden` are files that rbuild itself wrote into the directory: they are left out, so that one build's output
    /// is not the next one's input. `description` is how messages name it: "the build context".
    ///
    /// # Errors
    /// [`ErrorKind::Context`](crate::ErrorKind::Context) where the directory or the ignore file can't be read, or
    /// a pattern is broken.
    pub fn open(
        path: &Path,
        ignore_files: &[PathBuf],
        hidden: &[ImagePath],
        description: &str,
    ) -> Result<Self> {
        let directory = Directory::open(path, description)?;
        let ignore = ignore::read(ignore_files)?;
        let (root, keep) = (ImagePath::root(), Keep::Unmatched);
        let patterns = Arc::clone(&ignore.patterns);
        let not_ignored = Filtered::new(directory, root.clone(), patterns, keep, &ignore.name);
        let hidden = Arc::new(PatternList::from_literals(hidden));
        let visible = Filtered::new(not_ignored, root, hidden, keep, "an output of rbuild");
        Ok(Self { visible, ignore })
    }

    /// The ignore file that holds.
    pub fn ignore(&self) -> &IgnoreFile {
        &self.ignore
    }
}

impl Tree for Context {
    fn look_up(&self, path: &ImagePath) -> Result<Option<Node>> {
        self.visible.look_up(path)
    }

    fn list(&self, path: &ImagePath) -> Result<Listing<'_>> {
        self.visible.list(path)
    }

    fn open(&self, node: &mut Node) -> Result<Box<dyn Read + Send + '_>> {
        self.visible.open(node)
    }

    fn explain_absence(&self, path: &ImagePath) -> Option<String> {
        self.visible.explain_absence(path)
    }

    fn describe(&self) -> String {
        self.visible.describe()
    }
}
