//! Following symbolic links inside a tree, without ever leaving it.
//!
//! An absolute target starts again at the tree's root, and `..` at the root stays there, as for a process whose root
//! the tree is (`path_resolution(7)` under `chroot(2)`).

use super::{Node, Tree};
use crate::entry::EntryKind;
use crate::error::Result;
use crate::image_path::ImagePath;

/// Linux gives up after this many links in one resolution.
const MAX_LINKS: usize = 40;

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is looked at where it is returned, and nearly always the large one"
)]
pub enum Resolved {
    /// Something is there; `node.entry.path` is its path without links. Never a symbolic link, unless the last one
    /// was not to be followed.
    Found(Node),
    /// Nothing is there; the path with all links resolved that could be. What is missing is kept as written.
    Missing(ImagePath),
    /// A component that is no directory stands in the way.
    NotADirectory(ImagePath),
    /// Too many links, which most often lead in a circle.
    Loop(ImagePath),
}

/// Follows every link in `path`; the last component too where `follow_last` says so.
///
/// # Errors
/// Those of reading the tree.
pub fn resolve(tree: &dyn Tree, path: &ImagePath, follow_last: bool) -> Result<Resolved> {
    // Components still to be walked, the next one at the end.
    let mut pending: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
    let mut here = ImagePath::root();
    let mut links = 0;
    let mut last_found: Option<Node> = None;
    while let Some(name) = pending.pop() {
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                here = here.parent().unwrap_or_default();
                last_found = None;
                continue;
            }
            _ => {}
        }
        let path = here.child(&name);
        let Some(node) = tree.look_up(&path)? else {
            let rest = pending
                .iter()
                .rev()
                .fold(path, |path, name| path.join(name));
            return Ok(Resolved::Missing(rest));
        };
        match &node.entry.kind {
            EntryKind::Symlink { target } if follow_last || !pending.is_empty() => {
                links += 1;
                if links > MAX_LINKS {
                    return Ok(Resolved::Loop(path));
                }
                if target.starts_with(b"/") {
                    here = ImagePath::root();
                }
                last_found = None;
                pending.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
            }
            EntryKind::Directory => {
                here = path;
                last_found = Some(node);
            }
            _ if pending.iter().any(|name| !name.is_empty() && name != b".") => {
                return Ok(Resolved::NotADirectory(path));
            }
            _ => return Ok(Resolved::Found(node)),
        }
    }
    if let Some(node) = last_found {
        return Ok(Resolved::Found(node));
    }
    Ok(tree
        .look_up(&here)?
        .map_or(Resolved::Missing(here), Resolved::Found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::directory::Directory;

    #[test]
    fn links_stay_inside_the_tree() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("usr/lib")).unwrap();
        std::fs::write(home.path().join("usr/lib/f"), "").unwrap();
        for (target, name) in [
            ("usr/lib", "lib"),
            ("/usr/lib", "abs"),
            ("../../../../usr/./lib/", "up"),
            ("f", "usr/lib/again"),
            ("circle", "circle"),
            ("/nowhere/x", "dangling"),
            ("/", "root"),
        ] {
            std::os::unix::fs::symlink(target, home.path().join(name)).unwrap();
        }
        let tree = Directory::open(home.path(), "test").unwrap();
        let check = |path: &str| match resolve(&tree, &ImagePath::clean(path), true).unwrap() {
            Resolved::Found(node) => format!("found {}", node.entry.path),
            Resolved::Missing(path) => format!("missing {path}"),
            Resolved::NotADirectory(path) => format!("not a directory {path}"),
            Resolved::Loop(path) => format!("loop {path}"),
        };
        for (path, expected) in [
            ("/", "found /"),
            ("lib/f", "found /usr/lib/f"),
            ("abs/again", "found /usr/lib/f"),
            ("up", "found /usr/lib"),
            ("root/lib", "found /usr/lib"),
            ("circle", "loop /circle"),
            ("dangling/y", "missing /nowhere/x/y"),
            ("usr/lib/f/x", "not a directory /usr/lib/f"),
            ("lib/new/deep", "missing /usr/lib/new/deep"),
        ] {
            assert_eq!(check(path), expected, "{path}");
        }
    }
}
