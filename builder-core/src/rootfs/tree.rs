//! Part of a tree as files on the disk: what a bind mount shows of a context, and what a cache mount begins with.

use std::path::Path;

use super::trouble;
use super::unpack::Unpacker;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;
use crate::layer::Record;
use crate::owners::{OwnerEncoding, SideTable};
use crate::timestamp::Timestamp;
use crate::tree::{Node, Tree};

/// Writes what is at `path` in `tree`, a directory with all that is in it or one file, to `place`, which must not
/// exist. Owners that the disk can't hold go to `table`; several names of one file become several files.
///
/// # Errors
/// [`ErrorKind::Store`] where `place` can't be written; those of reading the tree.
pub fn lay_out_tree(
    tree: &dyn Tree,
    path: &ImagePath,
    place: &Path,
    encoding: OwnerEncoding,
    table: &mut SideTable,
) -> Result<()> {
    let Some(node) = tree.look_up(path)? else {
        let message = format!("`{path}` is not in {}", tree.describe());
        return Err(Error::new(ErrorKind::Internal, message));
    };
    if node.entry.is_directory() {
        make(place)?;
        let mut unpacker = Unpacker::new(place, encoding, table)?;
        return directory(tree, path, node, &mut unpacker);
    }
    let (parent, name) = (place.parent(), place.file_name());
    let parent = parent.unwrap_or(Path::new("."));
    let name = name.unwrap_or_default();
    let mut unpacker = Unpacker::new(parent, encoding, table)?;
    let to = ImagePath::root().child(std::os::unix::ffi::OsStrExt::as_bytes(name));
    file(tree, node, to, &mut unpacker)
}

/// Makes an empty directory at `place` with a mode and an owner.
///
/// # Errors
/// [`ErrorKind::Store`] where it can't be made.
pub fn lay_out_empty(
    place: &Path,
    mode: u32,
    (uid, gid): (u32, u32),
    encoding: OwnerEncoding,
    now: Timestamp,
) -> Result<()> {
    make(place)?;
    let mut entry = Entry::directory(ImagePath::root(), now);
    (entry.mode, entry.uid, entry.gid) = (mode, uid, gid);
    let mut table = SideTable::default();
    let mut unpacker = Unpacker::new(place, encoding, &mut table)?;
    unpacker
        .close(&entry)
        .map_err(trouble("make", place, &entry.path))
}

fn make(place: &Path) -> Result<()> {
    std::fs::create_dir(place).map_err(trouble("make", place, &ImagePath::root()))
}

/// Writes a directory's content, then what the directory itself has.
fn directory(
    tree: &dyn Tree,
    top: &ImagePath,
    node: Node,
    unpacker: &mut Unpacker<'_>,
) -> Result<()> {
    let mut levels = vec![(tree.list(&node.entry.path)?, node.entry)];
    while let Some((listing, _)) = levels.last_mut() {
        let Some(child) = listing.next().transpose()? else {
            let Some((_, mut entry)) = levels.pop() else {
                break;
            };
            entry.path = entry.path.strip_prefix(top).unwrap_or_default();
            let closed = unpacker.close(&entry);
            closed.map_err(|error| unpacker.fail(&entry.path, error))?;
            continue;
        };
        let to = child.entry.path.strip_prefix(top).unwrap_or_default();
        if child.entry.is_directory() {
            let made = unpacker.chain.make(&to).map(|_| ());
            made.map_err(|error| unpacker.fail(&to, error))?;
            levels.push((tree.list(&child.entry.path)?, child.entry));
        } else {
            file(tree, child, to, unpacker)?;
        }
    }
    Ok(())
}

/// Writes one file.
fn file(tree: &dyn Tree, mut node: Node, to: ImagePath, unpacker: &mut Unpacker<'_>) -> Result<()> {
    let mut entry = node.entry.clone();
    entry.path = to;
    if entry.size() == 0 {
        let record = Record::present(entry, None);
        return unpacker.put(&record, &mut std::io::empty());
    }
    let mut content = tree.open(&mut node)?;
    entry.kind = node.entry.kind.clone();
    unpacker.put(&Record::present(entry, None), &mut *content)
}
