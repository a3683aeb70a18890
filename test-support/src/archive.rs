//! Tars and their compressions, written for tests.

use std::io::Write as _;

use serde_json::Value;

use crate::names::to_bytes;
use crate::world::MTIME;

/// How a tar is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// zstd.
    Zstd,
}

/// Packs bytes.
pub fn pack(packing: Packing, bytes: &[u8]) -> Vec<u8> {
    match packing {
        Packing::None => bytes.to_vec(),
        Packing::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }
        Packing::Bzip2 => {
            let mut writer =
                bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }
        Packing::Xz => {
            let options = lzma_rust2::XzOptions::with_preset(6);
            let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }
        Packing::Zstd => zstd::encode_all(bytes, 3).unwrap(),
    }
}

/// One member of a tar, as a test wants it: also with names that no honest program writes.
#[derive(Clone, Debug)]
pub struct Member {
    /// The name, byte by byte.
    pub name: Vec<u8>,
    /// The kind.
    pub kind: tar::EntryType,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Modification time in seconds.
    pub mtime: u64,
    /// What a link points to.
    pub link: Vec<u8>,
    /// The content.
    pub content: Vec<u8>,
    /// Extended attributes.
    pub xattrs: Vec<(String, String)>,
    /// Further records of the extended header.
    pub records: Vec<(String, String)>,
}

impl Member {
    fn new(name: &str, kind: tar::EntryType, mode: u32) -> Self {
        let (link, content, xattrs) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            name: name.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: MTIME as u64,
            link,
            content,
            xattrs,
            records: Vec::new(),
        }
    }

    /// A file of mode 0644.
    pub fn file(name: &str, content: &str) -> Self {
        Self {
            content: content.into(),
            ..Self::new(name, tar::EntryType::Regular, 0o644)
        }
    }

    /// A directory of mode 0755.
    pub fn directory(name: &str) -> Self {
        Self::new(name, tar::EntryType::Directory, 0o755)
    }

    /// A symbolic link.
    pub fn symlink(name: &str, to: &str) -> Self {
        Self {
            link: to.into(),
            ..Self::new(name, tar::EntryType::Symlink, 0o777)
        }
    }

    /// A hard link.
    pub fn hardlink(name: &str, to: &str) -> Self {
        Self {
            link: to.into(),
            ..Self::new(name, tar::EntryType::Link, 0o644)
        }
    }

    /// A file of mode 0644 of which only pieces are stored, in the form PAX 0.1: its length, and offset and bytes of each
    /// piece.
    pub fn sparse(name: &str, length: usize, pieces: &[(usize, &str)]) -> Self {
        let places = pieces
            .iter()
            .map(|(at, text)| format!("{at},{}", text.len()));
        let map = places.collect::<Vec<_>>().join(",");
        let content: String = pieces.iter().map(|(_, text)| *text).collect();
        let mut member = Self::file(name, &content);
        let records = [
            ("GNU.sparse.major", "0".to_owned()),
            ("GNU.sparse.minor", "1".to_owned()),
            ("GNU.sparse.name", name.to_owned()),
            ("GNU.sparse.size", length.to_string()),
            ("GNU.sparse.map", map),
        ];
        member.records = records.map(|(key, value)| (key.to_owned(), value)).into();
        member
    }

    /// A member as the reference cases describe it.
    pub fn from_json(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().unwrap_or_default();
        let kind = match value["type"].as_str().unwrap_or("file") {
            "file" => tar::EntryType::Regular,
            "dir" => tar::EntryType::Directory,
            "symlink" => tar::EntryType::Symlink,
            "hardlink" => tar::EntryType::Link,
            "fifo" => tar::EntryType::Fifo,
            other => panic!("a member of type {other}"),
        };
        let usual = if kind == tar::EntryType::Directory {
            0o755
        } else {
            0o644
        };
        let mut member = Self::new("", kind, value["mode"].as_str().map_or(usual, octal));
        member.name = to_bytes(text("name"));
        member.uid = value["uid"].as_u64().unwrap_or(0);
        member.gid = value["gid"].as_u64().unwrap_or(0);
        member.mtime = value["mtime"].as_u64().unwrap_or(MTIME as u64);
        member.link = to_bytes(text("to"));
        if kind == tar::EntryType::Regular {
            member.content = text("text").into();
        }
        let xattrs = value["xattrs"].as_object().into_iter().flatten();
        member.xattrs = xattrs
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect();
        member
    }

    fn header(&self) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(self.uid);
        header.set_gid(self.gid);
        header.set_mtime(self.mtime);
        header.set_size(self.content.len() as u64);
        header
    }
}

/// Octal text as the reference cases write modes.
pub fn octal(text: &str) -> u32 {
    u32::from_str_radix(text, 8).unwrap()
}

/// A tar of members in their order. Names are written as they are; those that a plain header can't hold as PAX.
pub fn tar(members: &[Member]) -> Vec<u8> {
    let mut out = Vec::new();
    for member in members {
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        let mut header = member.header();
        let raw = header.as_old_mut();
        if !put(&mut raw.name, &member.name) {
            records.push(("path".into(), member.name.clone()));
        }
        if !put(&mut raw.linkname, &member.link) {
            records.push(("linkpath".into(), member.link.clone()));
        }
        for (name, value) in &member.xattrs {
            records.push((format!("SCHILY.xattr.{name}"), value.clone().into_bytes()));
        }
        for (name, value) in &member.records {
            records.push((name.clone(), value.clone().into_bytes()));
        }
        if !records.is_empty() {
            let body: Vec<u8> = records
                .iter()
                .flat_map(|(key, value)| pax_record(key, value))
                .collect();
            let mut extended = tar::Header::new_ustar();
            extended.set_entry_type(tar::EntryType::XHeader);
            extended.set_size(body.len() as u64);
            put(&mut extended.as_old_mut().name, b"PaxHeaders/x");
            append(&mut out, &mut extended, &body);
        }
        append(&mut out, &mut header, &member.content);
    }
    // Two blocks of zeros end it, and a record of twenty blocks is full, as every tar has written since the tapes.
    out.resize((out.len() + 1024).next_multiple_of(10240), 0);
    out
}

/// Copies a text that fits and is ASCII into a field; a longer one is cut.
fn put(field: &mut [u8; 100], text: &[u8]) -> bool {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    text.len() <= field.len() && text.is_ascii()
}

fn append(out: &mut Vec<u8>, header: &mut tar::Header, body: &[u8]) {
    header.set_cksum();
    out.extend(header.as_bytes());
    out.extend(body);
    out.resize(out.len().next_multiple_of(512), 0);
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}
