//! Criterion benches live beside this crate; its library holds the seeded generators of their inputs.
//!
//! Every generator gives the same bytes for the same arguments, so that figures of two days can be compared.

use std::path::{Path, PathBuf};

use builder_core::entry::{Entry, EntryKind};
use builder_core::image_path::ImagePath;
use builder_core::timestamp::Timestamp;

/// A small generator of numbers (splitmix64); good enough for data, not for secrets.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// `length` bytes of noise.
    pub fn noise(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next_number().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// `length` bytes that look like source text and compress about five to one.
    pub fn text(&mut self, length: usize) -> Vec<u8> {
        const WORDS: &[&str] = &[
            "fn ",
            "let ",
            "mut ",
            "pub ",
            "self.",
            "value",
            "index",
            " = ",
            ";\n",
            "(",
            ")",
            " {\n    ",
            "}\n",
            "return ",
            "match ",
            "// the next one\n",
            "Some(",
            "None",
            "u64",
            "String",
            "&str",
            "result",
            ".len()",
            "impl ",
            "where ",
            "0x",
            "use std::",
            "error",
            "Ok(())",
        ];
        let mut bytes = Vec::with_capacity(length + 32);
        while bytes.len() < length {
            let number = self.next_number();
            bytes.extend_from_slice(WORDS[number as usize % WORDS.len()].as_bytes());
            if number >> 60 == 0 {
                bytes.extend_from_slice(format!("{:x}", number & 0xff_ffff).as_bytes());
            }
        }
        bytes.truncate(length);
        bytes
    }
}

/// Writes the tree of many small files, W1: `count` files of about 5 KiB in 3,000 directories. The text is cut from the
/// files below `source`, if there are any; otherwise it is made up.
pub fn small_files(folder: &Path, count: usize, source: Option<&Path>) -> std::io::Result<()> {
    let mut random = Random(1);
    let pool = source.map(|source| gather(source, 64 << 20)).transpose()?;
    let pool = match pool {
        Some(pool) if pool.len() > 1 << 20 => pool,
        _ => random.text(64 << 20),
    };
    let mut at = 0;
    for number in 0..count {
        let folder = folder.join(format!(
            "crate-{:03}/dir-{:02}",
            number % 300,
            number / 300 % 10
        ));
        std::fs::create_dir_all(&folder)?;
        let size = 500 + (random.next_number() % 9_600) as usize;
        at = (at + size) % (pool.len() - 10_240);
        std::fs::write(
            folder.join(format!("file_{number}.rs")),
            &pool[at..at + size],
        )?;
    }
    Ok(())
}

/// Writes the tree of large files, W2: `count` files of 64 MiB, every second one noise.
pub fn large_files(folder: &Path, count: usize) -> std::io::Result<()> {
    let mut random = Random(2);
    std::fs::create_dir_all(folder)?;
    for number in 0..count {
        let bytes = if number % 2 == 0 {
            random.text(64 << 20)
        } else {
            random.noise(64 << 20)
        };
        std::fs::write(folder.join(format!("large-{number:02}")), bytes)?;
    }
    Ok(())
}

/// Up to `limit` bytes of the `.rs` files below `folder`, in the order of their paths.
fn gather(folder: &Path, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut pool = Vec::new();
    let mut paths = vec![folder.to_owned()];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let mut found: Vec<PathBuf> = std::fs::read_dir(&path)?
                .map(|one| one.map(|one| one.path()))
                .collect::<Result<_, _>>()?;
            found.sort();
            paths.extend(found.into_iter().rev());
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            pool.extend_from_slice(&std::fs::read(&path)?);
        }
        if pool.len() >= limit {
            break;
        }
    }
    Ok(pool)
}

/// The entries of a tree on disk in the order of a layer, each with its file.
pub fn entries(root: &Path) -> std::io::Result<Vec<(Entry, PathBuf)>> {
    let mut found = Vec::new();
    let mut folders = vec![ImagePath::root()];
    while let Some(folder) = folders.pop() {
        let on_disk = root.join(text(&folder));
        for one in std::fs::read_dir(&on_disk)? {
            let one = one?;
            let metadata = one.metadata()?;
            let path = folder.child(one.file_name().as_encoded_bytes());
            let mut entry = Entry::file(
                path.clone(),
                metadata.len(),
                0o644,
                Timestamp::from_seconds(1),
            );
            if metadata.is_dir() {
                entry.kind = EntryKind::Directory;
                folders.push(path);
            }
            found.push((entry, one.path()));
        }
    }
    found.sort_by(|(left, _), (right, _)| left.path.cmp(&right.path));
    Ok(found)
}

fn text(path: &ImagePath) -> String {
    String::from_utf8_lossy(path.as_relative()).into_owned()
}
