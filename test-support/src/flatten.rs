//! What a stack of layers comes to: one tree, with whiteouts, opaque directories and hard links applied.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read as _;

use sha2::{Digest as _, Sha256};

/// One file of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `file dir symlink fifo char block`.
    pub kind: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Bytes, of a file.
    pub size: u64,
    /// SHA-256 of the content in hexadecimal, of a file.
    pub sha256: String,
    /// The content, of a file.
    pub content: Vec<u8>,
    /// Where a symbolic link points to.
    pub link: Vec<u8>,
    /// The first path in order of the same file, of a hard link.
    pub hardlink_of: Option<Vec<u8>>,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Modification time in whole seconds.
    pub mtime: i64,
    /// Major and minor number, of a device.
    pub device: Option<(u32, u32)>,
    /// Whether no layer says anything about this directory.
    pub implicit: bool,
}

/// Paths with their entries, `/` among them.
pub type Files = BTreeMap<Vec<u8>, Entry>;

struct Node {
    entry: Entry,
    children: BTreeMap<Vec<u8>, usize>,
}

/// The tree while layers come.
pub struct Tree(Vec<Node>);

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tree({} nodes)", self.0.len())
    }
}

/// One member of a layer's tar.
struct Member {
    name: Vec<Vec<u8>>,
    hardlink: Option<Vec<u8>>,
    entry: Entry,
}

impl Default for Tree {
    fn default() -> Self {
        Self(vec![directory()])
    }
}

fn directory() -> Node {
    let entry = Entry {
        kind: "dir",
        mode: 0o755,
        uid: 0,
        gid: 0,
        size: 0,
        sha256: String::new(),
        content: Vec::new(),
        link: Vec::new(),
        hardlink_of: None,
        xattrs: BTreeMap::new(),
        mtime: 0,
        device: None,
        implicit: true,
    };
    Node {
        entry,
        children: BTreeMap::new(),
    }
}

impl Tree {
    /// Puts a layer on top: an uncompressed tar. Gives the number of its members.
    pub fn apply(&mut self, layer: &[u8]) -> Result<usize, String> {
        let members = members(layer).map_err(|error| format!("a layer's tar: {error}"))?;
        for member in &members {
            let Some((last, parents)) = member.name.split_last() else {
                continue;
            };
            let Some(hidden) = last.strip_prefix(b".wh.") else {
                continue;
            };
            let Some(parent) = self.walk(parents, false) else {
                continue;
            };
            if last == b".wh..wh..opq" {
                self.0[parent].children.clear();
            } else if !hidden.starts_with(b".wh.") {
                self.0[parent].children.remove(hidden);
            }
        }
        let count = members.len();
        members
            .into_iter()
            .try_for_each(|member| self.put(member))?;
        Ok(count)
    }

    fn put(&mut self, member: Member) -> Result<(), String> {
        let Some((last, parents)) = member.name.split_last() else {
            self.0[0].entry = member.entry;
            return Ok(());
        };
        if last.starts_with(b".wh.") {
            return Ok(());
        }
        let parent = self.walk(parents, true).ok_or("a loop of links")?;
        let old = self.0[parent].children.get(last).copied();
        let new = match (&member.hardlink, old) {
            (Some(target), _) => self.lookup(target).ok_or_else(|| {
                format!(
                    "a hard link to nothing: {}",
                    String::from_utf8_lossy(target)
                )
            })?,
            (None, Some(old)) if member.entry.kind == "dir" && self.0[old].entry.kind == "dir" => {
                self.0[old].entry = member.entry;
                return Ok(());
            }
            _ => {
                self.0.push(Node {
                    entry: member.entry,
                    children: BTreeMap::new(),
                });
                self.0.len() - 1
            }
        };
        self.0[parent].children.insert(last.clone(), new);
        Ok(())
    }

    /// The directory of these components, symbolic links followed.
    fn walk(&mut self, components: &[Vec<u8>], create: bool) -> Option<usize> {
        let mut todo: VecDeque<Vec<u8>> = components.iter().cloned().collect();
        let (mut stack, mut hops) = (vec![0], 0);
        while let Some(component) = todo.pop_front() {
            if component == b".." {
                stack.truncate(stack.len().max(2) - 1);
                continue;
            }
            let here = *stack.last()?;
            match self.0[here].children.get(&component).copied() {
                Some(child) if self.0[child].entry.kind == "dir" => stack.push(child),
                Some(child) if self.0[child].entry.kind == "symlink" => {
                    hops += 1;
                    let link = self.0[child].entry.link.clone();
                    if hops > 40 {
                        return None;
                    }
                    if link.starts_with(b"/") {
                        stack.truncate(1);
                    }
                    split(&link)
                        .into_iter()
                        .rev()
                        .for_each(|one| todo.push_front(one));
                }
                _ if create => {
                    self.0.push(directory());
                    let new = self.0.len() - 1;
                    self.0[here].children.insert(component, new);
                    stack.push(new);
                }
                _ => return None,
            }
        }
        stack.last().copied()
    }

    fn lookup(&mut self, path: &[u8]) -> Option<usize> {
        let components = clean(path);
        let Some((last, parents)) = components.split_last() else {
            return Some(0);
        };
        let parent = self.walk(parents, false)?;
        self.0[parent].children.get(last).copied()
    }

    /// All files, hard links named after the first path of their group in order.
    pub fn files(&self) -> Files {
        let mut found = Vec::new();
        let mut todo = vec![(Vec::new(), 0)];
        while let Some((path, node)) = todo.pop() {
            for (name, child) in &self.0[node].children {
                todo.push(([&path[..], b"/", name].concat(), *child));
            }
            found.push((if path.is_empty() { b"/".to_vec() } else { path }, node));
        }
        found.sort();
        let mut first: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let mut files = Files::new();
        for (path, node) in found {
            let mut entry = self.0[node].entry.clone();
            if entry.kind != "dir" {
                entry.hardlink_of = first.get(&node).cloned();
                first.entry(node).or_insert_with(|| path.clone());
            }
            files.insert(path, entry);
        }
        files
    }
}

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".");
    parts.map(<[u8]>::to_vec).collect()
}

fn clean(path: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for part in split(path) {
        if part == b".." {
            out.pop();
        } else {
            out.push(part);
        }
    }
    out
}

fn members(layer: &[u8]) -> std::io::Result<Vec<Member>> {
    let mut out = Vec::new();
    for member in tar::Archive::new(layer).entries()? {
        let mut member = member?;
        let mut content = Vec::new();
        member.read_to_end(&mut content)?;
        let mut entry = directory().entry;
        let header = member.header();
        let kind = header.entry_type();
        entry.kind = match kind {
            tar::EntryType::Directory => "dir",
            tar::EntryType::Symlink => "symlink",
            tar::EntryType::Fifo => "fifo",
            tar::EntryType::Char => "char",
            tar::EntryType::Block => "block",
            _ => "file",
        };
        (entry.mode, entry.uid, entry.gid) =
            (header.mode()? & 0o7777, header.uid()?, header.gid()?);
        entry.mtime = header.mtime()?.cast_signed();
        if matches!(entry.kind, "char" | "block") {
            entry.device = header.device_major()?.zip(header.device_minor()?);
        }
        entry.implicit = false;
        let link = member
            .link_name_bytes()
            .map(std::borrow::Cow::into_owned)
            .unwrap_or_default();
        let name = clean(&member.path_bytes());
        let hardlink = (kind == tar::EntryType::Link).then(|| link.clone());
        if entry.kind == "symlink" {
            entry.link = link;
        }
        if entry.kind == "file" {
            entry.size = content.len() as u64;
            entry.sha256 = crate::tarball::hex(&Sha256::digest(&content));
            entry.content = content;
        }
        extended(&mut member, &mut entry)?;
        out.push(Member {
            name,
            hardlink,
            entry,
        });
    }
    Ok(out)
}

/// What the PAX records add.
fn extended(member: &mut tar::Entry<'_, &[u8]>, entry: &mut Entry) -> std::io::Result<()> {
    for record in member.pax_extensions()?.into_iter().flatten() {
        let record = record?;
        let (key, value) = (record.key().unwrap_or_default(), record.value_bytes());
        let number = || {
            std::str::from_utf8(value)
                .ok()?
                .split('.')
                .next()?
                .parse::<i64>()
                .ok()
        };
        match key {
            "mtime" => entry.mtime = number().unwrap_or(entry.mtime),
            "uid" => entry.uid = number().map_or(entry.uid, i64::cast_unsigned),
            "gid" => entry.gid = number().map_or(entry.gid, i64::cast_unsigned),
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    entry.xattrs.insert(name.to_owned(), value.to_vec());
                }
            }
        }
    }
    Ok(())
}
