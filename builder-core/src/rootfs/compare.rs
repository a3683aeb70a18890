//! The rule that says whether a file is another than the layers below have.

use std::io::Read;
use std::path::Path;

use super::look::Seen;
use super::trouble;
use crate::entry::{Entry, EntryKind};
use crate::error::Result;
use crate::image::view::View;
use crate::image_path::ImagePath;
use crate::layer::header;
use crate::tree::{Node, Tree as _};

/// Bytes compared at a time.
const BUFFER: usize = 64 * 1024;

/// Whether a file on disk differs from what `base` has at its path. `root` is where it lies, for messages.
pub(super) fn is_changed(seen: &mut Seen, base: &View<'_>, root: &Path) -> Result<bool> {
    let Some(mut node) = find(base, &seen.entry.path)? else {
        return Ok(true);
    };
    if differs(&seen.entry, &node.entry) {
        return Ok(true);
    }
    match &mut seen.content {
        Some(content) if node.entry.size() > 0 => {
            let mut other = base.open(&mut node)?;
            let equal = equal_bytes(content, &mut *other, root, &seen.entry.path)?;
            Ok(!equal)
        }
        _ => Ok(false),
    }
}

/// What `base` has at a path; a hard link to something without bytes is what it leads to.
pub(super) fn find(base: &View<'_>, path: &ImagePath) -> Result<Option<Node>> {
    let Some(mut node) = base.look_up(path)? else {
        return Ok(None);
    };
    if let EntryKind::HardLink { target } = &node.entry.kind
        && let Some(file) = base.look_up(target)?
    {
        node.entry.kind = file.entry.kind;
    }
    Ok(Some(node))
}

/// Whether two entries for one path differ in what a layer holds of them.
fn differs(now: &Entry, then: &Entry) -> bool {
    let capability = |entry: &Entry| {
        let value = entry.xattrs.get(header::CAPABILITY)?;
        header::capability(value)
    };
    let another_time = if then.mtime.nanos == 0 {
        now.mtime.seconds != then.mtime.seconds
    } else {
        now.mtime != then.mtime
    };
    now.kind != then.kind
        || owner(now) != owner(then)
        || (another_time && !now.is_directory())
        || capability(now) != capability(then)
}

/// Mode, user and group. The mode of a symbolic link says nothing.
pub(super) fn owner(entry: &Entry) -> (u32, u32, u32) {
    let mode = if entry.is_symlink() { 0 } else { entry.mode };
    (mode & 0o7777, entry.uid, entry.gid)
}

fn equal_bytes(
    left: &mut impl Read,
    right: &mut dyn Read,
    root: &Path,
    path: &ImagePath,
) -> Result<bool> {
    let (mut one, mut two) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let filled = fill(left, &mut one).map_err(trouble("read", root, path))?;
        let other = fill(right, &mut two).map_err(trouble("compare", root, path))?;
        if one[..filled] != two[..other] {
            return Ok(false);
        }
        if filled == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the bytes end.
fn fill<R: Read + ?Sized>(reader: &mut R, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(taken) => filled += taken,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
