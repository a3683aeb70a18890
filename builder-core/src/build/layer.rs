//! Writing the layer of one step: what a merge yields, into the store, with progress and a way to stop.

use std::io::{self, Read};

use crate::digest::{Digest, Hashing};
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventSink, StepId};
use crate::image_path::ImagePath;
use crate::interrupt::Interrupt;
use crate::layer::{Layer, LayerOptions, LayerWriter};
use crate::oci::Descriptor;
use crate::store::Store;
use crate::tree::Node;
use crate::tree::merge::Merged;

/// Progress is told once for so many bytes of tar.
const PROGRESS_BYTES: u64 = 4 << 20;

/// Writes one layer.
pub(crate) struct LayerMaker<'a> {
    writer: LayerWriter,
    interrupt: &'a Interrupt,
    events: &'a dyn EventSink,
    step: StepId,
    told: u64,
    observer: Option<Observer<'a>>,
}

/// Is told the digest of each file of the host that was copied, with the file as it was when it was opened.
pub(crate) type Observer<'a> = &'a dyn Fn(&Node, Digest) -> Result<()>;

impl<'a> LayerMaker<'a> {
    /// Starts a layer for `step`; `previous` is the blob of one that is like it.
    pub(crate) fn new(
        store: &Store,
        options: &LayerOptions,
        interrupt: &'a Interrupt,
        events: &'a dyn EventSink,
        step: StepId,
        previous: Option<&Descriptor>,
    ) -> Result<Self> {
        Ok(Self {
            writer: LayerWriter::with_previous(store, options, previous)?,
            interrupt,
            events,
            step,
            told: 0,
            observer: None,
        })
    }

    /// This maker, which tells the digests of what it copies.
    pub(crate) fn observed(mut self, observer: Option<Observer<'a>>) -> Self {
        self.observer = observer;
        self
    }

    /// Appends one entry after `adjust` had its say about owner and mode.
    pub(crate) fn append(&mut self, merged: Merged<'_>, adjust: &dyn Fn(&mut Entry)) -> Result<()> {
        self.interrupt.check()?;
        refuse_marker(&merged.entry)?;
        let Merged {
            mut entry, content, ..
        } = merged;
        match content {
            None => {
                adjust(&mut entry);
                if entry.kind == EntryKind::Socket {
                    // A tar has no sockets. BuildKit copies one as an empty file; so does this.
                    entry.kind = EntryKind::File { size: 0 };
                }
                self.writer.append(&entry, None)?;
            }
            Some((tree, mut node)) => {
                let known = node.entry.clone();
                let mut hashing = Hashing::new(tree.open(&mut node)?);
                let mut reader = Stoppable {
                    inner: match self.observer {
                        Some(_) => &mut hashing as &mut dyn Read,
                        None => &mut hashing.inner,
                    },
                    interrupt: self.interrupt,
                };
                refresh(&mut entry, &known, &node.entry);
                adjust(&mut entry);
                self.writer
                    .append(&entry, Some(&mut reader))
                    .map_err(|error| {
                        let stopped = self.interrupt.check().err();
                        stopped.unwrap_or_else(|| changed(error, tree, &node.entry))
                    })?;
                if let Some(observer) = self.observer {
                    observer(&node, hashing.hasher.finish())?;
                }
            }
        }
        self.tell();
        Ok(())
    }

    /// Appends one entry as it is. A regular file comes with its bytes.
    pub(crate) fn put(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        self.interrupt.check()?;
        refuse_marker(entry)?;
        match content {
            Some(bytes) => append(&mut self.writer, self.interrupt, entry, bytes)?,
            None => self.writer.append(entry, None)?,
        }
        self.tell();
        Ok(())
    }

    /// Hides a path of the layers below.
    pub(crate) fn whiteout(&mut self, path: &ImagePath) -> Result<()> {
        Ok(self.writer.append_whiteout(path)?)
    }

    fn tell(&mut self) {
        let done_bytes = self.writer.bytes();
        if done_bytes - self.told >= PROGRESS_BYTES {
            self.told = done_bytes;
            self.events.send(Event::StepProgress {
                id: self.step,
                done_bytes,
                files: self.writer.files(),
            });
        }
    }

    /// Ends the layer.
    pub(crate) fn finish(self) -> Result<Layer> {
        self.interrupt.check()?;
        Ok(self.writer.finish()?)
    }
}

/// Appends a regular file to a layer until someone asks to stop.
///
/// # Errors
/// Those of the bytes and of the writer, and that of who asked to stop.
pub(crate) fn append(
    writer: &mut LayerWriter,
    interrupt: &Interrupt,
    entry: &Entry,
    inner: &mut dyn Read,
) -> Result<()> {
    let mut reader = Stoppable { inner, interrupt };
    let written = writer.append(entry, Some(&mut reader));
    written.map_err(|error| match interrupt.check() {
        Err(stopped) => stopped,
        Ok(()) => error.into(),
    })
}

/// Reads a file until someone asks to stop, in the middle of it if need be.
struct Stoppable<'a, R> {
    /// The file.
    inner: R,
    /// Whether to stop.
    interrupt: &'a Interrupt,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.is_set() {
            return Err(io::Error::other("interrupted"));
        }
        self.inner.read(buffer)
    }
}

/// A layer can't hold a file of such a name: every reader takes it for the mark that hides another one (OCI image
/// layer specification, "Whiteouts").
fn refuse_marker(entry: &Entry) -> Result<()> {
    let name = entry.path.file_name().unwrap_or_default();
    if !name.starts_with(b".wh.") {
        return Ok(());
    }
    let message = format!(
        "`{}` can't be in a layer: names that begin with `.wh.` mark deleted files",
        entry.path
    );
    Err(Error::new(ErrorKind::Context, message)
        .with_help("give the file another name, or exclude it"))
}

/// Takes over what the open file told since it was listed.
fn refresh(entry: &mut Entry, known: &Entry, open: &Entry) {
    entry.kind = open.kind.clone();
    entry.xattrs.clone_from(&open.xattrs);
    entry.mtime = open.mtime;
    if known.mode != open.mode {
        entry.mode = open.mode;
    }
}

/// A file that yields more or fewer bytes than it said is being written while it is read.
fn changed(error: crate::layer::Error, tree: &dyn crate::tree::Tree, entry: &Entry) -> Error {
    Error::from(error).with_note(format!(
        "`{}` in {} was being copied",
        entry.path,
        tree.describe()
    ))
}
