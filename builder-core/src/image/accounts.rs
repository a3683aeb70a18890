//! Users and groups by name, from an image's own `/etc/passwd` and `/etc/group`.
//!
//! The files are read through the view of a stage, with links resolved inside it; the host's accounts play no part.
//! Formats: passwd(5) and group(5). A line that is not of the format is passed over, as libc does.

use std::io::Read;

use crate::entry::EntryKind;
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;
use crate::tree::Tree;
use crate::tree::resolve::{Resolved, resolve};

/// A larger file is not read: it is no list of accounts.
const MAX_BYTES: u64 = 10 << 20;

/// A line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Numeric user id.
    pub uid: u32,
    /// Numeric id of the primary group.
    pub gid: u32,
    /// Home directory; may be empty.
    pub home: String,
}

/// A line of `/etc/group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Group name.
    pub name: String,
    /// Numeric group id.
    pub gid: u32,
    /// Names of the users that have it as a supplementary group.
    pub members: Vec<String>,
}

/// Reads `/etc/passwd`; none where the image has none.
///
/// # Errors
/// Those of reading the tree, and a file of more than 10 MiB.
pub fn users(tree: &dyn Tree) -> Result<Option<Vec<User>>> {
    let Some(text) = read(tree, "/etc/passwd")? else {
        return Ok(None);
    };
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        Some(User {
            name: fields.first()?.trim().to_owned(),
            uid: fields.get(2)?.trim().parse().ok()?,
            gid: fields.get(3)?.trim().parse().ok()?,
            home: (*fields.get(5).unwrap_or(&"")).to_owned(),
        })
    };
    Ok(Some(text.lines().filter_map(parse).collect()))
}

/// Reads `/etc/group`; none where the image has none.
///
/// # Errors
/// Those of reading the tree, and a file of more than 10 MiB.
pub fn groups(tree: &dyn Tree) -> Result<Option<Vec<Group>>> {
    let Some(text) = read(tree, "/etc/group")? else {
        return Ok(None);
    };
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let members = fields
            .get(3)
            .unwrap_or(&"")
            .split(',')
            .filter(|name| !name.is_empty());
        Some(Group {
            name: fields.first()?.trim().to_owned(),
            gid: fields.get(2)?.trim().parse().ok()?,
            members: members.map(str::to_owned).collect(),
        })
    };
    Ok(Some(text.lines().filter_map(parse).collect()))
}

/// The user called `name`.
///
/// # Errors
/// [`ErrorKind::Dockerfile`] where there is no such user or no `/etc/passwd`; the names that there are stand in the
/// help.
pub fn user(tree: &dyn Tree, name: &str) -> Result<User> {
    let users = users(tree)?;
    let known = users
        .iter()
        .flatten()
        .map(|user| user.name.clone())
        .collect();
    let found = users.into_iter().flatten().find(|user| user.name == name);
    found.ok_or_else(|| unknown(tree, "user", name, "/etc/passwd", known))
}

/// The number of the group called `name`.
///
/// # Errors
/// [`ErrorKind::Dockerfile`] where there is no such group or no `/etc/group`.
pub fn group(tree: &dyn Tree, name: &str) -> Result<u32> {
    let groups = groups(tree)?;
    let known = groups
        .iter()
        .flatten()
        .map(|group| group.name.clone())
        .collect();
    let found = groups
        .into_iter()
        .flatten()
        .find(|group| group.name == name);
    found
        .map(|group| group.gid)
        .ok_or_else(|| unknown(tree, "group", name, "/etc/group", known))
}

fn unknown(tree: &dyn Tree, what: &str, name: &str, file: &str, mut known: Vec<String>) -> Error {
    let error = Error::new(
        ErrorKind::Dockerfile,
        format!("no {what} `{name}` in {}", tree.describe()),
    );
    if known.is_empty() {
        return error
            .with_note(format!("`{file}` is missing or empty there"))
            .with_help("use a number, or copy the file into the stage first");
    }
    known.sort();
    known.truncate(40);
    error
        .with_note(format!("`{file}` holds {}", known.join(", ")))
        .with_help("use one of these names or a number; rbuild does not take 0 for an unknown name")
}

fn read(tree: &dyn Tree, path: &str) -> Result<Option<String>> {
    let Resolved::Found(mut node) = resolve(tree, &ImagePath::clean(path), true)? else {
        return Ok(None);
    };
    if !matches!(node.entry.kind, EntryKind::File { .. }) {
        return Ok(None);
    }
    if node.entry.size() > MAX_BYTES {
        let message = format!(
            "`{path}` in {} has more than {MAX_BYTES} bytes",
            tree.describe()
        );
        return Err(Error::new(ErrorKind::Dockerfile, message));
    }
    let mut bytes = Vec::new();
    tree.open(&mut node)?
        .take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| {
            Error::new(
                ErrorKind::Store,
                format!("`{path}` in {} can't be read", tree.describe()),
            )
            .with_source(error)
        })?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::directory::Directory;

    #[test]
    fn finds_names_and_tells_which_there_are() {
        let home = tempfile::tempdir().unwrap();
        let tree = Directory::open(home.path(), "stage `x`").unwrap();
        assert!(user(&tree, "app").unwrap_err().notes()[0].contains("missing"));
        std::fs::create_dir(home.path().join("etc")).unwrap();
        std::fs::write(
            home.path().join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nbroken\napp:x:12:34::/a:\n",
        )
        .unwrap();
        std::fs::write(
            home.path().join("etc/group"),
            "app:x:34:\nextra:x:56:app,b\n",
        )
        .unwrap();
        let app = User {
            name: "app".to_owned(),
            uid: 12,
            gid: 34,
            home: "/a".to_owned(),
        };
        assert_eq!(user(&tree, "app").unwrap(), app);
        assert_eq!(group(&tree, "extra").unwrap(), 56);
        assert_eq!(groups(&tree).unwrap().unwrap()[1].members, ["app", "b"]);
        let error = user(&tree, "nobody").unwrap_err();
        assert!(error.message().contains("no user `nobody` in stage `x`"));
        assert!(error.notes()[0].contains("app, root"));
    }
}
