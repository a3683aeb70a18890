//! An image as one tar file: OCI layout (`type=oci`) or what `docker save` writes (`type=docker`).
//!
//! Follows the OCI image layout specification. Both hold `manifest.json` with paths into `blobs/sha256`, so that
//! `docker load`, podman, skopeo and umoci take either. Blobs are copied from the store as they are.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};

use crate::error::Result;
use crate::oci::descriptor::Descriptor;
use crate::output::Problem;
use crate::output::contents::Contents;
use crate::store::Store;

/// The content of `oci-layout`.
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// OCI layout with `manifest.json`.
    Oci,
    /// `manifest.json` and blobs alone.
    Docker,
}

/// Writes the archive and returns its size in bytes.
pub(crate) fn write(
    store: &Store,
    contents: &Contents,
    flavour: Flavour,
    file: &mut File,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<u64> {
    let mut archive = Archive {
        file,
        written: 0,
        mtime: contents.time.seconds.max(0).unsigned_abs(),
    };
    if flavour == Flavour::Oci {
        archive.bytes("oci-layout", LAYOUT)?;
        archive.bytes("index.json", &contents.index()?)?;
    }
    archive.bytes("manifest.json", &contents.docker_manifest()?)?;
    // Readers that give what they unpack to root, unless the archive says whose it is, need the directories named.
    archive.directory("blobs/")?;
    archive.directory("blobs/sha256/")?;
    let documents = match flavour {
        Flavour::Oci => contents.documents.as_slice(),
        Flavour::Docker => &[],
    };
    let documents = documents.iter().map(|blob| (blob, true));
    let blobs = contents.blobs.iter().map(|(blob, fresh)| (blob, *fresh));
    let all: Vec<(&Descriptor, bool)> = documents.chain(blobs).collect();
    if all
        .iter()
        .any(|(blob, _)| blob.digest.algorithm() == "sha512")
    {
        archive.directory("blobs/sha512/")?;
    }
    let mut seen = BTreeSet::new();
    for (blob, fresh) in all {
        if seen.insert(blob.digest) {
            archive.blob(store, blob, fresh)?;
            progress(archive.written)?;
        }
    }
    archive.end()
}

/// A name that is longer doesn't go into a header as a whole.
const SHORT_NAME: usize = 100;

struct Archive<'f> {
    file: &'f mut File,
    written: u64,
    mtime: u64,
}

impl Archive<'_> {
    fn bytes(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.header(name, content.len() as u64)?;
        self.file.write_all(content).map_err(Problem::writing)?;
        self.pad(content.len() as u64)
    }

    fn blob(&mut self, store: &Store, blob: &Descriptor, fresh: bool) -> Result<()> {
        self.header(&blob.digest.path(), blob.size)?;
        let copied = super::copy_blob(store, blob, fresh, self.file)?;
        self.pad(copied)
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        self.member(name, tar::EntryType::Directory, 0o755, 0)
    }

    fn header(&mut self, name: &str, size: u64) -> Result<()> {
        self.member(name, tar::EntryType::Regular, 0o644, size)
    }

    fn member(&mut self, name: &str, kind: tar::EntryType, mode: u32, size: u64) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        if name.len() > SHORT_NAME {
            self.long_name(name)?;
        }
        let short = name.get(..SHORT_NAME).unwrap_or(name);
        header.set_path(short).map_err(Problem::writing)?;
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.mtime);
        header.set_cksum();
        self.file
            .write_all(header.as_bytes())
            .map_err(Problem::writing)?;
        self.written += 512;
        Ok(())
    }

    /// The name of the next member, where its header has no room for it: a record of POSIX's extended headers.
    fn long_name(&mut self, name: &str) -> Result<()> {
        let rest = format!(" path={name}\n");
        // The length counts its own digits; a name of a blob makes it three.
        let record = format!("{}{rest}", rest.len() + 3);
        let size = record.len() as u64;
        self.member("PaxHeader", tar::EntryType::XHeader, 0o644, size)?;
        self.file
            .write_all(record.as_bytes())
            .map_err(Problem::writing)?;
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let padding = (512 - size % 512) % 512;
        self.file
            .write_all(&[0; 512][..padding as usize])
            .map_err(Problem::writing)?;
        self.written += size + padding;
        Ok(())
    }

    fn end(mut self) -> Result<u64> {
        self.file.write_all(&[0; 1024]).map_err(Problem::writing)?;
        self.written += 1024;
        Ok(self.written)
    }
}

/// Whether a file looks like an archive that this module wrote: its first member says so.
pub(crate) fn is_image_archive(mut file: impl io::Read) -> bool {
    let mut block = [0; 512];
    if file.read_exact(&mut block).is_err() {
        return false;
    }
    let header = tar::Header::from_byte_slice(&block);
    let name = header.path_bytes();
    let ours = [
        &b"oci-layout"[..],
        b"index.json",
        b"manifest.json",
        b"blobs/",
        b"blobs/sha256/",
    ];
    header.cksum().is_ok() && ours.contains(&&*name)
}
