//! Images in an OCI layout that is not the store: a directory, or a tarball such as rbuild, buildx and skopeo write.
//!
//! Follows the OCI image layout specification. Everything an image needs is copied into the store, verified on the
//! way; the layout itself is only read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::base::{MAX_DOCUMENT_BYTES, choose_manifest};
use crate::layer::archive::Section;
use crate::oci::choose::choose;
use crate::oci::descriptor::{Descriptor, IMAGE_NAME, REF_NAME};
use crate::oci::index::ImageIndex;
use crate::oci::manifest::ImageManifest;
use crate::platform::Platform;
use crate::store::Store;

/// A layout, opened for reading.
#[derive(Debug)]
pub struct LayoutSource {
    path: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Directory,
    /// The tarball, and the offset and size of each regular file in it.
    Tarball(File, BTreeMap<Vec<u8>, (u64, u64)>),
}

/// Which image of a layout: by tag or full name, by digest, or the only one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `org.opencontainers.image.ref.name` or `io.containerd.image.name`.
    pub name: Option<String>,
    /// The digest of the manifest or index.
    pub digest: Option<Digest>,
}

impl LayoutSource {
    /// Opens a directory or a tarball.
    ///
    /// # Errors
    /// [`ErrorKind::BaseImage`] where it is missing, or holds no `index.json`.
    pub fn open(path: &Path) -> Result<Self> {
        let problem = |error: io::Error| unreadable(path, error);
        let place = if std::fs::metadata(path).map_err(problem)?.is_dir() {
            Place::Directory
        } else {
            let file = open_file(path).map_err(problem)?;
            let members = members(&file).map_err(problem)?;
            Place::Tarball(file, members)
        };
        let source = Self {
            path: path.to_owned(),
            place,
        };
        if source.open_member("index.json").is_err() {
            let message = format!(
                "`{}` is no OCI image layout: it has no `index.json`",
                path.display()
            );
            return Err(Error::new(ErrorKind::BaseImage, message).with_help(
                "name the directory or the tarball that holds `oci-layout` and `index.json`",
            ));
        }
        Ok(source)
    }

    /// Copies the wanted image for `platform` into the store and returns its manifest.
    ///
    /// # Errors
    /// [`ErrorKind::BaseImage`] where the layout doesn't hold it; store errors where a blob is not what its digest
    /// says: nothing of it is kept then.
    pub fn import(
        &self,
        store: &Store,
        wanted: &Wanted,
        platform: &Platform,
    ) -> Result<Descriptor> {
        let name = self.path.display().to_string();
        let index = ImageIndex::from_bytes(&name, &self.read_member("index.json")?)?;
        let mut here = self.find(store, &index, wanted, platform)?;
        self.copy_blob(store, &here)?;
        if here.media_type.is_index() {
            let bytes = store.read_document(&here, MAX_DOCUMENT_BYTES)?;
            let index = ImageIndex::from_bytes(&name, &bytes)?;
            here = choose_manifest(&index, &name, platform, &mut |document| {
                // What the layout lacks is no candidate.
                Ok(self.copied_document(store, document).ok())
            })?;
            self.copy_blob(store, &here)?;
        }
        let bytes = store.read_document(&here, MAX_DOCUMENT_BYTES)?;
        let manifest = ImageManifest::from_bytes(&name, &bytes)?;
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            self.copy_blob(store, blob)?;
        }
        Ok(here)
    }

    fn copied_document(&self, store: &Store, document: &Descriptor) -> Result<Vec<u8>> {
        self.copy_blob(store, document)?;
        Ok(store.read_document(document, MAX_DOCUMENT_BYTES)?)
    }

    fn find(
        &self,
        store: &Store,
        index: &ImageIndex,
        wanted: &Wanted,
        platform: &Platform,
    ) -> Result<Descriptor> {
        let fits = |descriptor: &&Descriptor| {
            let named = |name: &String| {
                [REF_NAME, IMAGE_NAME]
                    .iter()
                    .any(|key| descriptor.annotation(key) == Some(name.as_str()))
            };
            wanted.name.as_ref().is_none_or(named)
                && wanted
                    .digest
                    .is_none_or(|digest| descriptor.digest == digest)
        };
        let found: Vec<&Descriptor> = index.manifests.iter().filter(fits).collect();
        match found.as_slice() {
            [one] => return Ok((*one).clone()),
            [first, rest @ ..] if rest.iter().all(|other| other.digest == first.digest) => {
                return Ok((*first).clone());
            }
            [] => {}
            several => {
                let candidates =
                    ImageIndex::new(several.iter().map(|one| (*one).clone()).collect());
                let named = candidates.choose(platform).cloned();
                let found = named.map_or_else(
                    || {
                        choose(&candidates, platform, &mut |document| {
                            Ok::<_, Error>(self.copied_document(store, document).ok())
                        })
                    },
                    |one| Ok(Some(one)),
                )?;
                if let Some(one) = found {
                    return Ok(one);
                }
            }
        }
        Err(self.not_found(index, wanted, found.len()))
    }

    fn not_found(&self, index: &ImageIndex, wanted: &Wanted, fitting: usize) -> Error {
        let path = self.path.display();
        let names: Vec<&str> = index
            .manifests
            .iter()
            .filter_map(|one| one.annotation(REF_NAME))
            .collect();
        let message = match (&wanted.name, wanted.digest) {
            _ if fitting > 1 => format!("`{path}` holds several images"),
            (Some(name), _) => format!("`{path}` holds no image `{name}`"),
            (None, Some(digest)) => format!("`{path}` holds no image `{digest}`"),
            (None, None) => format!("`{path}` holds no image"),
        };
        let error = Error::new(ErrorKind::BaseImage, message);
        if names.is_empty() {
            return error.with_help("name it by its digest: `oci-layout://PATH@sha256:…`");
        }
        error
            .with_note(format!("it holds {}", names.join(", ")))
            .with_help("name one of them: `oci-layout://PATH:TAG`")
    }

    fn copy_blob(&self, store: &Store, blob: &Descriptor) -> Result<()> {
        if store.contains(&blob.digest)? {
            return Ok(());
        }
        let from = self.open_member(&blob.digest.path())?;
        // One byte too many is enough to see that it is not what it should be.
        let mut from = from.take(blob.size.saturating_add(1));
        let mut to = store.blob_writer_for(&blob.digest)?;
        io::copy(&mut from, &mut to).map_err(|error| {
            let message = format!(
                "blob `{}` of `{}` can't be copied into the store",
                blob.digest,
                self.path.display()
            );
            Error::new(ErrorKind::Store, message).with_source(error)
        })?;
        Ok(to.finish_expecting(&blob.digest, blob.size)?)
    }

    fn read_member(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let reader = self.open_member(name)?;
        reader
            .take(MAX_DOCUMENT_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(&self.path, error))?;
        Ok(bytes)
    }

    fn open_member(&self, name: &str) -> Result<Box<dyn Read + '_>> {
        match &self.place {
            Place::Directory => {
                let path = self.path.join(name);
                Ok(Box::new(
                    open_file(&path).map_err(|error| unreadable(&path, error))?,
                ))
            }
            Place::Tarball(file, members) => match members.get(name.as_bytes()) {
                Some((offset, size)) => Ok(Box::new(Section {
                    file,
                    offset: *offset,
                    left: *size,
                })),
                None => {
                    let message = format!("`{}` lacks `{name}`", self.path.display());
                    Err(Error::new(ErrorKind::BaseImage, message)
                        .with_help("the tarball is incomplete; make it again"))
                }
            },
        }
    }
}

/// Opens a regular file, or what a link to one leads to. A pipe would be waited for, and a device may have no end.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    let message = "it is no regular file";
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Where the regular files of a tarball lie. Only its headers are read.
fn members(file: &File) -> io::Result<BTreeMap<Vec<u8>, (u64, u64)>> {
    let mut members = BTreeMap::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if entry.header().entry_type().is_file() {
            let name = entry.path_bytes();
            let name = name.strip_prefix(b"./").unwrap_or(&name).to_vec();
            members.insert(name, (entry.raw_file_position(), entry.size()));
        }
    }
    Ok(members)
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::new(
        ErrorKind::BaseImage,
        format!("`{}` can't be read as an OCI image layout", path.display()),
    )
    .with_help("check the path; a compressed tarball must be decompressed first")
    .with_source(error)
}
