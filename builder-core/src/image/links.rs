//! Hard links of a layer to files that the layers below it hold, as umoci, podman and containerd unpack them.
//!
//! The link is another file with what its target has: content, mode, owner, time. Whether the two are one file on a disk
//! is for the runtime that unpacks the image; here they are two, in every engine alike.

use super::view::{View, node};
use crate::entry::EntryKind;
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;
use crate::layer::Record;
use crate::tree::resolve::{Resolved, resolve};
use crate::tree::{Listing, Node, Tree};

impl View<'_> {
    /// The node of a record of layer `number`; a hard link is what it leads to.
    pub(super) fn node(&self, number: usize, record: Record) -> Result<Node> {
        let path = record.entry.path.clone();
        let EntryKind::HardLink { target } = &record.entry.kind else {
            return Ok(node(number, record));
        };
        if record.data.is_some() {
            return Ok(node(number, record));
        }
        let mut found = match self.index(number)?.linked(&record)? {
            Some(own) => node(number, own),
            None => self.lower_file(number, &path, target)?,
        };
        found.entry.path = path;
        Ok(found)
    }

    /// What the layers below layer `number` have at a hard link's target.
    fn lower_file(&self, number: usize, link: &ImagePath, target: &ImagePath) -> Result<Node> {
        let below = Below { view: self, number };
        match resolve(&below, target, false)? {
            Resolved::Found(node) if !node.entry.is_directory() => Ok(node),
            _ => {
                let message = format!(
                    "{} has a layer in which `{link}` is a hard link to `{target}`, and no lower layer has that file",
                    self.describe()
                );
                let layer = self.layer_digest(number);
                Err(Error::new(ErrorKind::BaseImage, message)
                    .with_note(format!("the layer is {layer}"))
                    .with_help("have the image made again"))
            }
        }
    }
}

/// The layers below one, as a tree.
#[derive(Debug)]
struct Below<'v, 's> {
    view: &'v View<'s>,
    number: usize,
}

impl Tree for Below<'_, '_> {
    fn look_up(&self, path: &ImagePath) -> Result<Option<Node>> {
        self.view.look_up_below(self.number, path)
    }

    /// Nobody asks: links are resolved component by component.
    fn list(&self, _path: &ImagePath) -> Result<Listing<'_>> {
        Ok(Box::new(std::iter::empty()))
    }

    fn open(&self, node: &mut Node) -> Result<Box<dyn std::io::Read + Send + '_>> {
        self.view.open(node)
    }

    fn describe(&self) -> String {
        self.view.describe()
    }
}
