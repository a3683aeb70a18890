//! The merged tree of a stack of layers, answered from the layers' indexes: nothing is unpacked.
//!
//! Follows the OCI image layer specification, "Applying Changesets": an upper layer's entry hides the lower one's, a
//! directory merges with a directory, a whiteout hides what is below it, an opaque directory hides all that lower
//! layers hold in it. Layers are asked from the top; a base layer that has no index yet is read through the indexer
//! when, and only when, the layers above left a question open.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::digest::Digest;
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Layer;
use crate::image::hiding::Hiding;
use crate::image::replaced::{Replaced, Replacements};
use crate::image::summary::{Summaries, Summary};
use crate::image_path::ImagePath;
use crate::layer::{DataRange, LayerData, LayerIndex, Mark, Record, index_stream, read_kept};
use crate::store::{BlobSource, Sidecar, Store};
use crate::tree::{DataPlace, FileId, Listing, Node, Tree};

/// A stack of layers as one tree.
#[derive(Debug)]
pub struct View<'s> {
    store: &'s Store,
    layers: Vec<ViewLayer>,
    description: String,
    source: Option<&'s dyn BlobSource>,
    replacements: Option<&'s Replacements>,
    summaries: Option<&'s Summaries>,
    summary: Mutex<Option<Summary>>,
    /// A view of more layers asks a summary which of them to ask.
    few: usize,
}

/// Fewer layers are asked one after the other.
const FEW: usize = 16;

impl Drop for View<'_> {
    fn drop(&mut self) {
        let summary = self
            .summary
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let (Some(summaries), Some(summary)) = (self.summaries, summary.take()) {
            summaries.keep(summary);
        }
    }
}

#[derive(Debug)]
struct ViewLayer {
    layer: Layer,
    index: OnceLock<LayerIndex>,
    data: Mutex<Option<LayerData>>,
    hiding: Hiding,
}

impl<'s> View<'s> {
    /// A view of `layers`, from the bottom to the top. `description` is how messages name it: "stage `build`".
    pub fn new(store: &'s Store, layers: &[Layer], description: impl Into<String>) -> Self {
        let mut view = Self {
            store,
            layers: Vec::new(),
            description: description.into(),
            source: None,
            replacements: None,
            summaries: None,
            summary: Mutex::new(None),
            few: FEW,
        };
        for layer in layers {
            view.push(layer.clone());
        }
        view
    }

    /// This view, with a place to get the layers from that the store doesn't hold.
    #[must_use]
    pub fn with_source(mut self, source: Option<&'s dyn BlobSource>) -> Self {
        self.source = source;
        self
    }

    /// This view, which tells of directories that stand where a lower layer has something else.
    #[must_use]
    pub fn with_replacements(mut self, replacements: Option<&'s Replacements>) -> Self {
        self.replacements = replacements;
        self
    }

    /// This view, which goes on from the summary of the last one that ended.
    #[must_use]
    pub fn with_summaries(mut self, summaries: &'s Summaries) -> Self {
        self.summaries = Some(summaries);
        self
    }

    /// Asks the summary of the layers; none where they are few.
    fn summarised<T>(&self, ask: impl FnOnce(&Summary) -> T) -> Result<Option<T>> {
        if self.layers.len() <= self.few {
            return Ok(None);
        }
        let mut summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = || self.layers.iter().map(|one| one.layer.diff_id);
        let summary = summary.get_or_insert_with(|| match self.summaries {
            Some(summaries) => summaries.take(&ids().collect::<Vec<_>>()),
            None => Summary::default(),
        });
        for number in summary.len()..self.layers.len() {
            let id = self.layers[number].layer.diff_id;
            let index = LayerIndex::open(self.store, &id)?;
            summary.push(id, index.as_ref())?;
        }
        Ok(Some(ask(summary)))
    }

    /// Puts a layer on top.
    pub fn push(&mut self, layer: Layer) {
        self.layers.push(ViewLayer {
            layer,
            index: OnceLock::new(),
            data: Mutex::new(None),
            hiding: Hiding::default(),
        });
    }

    pub(super) fn layer_digest(&self, number: usize) -> Digest {
        self.layers[number].layer.descriptor.digest
    }

    pub(super) fn index(&self, number: usize) -> Result<&LayerIndex> {
        let layer = &self.layers[number];
        if let Some(index) = layer.index.get() {
            return Ok(index);
        }
        let index = match LayerIndex::open(self.store, &layer.layer.diff_id)? {
            Some(index) => index,
            None => self.make_index(&layer.layer)?,
        };
        Ok(layer.index.get_or_init(|| index))
    }

    /// Reads a layer through the indexer: from the store, or as it arrives from elsewhere.
    fn make_index(&self, layer: &Layer) -> Result<LayerIndex> {
        let (store, blob) = (self.store, &layer.descriptor);
        match self.elsewhere(layer)? {
            None => Ok(crate::layer::index_layer(store, blob, Some(&layer.diff_id))?.1),
            Some(source) => {
                if source.bring_index(store, blob, &layer.diff_id)?
                    && let Some(index) = LayerIndex::open(store, &layer.diff_id)?
                {
                    return Ok(index);
                }
                let mut stream = source.open(store, blob)?;
                let index = index_stream(store, &mut *stream, blob, &layer.diff_id);
                index.map_err(cause)
            }
        }
    }

    /// Where to get a layer that the store doesn't hold.
    fn elsewhere(&self, layer: &Layer) -> Result<Option<&'s dyn BlobSource>> {
        let blob = &layer.descriptor;
        let here = self.store.blob_size(&blob.digest)? == Some(blob.size);
        Ok(self.source.filter(|_| !here))
    }

    /// Remembers a layer that names only something below a path, where a lower layer has a link or a file at the path
    /// itself. It is a directory from then on, as for a container that runs on an overlay of the layers.
    fn note_replaced(&self, number: usize, lower: &Entry) {
        if let Some(replacements) = self.replacements {
            replacements.note(Replaced {
                layer: self.layer_digest(number),
                path: lower.path.clone(),
                symlink: lower.is_symlink(),
            });
        }
    }

    /// What the lowest `count` layers have at a path.
    pub(super) fn look_up_below(&self, count: usize, path: &ImagePath) -> Result<Option<Node>> {
        // The top layer that implies a directory, and its number.
        let mut implied: Option<(Node, usize)> = None;
        let asked = self.summarised(|summary| summary.about(count, path))?;
        for number in asked.unwrap_or_else(|| (0..count).rev().collect()) {
            let index = self.index(number)?;
            match (index.get(path)?, &implied) {
                (Some(record), _) if record.mark == Mark::Whiteout => break,
                // The tar named only something below: the layers under it know the directory's mode and owner.
                // An opaque marker hides what they hold in it, not the directory itself.
                (Some(record), _) if record.implicit => {
                    implied.get_or_insert_with(|| (node(number, record), number));
                }
                (Some(record), Some((_, above))) if !record.entry.is_directory() => {
                    self.note_replaced(*above, &record.entry);
                    break;
                }
                (Some(record), _) => return self.node(number, record).map(Some),
                (None, _) => {}
            }
            if number > 0 && self.layers[number].hiding.hides(index, path, false)? {
                break;
            }
        }
        Ok(implied.map(|(node, _)| node))
    }
}

/// The error of the place that a stream came from, where that is what failed.
fn cause(error: crate::layer::Error) -> Error {
    match error {
        crate::layer::Error::Stream {
            archive,
            source_name,
            at,
            source,
        } => match source.downcast::<Error>() {
            Ok(own) => own,
            Err(source) => crate::layer::Error::Stream {
                archive,
                source_name,
                at,
                source,
            }
            .into(),
        },
        other => other.into(),
    }
}

/// Makes a node of what a layer's index holds.
pub(super) fn node(number: usize, record: Record) -> Node {
    let mut entry = record.entry;
    if let (EntryKind::HardLink { .. }, Some(range)) = (&entry.kind, &record.data) {
        entry.kind = EntryKind::File { size: range.len };
    }
    Node {
        entry,
        link: record.link_group.map(|group| FileId(number as u64, group)),
        place: record.data.map(|range| DataPlace {
            layer: number,
            offset: range.offset,
            length: range.len,
        }),
        stamp: None,
        implied: record.implicit,
        passage: false,
    }
}

impl Tree for View<'_> {
    fn look_up(&self, path: &ImagePath) -> Result<Option<Node>> {
        let found = self.look_up_below(self.layers.len(), path)?;
        if found.is_none() && path.is_root() {
            let root = Entry::directory(ImagePath::root(), crate::timestamp::Timestamp::default());
            return Ok(Some(Node::new(root)));
        }
        Ok(found)
    }

    fn list(&self, path: &ImagePath) -> Result<Listing<'_>> {
        // None: hidden by a whiteout above. The layer that implies the directory, as long as a lower one may still tell
        // its mode and owner.
        let mut found: BTreeMap<Vec<u8>, Option<(Node, Option<usize>)>> = BTreeMap::new();
        let asked = self.summarised(|summary| summary.in_directory(path))?;
        for number in asked.unwrap_or_else(|| (0..self.layers.len()).rev().collect()) {
            let index = self.index(number)?;
            for record in index.children(path)? {
                let record = record?;
                let Some(name) = record.entry.path.file_name().map(<[u8]>::to_vec) else {
                    continue;
                };
                if record.mark == Mark::Whiteout {
                    settle_whiteout(&mut found, name);
                    continue;
                }
                let open = record.implicit.then_some(number);
                match found.get_mut(&name) {
                    None => {
                        found.insert(name, Some((self.node(number, record)?, open)));
                    }
                    Some(Some((_, pending @ Some(_)))) if !record.entry.is_directory() => {
                        if let Some(above) = pending.take() {
                            self.note_replaced(above, &record.entry);
                        }
                    }
                    Some(Some((known, pending @ Some(_)))) => {
                        if open.is_none() {
                            *known = node(number, record);
                            *pending = None;
                        }
                    }
                    Some(_) => {}
                }
            }
            if number > 0 && self.layers[number].hiding.hides(index, path, true)? {
                break;
            }
        }
        Ok(Box::new(
            found.into_values().flatten().map(|(node, _)| Ok(node)),
        ))
    }

    fn open(&self, node: &mut Node) -> Result<Box<dyn Read + Send + '_>> {
        let place = node.place.ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                format!("`{}` has no bytes in {}", node.entry.path, self.description),
            )
        })?;
        let layer = &self.layers[place.layer];
        let range = DataRange {
            offset: place.offset,
            len: place.length,
        };
        let mut data = layer.data.lock().unwrap_or_else(PoisonError::into_inner);
        if data.is_none() {
            let spool = Sidecar::Spool(layer.layer.diff_id);
            if !self.store.sidecar_path(spool).exists()
                && let Some(source) = self.elsewhere(&layer.layer)?
            {
                if let Some(kept) = read_kept(self.store, &layer.layer.diff_id, &range)? {
                    return Ok(Box::new(io::Cursor::new(kept)));
                }
                source.fetch(self.store, std::slice::from_ref(&layer.layer.descriptor))?;
            }
            *data = Some(LayerData::open(
                self.store,
                &layer.layer.descriptor,
                &layer.layer.diff_id,
            )?);
        }
        Ok(Box::new(ViewReader {
            data: &layer.data,
            range,
        }))
    }

    fn describe(&self) -> String {
        self.description.clone()
    }
}

/// Reads one file's bytes; the layer is shared with other readers, and locked for each read only.
struct ViewReader<'v> {
    data: &'v Mutex<Option<LayerData>>,
    range: DataRange,
}

impl Read for ViewReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(layer) = data.as_mut() else {
            return Ok(0);
        };
        let read = layer.reader(&self.range).read(buffer)?;
        self.range.offset += read as u64;
        self.range.len -= read as u64;
        Ok(read)
    }
}

/// A whiteout hides lower layers' files; a directory that an upper layer made anew stays.
fn settle_whiteout(found: &mut BTreeMap<Vec<u8>, Option<(Node, Option<usize>)>>, name: Vec<u8>) {
    if let Some((_, pending)) = found.entry(name).or_insert(None) {
        *pending = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{LayerOptions, LayerWriter};
    use crate::timestamp::Timestamp;

    /// One line of a layer: `d PATH MODE`, `f PATH TEXT`, `l PATH TARGET`, `w PATH` (whiteout), `o PATH` (opaque).
    fn layer(store: &Store, lines: &[&str]) -> Layer {
        let options = LayerOptions {
            compression: crate::layer::Compression::DEFAULT,
            epoch: None,
            threads: 1,
        };
        let mut writer = LayerWriter::new(store, &options).unwrap();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let path = ImagePath::clean(words[1]);
            let mut entry = Entry::directory(path.clone(), Timestamp::default());
            match words[0] {
                "d" => {
                    entry.mode = u32::from_str_radix(words[2], 8).unwrap();
                    writer.append(&entry, None).unwrap();
                }
                "f" => {
                    entry = Entry::file(path, words[2].len() as u64, 0o644, Timestamp::default());
                    writer
                        .append(&entry, Some(&mut words[2].as_bytes()))
                        .unwrap();
                }
                "l" => {
                    let target = words[2].as_bytes().to_vec();
                    entry.kind = EntryKind::Symlink { target };
                    writer.append(&entry, None).unwrap();
                }
                "w" => writer.append_whiteout(&path).unwrap(),
                _ => writer.append_opaque(&path).unwrap(),
            }
        }
        let made = writer.finish().unwrap();
        Layer {
            descriptor: made.descriptor,
            diff_id: made.diff_id,
            identity: made.diff_id,
            fresh: true,
        }
    }

    fn tree_text(view: &View<'_>, path: &ImagePath, shown: &mut Vec<String>) {
        for node in view.list(path).unwrap() {
            let mut node = node.unwrap();
            let found = view.look_up(&node.entry.path).unwrap().unwrap();
            assert_eq!(found.entry, node.entry, "list and look_up agree");
            let what = match &node.entry.kind {
                EntryKind::Directory => format!("{:o}", node.entry.mode),
                EntryKind::Symlink { target } => String::from_utf8_lossy(target).into_owned(),
                _ => {
                    let mut text = String::new();
                    view.open(&mut node)
                        .unwrap()
                        .read_to_string(&mut text)
                        .unwrap();
                    text
                }
            };
            shown.push(format!("{} {what}", node.entry.path));
            if node.entry.is_directory() {
                tree_text(view, &node.entry.path, shown);
            }
        }
    }

    fn check(layers: &[&[&str]], expected: &[&str]) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let layers: Vec<Layer> = layers.iter().map(|lines| layer(&store, lines)).collect();
        let view = View::new(&store, &layers, "test");
        let mut shown = Vec::new();
        tree_text(&view, &ImagePath::root(), &mut shown);
        assert_eq!(shown, expected);
    }

    #[test]
    fn upper_layers_win_and_directories_merge() {
        check(
            &[
                &["d a 700", "f a/x one", "f a/y one", "l s a"],
                &["d a 755", "f a/y two", "f s two"],
            ],
            &["/a 755", "/a/x one", "/a/y two", "/s two"],
        );
    }

    #[test]
    fn whiteouts_hide_what_is_below_and_nothing_above() {
        check(
            &[
                &["d a 755", "f a/x one", "d b 755", "f b/x one", "f c one"],
                &["w a", "d b 755", "w b/x", "w c"],
                &["d a 711", "f a/z three", "f c three"],
            ],
            &["/a 711", "/a/z three", "/b 755", "/c three"],
        );
    }

    #[test]
    fn opaque_directories_start_anew() {
        check(
            &[
                &["d a 700", "d a/d 755", "f a/d/y one", "f a/x one"],
                &["d a 755", "o a", "f a/z two"],
            ],
            &["/a 755", "/a/z two"],
        );
    }

    #[test]
    fn a_file_over_a_directory_hides_all_of_it() {
        check(
            &[
                &["d a 755", "d a/b 755", "f a/b/c one"],
                &["f a two"],
                &["d a 750", "f a/n three"],
            ],
            &["/a 750", "/a/n three"],
        );
    }

    #[test]
    fn an_opaque_marker_alone_keeps_the_directory_s_own_mode() {
        check(
            &[&["d a 700", "f a/old one"], &["o a", "f a/n two"]],
            &["/a 700", "/a/n two"],
        );
    }

    #[test]
    fn files_below_a_lower_link_make_a_directory_and_are_told() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let layers = [
            layer(&store, &["d s 755", "f s/old one", "l t s", "f u one"]),
            layer(&store, &["f t/x two", "f u/y two"]),
        ];
        let told = Replacements::default();
        let view = View::new(&store, &layers, "the base").with_replacements(Some(&told));
        let mut shown = Vec::new();
        tree_text(&view, &ImagePath::root(), &mut shown);
        let expected = [
            "/s 755",
            "/s/old one",
            "/t 755",
            "/t/x two",
            "/u 755",
            "/u/y two",
        ];
        assert_eq!(shown, expected);
        let upper = layers[1].descriptor.digest;
        let replaced = |path: &str, symlink| Replaced {
            layer: upper,
            path: ImagePath::clean(path),
            symlink,
        };
        assert_eq!(told.take(), [replaced("/t", true), replaced("/u", false)]);
        assert!(view.look_up(&ImagePath::clean("/t")).unwrap().is_some());
        assert!(told.take().is_empty());
    }

    /// Whatever the layers say, a summary says which of them decide: pseudo-random layers, asked with and without one.
    #[test]
    fn a_summary_changes_no_answer() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let mut state = 7_u32;
        let mut below = |limit: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % limit
        };
        let names = ["a", "a/b", "a/b/c", "a/d", "e", "e/b", "e/b/c", "f"];
        let layers: Vec<Layer> = (0..60)
            .map(|number| {
                let mut lines: BTreeMap<String, String> = BTreeMap::new();
                for _ in 0..=below(2) {
                    let name = names[below(names.len() as u32) as usize];
                    let clashes = |other: &String| {
                        other.starts_with(&format!("{name}/"))
                            || name.starts_with(&format!("{other}/"))
                    };
                    if lines.keys().any(clashes) {
                        continue;
                    }
                    let line = match below(6) {
                        0 => format!("w {name}"),
                        1 => format!("o {name}"),
                        2 => format!("d {name} 7{}5", number % 8),
                        3 => format!("l {name} x"),
                        _ => format!("f {name} {number}"),
                    };
                    lines.insert(name.to_owned(), line);
                }
                let lines: Vec<&str> = lines.values().map(String::as_str).collect();
                layer(&store, &lines)
            })
            .collect();
        let summaries = Summaries::default();
        for count in 1..=layers.len() {
            let mut with = View::new(&store, &layers[..count], "test").with_summaries(&summaries);
            let mut without = View::new(&store, &layers[..count], "test");
            (with.few, without.few) = (0, usize::MAX);
            for name in names.iter().chain(&["", "a/x", "f/x"]) {
                let path = ImagePath::clean(name);
                let (one, other) = (
                    with.look_up(&path).unwrap(),
                    without.look_up(&path).unwrap(),
                );
                assert_eq!(one, other, "{count} {name}");
                let list = |view: &View<'_>| -> Vec<Node> {
                    view.list(&path).unwrap().map(Result::unwrap).collect()
                };
                assert_eq!(list(&with), list(&without), "{count} {name}");
            }
        }
    }

    #[test]
    fn what_is_only_implied_takes_its_metadata_from_below() {
        check(
            &[&["d a 700", "d a/b 711", "f a/b/c one"], &["f a/b/d two"]],
            &["/a 700", "/a/b 711", "/a/b/c one", "/a/b/d two"],
        );
    }
}
