//! Tar bytes to an index: of a layer that someone else made, or of an archive that ADD unpacks.
//!
//! Follows the OCI image layer specification for layers; an archive is the same without whiteouts. It refuses and
//! never guesses: a name that leads out, a link to nothing, an entry below a file, a damaged header, an endless name.
//! A leading `/` or `./` is dropped. Memory is bounded whatever the tar's size; bytes are not kept, only where they
//! are. Of several entries for one path the last wins.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ahead;
use super::content::{Content, Wholes};
use super::decompress;
use super::error::{Error, Result, TarProblem};
use super::frame::{Frame, FrameError, Frames};
use super::index::LayerIndex;
use super::index_writer::Problem;
use super::kept::Kept;
use super::making::Making;
use super::record::{DataRange, Record};
use super::whiteout::{self, Marker};
use crate::digest::{DiffId, Hasher, Hashing};
use crate::entry::{Entry, EntryKind};
use crate::image_path::{DEEPEST, ImagePath, LONGEST};
use crate::oci::Descriptor;
use crate::store::{self, Sidecar, Store, TemporaryFile};

/// Bytes read at a time.
pub(super) const BUFFER: usize = 128 * 1024;

/// Streams a layer's blob once and keeps its index. The blob's digest and size are checked, and its diff ID where one
/// is given. An index that is there already is used as it is, if the diff ID is given.
pub fn index_layer(
    store: &Store,
    descriptor: &Descriptor,
    diff_id: Option<&DiffId>,
) -> Result<(DiffId, LayerIndex)> {
    if let Some(diff_id) = diff_id
        && let Some(index) = LayerIndex::open(store, diff_id)?
    {
        return Ok((*diff_id, index));
    }
    let (index, found) = make_index_of(store, descriptor)?;
    check_diff_id(descriptor, diff_id, found)?;
    let which = Sidecar::Index(found);
    let file = store.keep_sidecar(which, index)?;
    Ok((
        found,
        LayerIndex::from_file(file, store.sidecar_path(which))?,
    ))
}

/// Streams a layer's blob once; its index without a name, and its diff ID.
pub(super) fn make_index_of(
    store: &Store,
    descriptor: &Descriptor,
) -> Result<(TemporaryFile, DiffId)> {
    let what = What::layer(descriptor);
    unpack(store, descriptor, |tar| make_index(store, tar, &what, None))
}

/// The same for a layer that is not in the store: its blob is read as it arrives, and not kept. The stream itself fails
/// at its end if its bytes are not the blob's.
pub fn index_stream(
    store: &Store,
    mut blob: &mut (dyn Read + Send),
    descriptor: &Descriptor,
    diff_id: &DiffId,
) -> Result<LayerIndex> {
    let what = What::layer(descriptor);
    let mut kept = Kept::default();
    let (visited, rest, hasher) = unpack_from(&mut blob, &what, |tar| {
        make_index(store, tar, &what, Some(&mut kept))
    })?;
    io::copy(blob, &mut io::sink()).map_err(|source| what.stream(source))?;
    rest.map_err(|source| what.stream(source))?;
    let index = visited?;
    check_diff_id(descriptor, Some(diff_id), DiffId(hasher.finish()))?;
    kept.write(store, *diff_id)?;
    let which = Sidecar::Index(*diff_id);
    let file = store.keep_sidecar(which, index)?;
    LayerIndex::from_file(file, store.sidecar_path(which))
}

/// Streams a blob's tar through `visit` to its last byte, checks the blob, and gives the diff ID.
pub(super) fn unpack<T>(
    store: &Store,
    descriptor: &Descriptor,
    visit: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<(T, DiffId)> {
    let what = What::layer(descriptor);
    let mut blob = store.open_blob(descriptor)?;
    let (visited, rest, hasher) = unpack_from(&mut blob, &what, visit)?;
    // A damaged blob explains whatever else is wrong with its content.
    blob.verify_rest()?;
    rest.map_err(|source| what.stream(source))?;
    Ok((visited?, DiffId(hasher.finish())))
}

/// Decompresses a stream through `visit` to its end: what that gave, whether the rest could be read, and the hash of
/// the tar.
fn unpack_from<T>(
    blob: &mut (impl Read + Send),
    what: &What,
    visit: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<(Result<T>, io::Result<()>, Hasher)> {
    let opened = decompress::open(BufReader::with_capacity(BUFFER, blob));
    let (_, inner) = opened.map_err(|source| what.stream(source))?;
    let mut hashing = Hashing::new(inner);
    let (visited, rest) = ahead::read(&mut hashing, |tar| {
        let visited = visit(tar);
        let rest = match &visited {
            Ok(_) => io::copy(tar, &mut io::sink()).map(|_| ()),
            Err(_) => Ok(()),
        };
        (visited, rest)
    });
    Ok((visited, rest, hashing.hasher))
}

pub(super) fn check_diff_id(
    descriptor: &Descriptor,
    expected: Option<&DiffId>,
    found: DiffId,
) -> Result<()> {
    match expected {
        Some(expected) if *expected != found => Err(Error::DiffId {
            layer: descriptor.digest,
            expected: *expected,
            found,
        }),
        _ => Ok(()),
    }
}

/// What is being read, for errors and for the meaning of names.
#[derive(Debug)]
pub(super) struct What {
    archive: bool,
    name: String,
    /// Whether hard links may lead to files that are not in it.
    outwards: bool,
    /// The bytes read so far, where they are counted.
    count: Option<Arc<AtomicU64>>,
}

impl What {
    pub(super) fn archive(name: &str, outwards: bool, count: Arc<AtomicU64>) -> Self {
        Self {
            archive: true,
            name: format!("archive `{name}`"),
            outwards,
            count: Some(count),
        }
    }

    pub(super) fn layer(descriptor: &Descriptor) -> Self {
        Self {
            archive: false,
            name: format!("layer `{}`", descriptor.digest),
            // To a file of a lower layer.
            outwards: true,
            count: None,
        }
    }

    /// The error of a stream; a damaged blob's own where that is the cause.
    pub(super) fn stream(&self, source: io::Error) -> Error {
        match source.downcast::<store::Error>() {
            Ok(own) => own.into(),
            Err(source) => Error::Stream {
                archive: self.archive,
                source_name: self.name.clone(),
                at: self
                    .count
                    .as_ref()
                    .map(|count| count.load(Ordering::Relaxed)),
                source,
            },
        }
    }

    fn frame(&self, error: FrameError) -> Error {
        match error {
            FrameError::Stream(source) => self.stream(source),
            FrameError::Refused(entry, problem) => self.refuse(entry, problem),
        }
    }

    pub(super) fn refuse(&self, entry: Option<Vec<u8>>, problem: TarProblem) -> Error {
        Error::Tar {
            archive: self.archive,
            source_name: self.name.clone(),
            entry,
            problem,
        }
    }

    /// Whether a hard link may lead to what is unpacked over.
    pub(super) fn may_link_out(&self) -> bool {
        self.outwards
    }

    pub(super) fn problem(&self, problem: Problem) -> Error {
        match problem {
            Problem::Other(error) => error,
            Problem::Tar(path, problem) => self.refuse(Some(path.as_relative().to_vec()), problem),
        }
    }
}

/// Reads all entries and writes their index.
fn make_index(
    store: &Store,
    tar: &mut dyn Read,
    what: &What,
    mut kept: Option<&mut Kept>,
) -> Result<TemporaryFile> {
    let mut making = Making::new(store);
    each_record(tar, what, |content, record, number| {
        if let (Some(kept), Some(range)) = (&mut kept, &record.data)
            && Kept::wants(&record.entry.path, range)
        {
            let content = content.all();
            kept.push(range, &content.map_err(|error| what.frame(error))?);
        }
        making.push(&record, number)
    })?;
    making.finish(store, what)
}

/// Calls `visit` with the bytes of every entry that says something, its record and its number.
pub(super) fn each_record<'t>(
    tar: &'t mut dyn Read,
    what: &What,
    mut visit: impl FnMut(&mut Content<'_, &'t mut dyn Read>, Record, u64) -> Result<()>,
) -> Result<()> {
    let mut wholes = Wholes::default();
    each_frame(tar, what, |frames, frame, mut record, number| {
        if let Some(sparse) = &frame.sparse {
            let placed = wholes.place(sparse, &mut record);
            placed.map_err(|problem| what.refuse(Some(frame.name.clone()), problem))?;
        }
        visit(&mut Content::new(frames, &frame), record, number)
    })
}

/// The same with what the tar says of each entry.
pub(super) fn each_frame<'t>(
    tar: &'t mut dyn Read,
    what: &What,
    mut visit: impl FnMut(&mut Frames<&'t mut dyn Read>, Frame, Record, u64) -> Result<()>,
) -> Result<()> {
    let mut frames = Frames::new(tar);
    let mut number = 0;
    while let Some(frame) = frames.next().map_err(|error| what.frame(error))? {
        number += 1;
        let read = read_record(&frame, !what.archive);
        let record = read.map_err(|problem| what.refuse(Some(frame.name.clone()), problem))?;
        if let Some(record) = record {
            visit(&mut frames, frame, record, number)?;
        }
    }
    Ok(())
}

/// What an entry says; none where it says nothing in an image.
fn read_record(frame: &Frame, markers: bool) -> Result<Option<Record>, TarProblem> {
    let of_archive = !markers;
    if of_archive && frame.name.is_empty() {
        // It stands for the directory that everything is unpacked into, as `.` does.
        return Ok(None);
    }
    let path = clean(&frame.name)?;
    if markers {
        match whiteout::read(&path) {
            Marker::None => {}
            Marker::Ignored => return Ok(None),
            Marker::Whiteout(hidden) => return Ok(Some(Record::whiteout(hidden))),
            Marker::Opaque(directory) => {
                let mut record = Record::implicit(directory);
                record.opaque = true;
                return Ok(Some(record));
            }
        }
    }
    let kind = read_kind(frame)?;
    if path.is_root() && !matches!(kind, EntryKind::Directory) {
        return if of_archive {
            Ok(None)
        } else {
            Err(TarProblem::BadName)
        };
    }
    let data = matches!(kind, EntryKind::File { .. }).then_some(DataRange {
        offset: frame.offset,
        len: frame.size,
    });
    let entry = Entry {
        path,
        kind,
        mode: frame.mode,
        uid: frame.uid,
        gid: frame.gid,
        mtime: frame.mtime,
        xattrs: frame.xattrs.clone(),
    };
    Ok(Some(Record::present(entry, data)))
}

/// The type of an entry, with what only that type has.
fn read_kind(frame: &Frame) -> Result<EntryKind, TarProblem> {
    Ok(match frame.kind {
        b'1' => EntryKind::HardLink {
            target: clean(&frame.link)?,
        },
        b'2' if frame.link.is_empty() || frame.link.contains(&0) => {
            return Err(TarProblem::BadName);
        }
        b'2' => EntryKind::Symlink {
            target: frame.link.clone(),
        },
        b'3' => EntryKind::CharDevice {
            major: frame.device.0,
            minor: frame.device.1,
        },
        b'4' => EntryKind::BlockDevice {
            major: frame.device.0,
            minor: frame.device.1,
        },
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        _ => EntryKind::File { size: frame.size },
    })
}

/// The path of a name; refuses one that leads out of the root on its way, or is none.
fn clean(name: &[u8]) -> Result<ImagePath, TarProblem> {
    if name.is_empty() || name.contains(&0) {
        return Err(TarProblem::BadName);
    }
    if name.len() > LONGEST {
        return Err(TarProblem::LongName(LONGEST));
    }
    let mut depth = 0_usize;
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => depth = depth.checked_sub(1).ok_or(TarProblem::Climbs)?,
            _ => depth += 1,
        }
    }
    if depth > DEEPEST {
        return Err(TarProblem::DeepName(DEEPEST));
    }
    Ok(ImagePath::clean([b"/", name].concat()))
}
