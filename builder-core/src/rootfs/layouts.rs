//! Layers as directories of the store, and layers applied to one directory.
//!
//! A laid out layer lies in `roots/ENCODING/KEY`: `tree` is the directory, `owners` the side table if it isn't empty,
//! `chain` the diff IDs that it was made of. The key is the layer's diff ID where the layer says everything itself. Where
//! it only implies a directory, whose mode and owner the layers below know, and where it is a step's own upper
//! directory, the key is the digest of all diff IDs from the bottom. Of more layers than the kernel takes directories,
//! those at the bottom are laid out as one.

use std::io::Read;
use std::os::fd::AsFd as _;
use std::path::Path;

use super::chain::{Chain, Dir, READING, WRITING};
use super::laid_out::{LaidOut, chain_key, chain_text, laid_out, merged_count, merged_key};
use super::overlay::{is_opaque, set_opaque};
use super::unpack::Unpacker;
use super::{compare, trouble};
use crate::digest::Digest;
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Layer;
use crate::image::replaced::Replacements;
use crate::image::view::View;
use crate::image_path::ImagePath;
use crate::interrupt::Interrupt;
use crate::layer::{LayerIndex, Mark, Record, index_layer, visit_layer};
use crate::owners::{OwnerEncoding, SideTable};
use crate::store::{BlobSource, Store, TemporaryDirectory, used_now};
use crate::timestamp::Timestamp;
use crate::tree::Tree as _;

/// Sets file capabilities below a root, each as `security.capability` of version 2.
pub type Capabilities<'a> = dyn Fn(&Path, &[(ImagePath, Vec<u8>)]) -> Result<()> + 'a;

/// Lays out layers.
#[derive(Clone, Copy)]
pub struct Layouts<'a> {
    /// Where the layers are, and where they are laid out.
    pub store: &'a Store,
    /// Where layers come from that the store doesn't hold.
    pub source: Option<&'a dyn BlobSource>,
    /// How owners are held.
    pub encoding: OwnerEncoding,
    /// Sets what only a user namespace may set. Called once for each layer that has any, where owners are recorded.
    pub capabilities: &'a Capabilities<'a>,
    /// Is told of directories that stand where a lower layer has something else.
    pub replacements: Option<&'a Replacements>,
    /// Ends the work early.
    pub interrupt: &'a Interrupt,
}

impl std::fmt::Debug for Layouts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layouts")
            .field("store", &self.store)
            .field("encoding", &self.encoding)
            .finish_non_exhaustive()
    }
}

impl Layouts<'_> {
    /// The layers as lower directories, from the bottom to the top. Those that are laid out already are used as they
    /// are. The caller holds the store's lock for use, else a collection may delete them.
    ///
    /// # Errors
    /// A layer that is damaged or contradicts those below it is [`ErrorKind::BaseImage`]; those of the store, of the
    /// source, and of `capabilities`.
    pub fn lowers(&self, layers: &[Layer]) -> Result<Vec<LaidOut>> {
        let mut lowers: Vec<LaidOut> = Vec::new();
        let merged = merged_count(layers.len());
        if merged > 0 {
            lowers.push(self.merged(&layers[..merged])?);
        }
        for count in merged + 1..=layers.len() {
            let lower = self.lower(&layers[..count])?;
            // The kernel takes no directory twice. The upper of two equal layers says all that the lower one does.
            lowers.retain(|one| one.tree != lower.tree);
            // An overlay ignores the mark at its root: what it hides is left out.
            if hides_all_below(&lower.tree)? {
                lowers.clear();
            }
            lowers.push(lower);
        }
        Ok(lowers)
    }

    /// Lays out all of some layers in one directory, unless that was done before.
    fn merged(&self, layers: &[Layer]) -> Result<LaidOut> {
        let key = merged_key(layers);
        let path = self.store.root_path(self.encoding.name(), &key);
        if path.join("tree").is_dir() {
            used_now(&path.join("chain"));
            return Ok(laid_out(&path));
        }
        let place = self.store.temporary_directory()?;
        let tree = place.path().join("tree");
        std::fs::create_dir(&tree).map_err(trouble("create", &tree, &ImagePath::root()))?;
        let mut table = SideTable::default();
        self.apply(&[], layers, &tree, &mut table)?;
        self.keep(place, &key, layers, &table)
    }

    /// Lays out the last of some layers, unless that was done before.
    fn lower(&self, layers: &[Layer]) -> Result<LaidOut> {
        let Some((layer, below)) = layers.split_last() else {
            let nothing = Error::new(ErrorKind::Internal, "no layer to lay out");
            return Err(nothing);
        };
        for key in [layer.diff_id.0, chain_key(layers)] {
            let path = self.store.root_path(self.encoding.name(), &key);
            if path.join("tree").is_dir() {
                used_now(&path.join("chain"));
                return Ok(laid_out(&path));
            }
        }
        let place = self.store.temporary_directory()?;
        let tree = place.path().join("tree");
        std::fs::create_dir(&tree).map_err(trouble("create", &tree, &ImagePath::root()))?;
        let mut table = SideTable::default();
        let implies = self.unpack(below, layer, &tree, &mut table, Target::Lower)?;
        let key = if implies {
            chain_key(layers)
        } else {
            layer.diff_id.0
        };
        self.keep(place, &key, layers, &table)
    }

    /// Applies `layers` in their order to one directory, in which `below` was applied before: whiteouts delete.
    ///
    /// # Errors
    /// As for [`Layouts::lowers`]. What was written until then stays.
    pub fn apply(
        &self,
        below: &[Layer],
        layers: &[Layer],
        root: &Path,
        table: &mut SideTable,
    ) -> Result<()> {
        let mut all = below.to_vec();
        for layer in layers {
            self.unpack(&all, layer, root, table, Target::Root)?;
            all.push(layer.clone());
        }
        Ok(())
    }

    /// Keeps the upper directory of a step as the laid out form of the layer that was made from it: the directory is
    /// moved into the store, so it must be on the store's file system. Nothing may be in it that the layer leaves out,
    /// except sockets.
    ///
    /// # Errors
    /// Those of the store.
    pub fn adopt(
        &self,
        below: &[Layer],
        layer: &Layer,
        upper: &Path,
        table: &SideTable,
    ) -> Result<()> {
        let mut layers = below.to_vec();
        layers.push(layer.clone());
        let place = self.store.temporary_directory()?;
        // Who moves a directory must be able to write in it.
        let moved = Dir::open_root(upper, WRITING)
            .and_then(|_open| std::fs::rename(upper, place.path().join("tree")));
        moved.map_err(trouble("move", upper, &ImagePath::root()))?;
        self.keep(place, &chain_key(&layers), &layers, table)?;
        Ok(())
    }

    /// Gives a tree its place in the store.
    fn keep(
        &self,
        place: TemporaryDirectory,
        key: &Digest,
        layers: &[Layer],
        table: &SideTable,
    ) -> Result<LaidOut> {
        let write = |name: &str, text: String| {
            let path = place.path().join(name);
            let written = std::fs::write(&path, text);
            written.map_err(trouble("write", &path, &ImagePath::root()))
        };
        write("chain", chain_text(layers))?;
        if !table.is_empty() {
            write("owners", table.to_text())?;
        }
        let path = self.store.keep_root(self.encoding.name(), key, place)?;
        Ok(laid_out(&path))
    }

    /// Writes one layer below `root`; gives whether it implies a directory that it doesn't name.
    fn unpack(
        &self,
        below: &[Layer],
        layer: &Layer,
        root: &Path,
        table: &mut SideTable,
        target: Target,
    ) -> Result<bool> {
        self.fetch(layer)?;
        let mut unpacker = Unpacker::new(root, self.encoding, table)?;
        if target == Target::Root && !below.is_empty() {
            self.delete_hidden(layer, &mut unpacker)?;
        }
        let mut put = |record: &Record, content: &mut dyn Read| {
            self.interrupt.check()?;
            unpacker.put(record, content)
        };
        let (blob, diff_id) = (&layer.descriptor, &layer.diff_id);
        let index = visit_layer(self.store, blob, diff_id, &mut put)?;
        let mut layers = below.to_vec();
        layers.push(layer.clone());
        let view = View::new(self.store, &layers, "the image")
            .with_source(self.source)
            .with_replacements(self.replacements);
        let implies = self.complete(&index, &view, &mut unpacker, target)?;
        let capabilities = std::mem::take(&mut unpacker.capabilities);
        drop(unpacker);
        if !capabilities.is_empty() {
            (self.capabilities)(root, &capabilities)?;
        }
        Ok(implies)
    }

    fn fetch(&self, layer: &Layer) -> Result<()> {
        let blob = &layer.descriptor;
        if let Some(source) = self.source
            && self.store.blob_size(&blob.digest)? != Some(blob.size)
        {
            source.fetch(self.store, std::slice::from_ref(blob))?;
        }
        Ok(())
    }

    /// Deletes what a layer hides of the layers below, and what is in the way of its directories.
    fn delete_hidden(&self, layer: &Layer, unpacker: &mut Unpacker<'_>) -> Result<()> {
        let (_, index) = index_layer(self.store, &layer.descriptor, Some(&layer.diff_id))?;
        for record in &index {
            let record = record?;
            self.interrupt.check()?;
            let path = &record.entry.path;
            let done = if record.mark == Mark::Whiteout {
                unpacker.delete(path)
            } else if record.opaque {
                unpacker.empty(path)
            } else if record.is_directory() {
                // What lies below it may come first, and may be all that the layer names.
                unpacker.make_way(path)
            } else {
                continue;
            };
            done.map_err(trouble("delete", unpacker.chain.root(), path))?;
        }
        Ok(())
    }

    /// Makes what only the whole layer tells: whiteouts, hard links, and what directories have. Gives whether the layers
    /// below had to tell something: what a directory has that is only implied, or what a hard link leads to.
    fn complete(
        &self,
        index: &LayerIndex,
        view: &View<'_>,
        unpacker: &mut Unpacker<'_>,
        target: Target,
    ) -> Result<bool> {
        let mut targets = Chain::new(unpacker.chain.root(), READING)
            .map_err(|error| unpacker.fail(&ImagePath::root(), error))?;
        let mut implies = false;
        let mut open: Vec<Entry> = Vec::new();
        for record in index {
            self.interrupt.check()?;
            let record = record?;
            let path = record.entry.path.clone();
            while let Some(last) = open.pop_if(|last| !path.starts_with(&last.path)) {
                close(unpacker, &last)?;
            }
            implies |= record.implicit && !path.is_root();
            if leads_out(index, &record)? {
                implies = true;
                put_lower_file(unpacker, view, &path)?;
                continue;
            }
            let done = complete_one(unpacker, &record, &mut targets, target);
            done.map_err(|error| unpacker.fail(&path, error))?;
            if record.is_directory() {
                open.push(directory_entry(record, view, target)?);
            }
        }
        while let Some(last) = open.pop() {
            close(unpacker, &last)?;
        }
        Ok(implies)
    }
}

/// Whether a record is a hard link to a file that its own layer doesn't hold.
fn leads_out(index: &LayerIndex, record: &Record) -> Result<bool> {
    let is_link = matches!(record.entry.kind, EntryKind::HardLink { .. });
    Ok(is_link && record.data.is_none() && index.linked(record)?.is_none())
}

/// Makes a file of its own of a hard link to a file of a lower layer.
fn put_lower_file(unpacker: &mut Unpacker<'_>, view: &View<'_>, path: &ImagePath) -> Result<()> {
    let Some(mut node) = view.look_up(path)? else {
        return Ok(());
    };
    let record = Record::present(node.entry.clone(), None);
    if matches!(node.entry.kind, EntryKind::File { .. }) {
        let mut content = view.open(&mut node)?;
        unpacker.put(&record, &mut content)
    } else {
        unpacker.put(&record, &mut std::io::empty())
    }
}

/// Makes what one record of an index says beyond its file's bytes. `targets` leads to the files of hard links.
fn complete_one(
    unpacker: &mut Unpacker<'_>,
    record: &Record,
    targets: &mut Chain,
    target: Target,
) -> std::io::Result<()> {
    let path = &record.entry.path;
    match &record.entry.kind {
        _ if record.mark == Mark::Whiteout => match target {
            Target::Lower => unpacker.hide(path),
            Target::Root => Ok(()),
        },
        EntryKind::Directory => {
            let directory = unpacker.chain.make(path)?;
            if record.opaque && target == Target::Lower {
                set_opaque(directory.as_fd())?;
            }
            Ok(())
        }
        EntryKind::HardLink { target } => unpacker.link(path, target, targets),
        // The tar of a layer of rbuild's has whole seconds, its index knows better.
        EntryKind::File { .. } if record.entry.mtime.nanos != 0 => unpacker.set_time(&record.entry),
        _ => Ok(()),
    }
}

/// What a layer is unpacked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// A lower directory of its own: what it hides is marked.
    Lower,
    /// A root with the layers below: what it hides is deleted.
    Root,
}

fn close(unpacker: &mut Unpacker<'_>, entry: &Entry) -> Result<()> {
    let closed = unpacker.close(entry);
    closed.map_err(|error| unpacker.fail(&entry.path, error))
}

/// What a directory has; the layers below know it where the layer only implies it.
fn directory_entry(record: Record, view: &View<'_>, target: Target) -> Result<Entry> {
    if !record.implicit {
        return Ok(record.entry);
    }
    let path = record.entry.path;
    if path.is_root() && target == Target::Lower {
        // A mount's root is its upper directory, never a lower one.
        return Ok(Entry::directory(path, Timestamp::default()));
    }
    let found = compare::find(view, &path)?;
    Ok(found.map_or_else(
        || Entry::directory(path, Timestamp::default()),
        |node| node.entry,
    ))
}

/// Whether a laid out layer is opaque at its root.
fn hides_all_below(tree: &Path) -> Result<bool> {
    let root = ImagePath::root();
    let directory = Dir::open_root(tree, READING).map_err(trouble("open", tree, &root))?;
    is_opaque(&directory).map_err(trouble("read", tree, &root))
}
