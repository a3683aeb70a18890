//! Images in an OCI layout that is not the store: a directory, or a tarball such as rbuild, buildx and skopeo write.
//!
//! Follows the OCI image layout specification. Everything an image needs is copied into the store, verified on the
//! way; the layout itself is only read.

use std::path::Path;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::base::{MAX_DOCUMENT_BYTES, choose_manifest};
use crate::image::members::Members;
use crate::interrupt::Interrupt;
use crate::oci::choose::choose;
use crate::oci::descriptor::{Descriptor, IMAGE_NAME, REF_NAME};
use crate::oci::index::ImageIndex;
use crate::oci::manifest::ImageManifest;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::Store;

/// A layout, opened for reading.
#[derive(Debug)]
pub struct LayoutSource<'m> {
    members: &'m Members,
    index: ImageIndex,
}

/// An index in an index in an index ends here.
const MAX_DEPTH: u32 = 8;

/// Which image of a layout: by tag or full name, by digest, or the only one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `org.opencontainers.image.ref.name` or `io.containerd.image.name`.
    pub name: Option<String>,
    /// The digest of the manifest or index.
    pub digest: Option<Digest>,
}

impl<'m> LayoutSource<'m> {
    /// Reads the index of a layout.
    ///
    /// # Errors
    /// [`ErrorKind::BaseImage`] where there is no `index.json`, or one that can't be read.
    pub fn new(store: &Store, members: &'m Members) -> Result<Self> {
        let name = members.name();
        if !members.has("index.json") {
            let message = format!("`{name}` is no OCI image layout: it has no `index.json`");
            return Err(Error::new(ErrorKind::BaseImage, message).with_help(
                "name the directory or the tarball that holds `oci-layout` and `index.json`",
            ));
        }
        let bytes = members.read(store, "index.json")?;
        let index = ImageIndex::from_bytes(&format!("`index.json` of `{name}`"), &bytes)?;
        Ok(Self { members, index })
    }

    /// The entries of its index.
    pub fn entries(&self) -> &[Descriptor] {
        &self.index.manifests
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
        let name = self.members.name();
        let mut here = self.find(store, wanted, platform)?;
        self.members.copy_blob(store, &here)?;
        if here.media_type.is_index() {
            let bytes = store.read_document(&here, MAX_DOCUMENT_BYTES)?;
            let index = ImageIndex::from_bytes(name, &bytes)?;
            here = choose_manifest(&index, name, platform, &mut |document| {
                // What the layout lacks is no candidate.
                Ok(self.copied_document(store, document).ok())
            })?;
            self.members.copy_blob(store, &here)?;
        }
        let bytes = store.read_document(&here, MAX_DOCUMENT_BYTES)?;
        let manifest = ImageManifest::from_bytes(name, &bytes)?;
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            self.members.copy_blob(store, blob)?;
        }
        Ok(here)
    }

    /// The entry that is wanted as it stands there, an index with all its platforms; where several fit that are one image
    /// each, the one for this machine.
    ///
    /// # Errors
    /// As [`Self::import`].
    pub fn entry(&self, store: &Store, wanted: &Wanted) -> Result<Descriptor> {
        self.find(store, wanted, &Platform::host())
    }

    /// Copies all that an entry of the index reaches into the store. Of an index, images that the layout doesn't hold are
    /// left out; one that it holds in part is an error.
    ///
    /// # Errors
    /// [`ErrorKind::BaseImage`] where nothing, or not all of an image, is there; [`ErrorKind::Store`] for what is not
    /// what its digest says.
    pub fn import_whole(&self, store: &Store, entry: &Descriptor) -> Result<()> {
        let images = self.copy_tree(store, entry, MAX_DEPTH)?;
        if images == 0 {
            let message = format!(
                "`{}` holds no image of `{}`",
                self.members.name(),
                entry.digest
            );
            return Err(Error::new(ErrorKind::BaseImage, message)
                .with_help("the archive is incomplete; make it again"));
        }
        Ok(())
    }

    /// Gives how many images were copied.
    fn copy_tree(&self, store: &Store, document: &Descriptor, depth: u32) -> Result<usize> {
        self.members.copy_blob(store, document)?;
        if document.size > MAX_DOCUMENT_BYTES || depth == 0 {
            return Ok(0);
        }
        let bytes = store.read_document(document, MAX_DOCUMENT_BYTES)?;
        let name = self.members.name();
        if document.media_type.is_index() {
            let mut images = 0;
            for one in ImageIndex::from_bytes(name, &bytes)?.manifests {
                if self.members.has(&one.digest.path()) || store.contains(&one.digest)? {
                    images += self.copy_tree(store, &one, depth - 1)?;
                }
            }
            return Ok(images);
        }
        let manifest = ImageManifest::from_bytes(name, &bytes)?;
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            let elsewhere = blob.urls.as_ref().is_some_and(|urls| !urls.is_empty());
            if elsewhere && !self.members.has(&blob.digest.path()) {
                // What may not be handed on is in no archive, and says where it is.
                continue;
            }
            self.members.copy_blob(store, blob)?;
        }
        Ok(1)
    }

    fn copied_document(&self, store: &Store, document: &Descriptor) -> Result<Vec<u8>> {
        self.members.copy_blob(store, document)?;
        Ok(store.read_document(document, MAX_DOCUMENT_BYTES)?)
    }

    fn find(&self, store: &Store, wanted: &Wanted, platform: &Platform) -> Result<Descriptor> {
        let fits = |descriptor: &&Descriptor| {
            let named = |name: &String| {
                let mut keys = [REF_NAME, IMAGE_NAME].into_iter();
                // What was typed short has its full name in the layout.
                let full = name.parse().map(|one: Reference| one.to_string()).ok();
                keys.any(|key| descriptor.annotation(key) == Some(name.as_str()))
                    || full.is_some() && descriptor.annotation(IMAGE_NAME) == full.as_deref()
            };
            wanted.name.as_ref().is_none_or(named)
                && wanted
                    .digest
                    .is_none_or(|digest| descriptor.digest == digest)
        };
        let found: Vec<&Descriptor> = self.entries().iter().filter(fits).collect();
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
        Err(self.not_found(wanted, found.len()))
    }

    fn not_found(&self, wanted: &Wanted, fitting: usize) -> Error {
        let path = self.members.name();
        let names: Vec<&str> = self
            .entries()
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
}

/// Opens a layout and copies the wanted image for `platform` into the store.
///
/// # Errors
/// Those of [`Members::open`] and [`LayoutSource::import`].
pub fn import(
    store: &Store,
    path: &Path,
    wanted: &Wanted,
    platform: &Platform,
    interrupt: &Interrupt,
) -> Result<Descriptor> {
    let members = Members::open(store, path, interrupt)?;
    LayoutSource::new(store, &members)?.import(store, wanted, platform)
}
