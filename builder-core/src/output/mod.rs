//! What leaves the store: an image as an archive, a layout, a root file system.
//!
//! An output appears whole under its name or not at all. Every byte of an image comes from the store as it is there;
//! a blob that this build did not write itself is verified on the way.

mod archive;
mod layout;
mod place;
pub mod record;
mod rootfs;
mod whole_file;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventSink};
use crate::image::Committed;
use crate::image::replaced::Replacements;
use crate::interrupt::Interrupt;
use crate::oci::descriptor::Descriptor;
use crate::reference::Reference;
use crate::store::Store;
use crate::timestamp::Timestamp;
use archive::Flavour;
use place::Place;
use whole_file::WholeFile;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// An OCI layout as a tarball, with the `manifest.json` that `docker load` reads.
    Oci,
    /// An OCI layout as a directory.
    OciDirectory,
    /// The archive of `docker save`.
    Docker,
    /// The root file system as files.
    Local,
    /// The root file system as a tar.
    Tar,
}

impl OutputKind {
    /// The name that `--output type=` gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oci => "oci",
            Self::OciDirectory => "oci-dir",
            Self::Docker => "docker",
            Self::Local => "local",
            Self::Tar => "tar",
        }
    }
}

/// One thing to write.
#[derive(Debug)]
pub struct Output {
    /// What.
    pub kind: OutputKind,
    /// Where.
    pub destination: Destination,
}

/// Where an output goes.
#[derive(Debug)]
pub enum Destination {
    /// A file or a directory.
    Path {
        /// The path on the host.
        path: PathBuf,
        /// Whether a file that is no image archive may be replaced. A default that nobody typed must not.
        replace: bool,
    },
    /// An open file, such as standard output. Only kinds that are one file can go there.
    Handle(File),
}

/// An image and what its outputs say about it.
#[derive(Debug)]
pub(crate) struct Bundle<'a> {
    /// The image in the store.
    pub(crate) image: &'a Committed,
    /// Its names.
    pub(crate) references: &'a [Reference],
    /// The time of the archives' members.
    pub(crate) time: Timestamp,
    /// The time that no file of a root file system may be later than.
    pub(crate) epoch: Option<Timestamp>,
    /// Is told of directories that stand where a lower layer has something else.
    pub(crate) replacements: &'a Replacements,
}

impl Bundle<'_> {
    /// The digest of everything that decides the bytes of an output.
    fn content(&self, kind: OutputKind) -> Digest {
        let version = env!("CARGO_PKG_VERSION");
        let (kind, image, time) = (kind.name(), self.image.digest(), self.time);
        let mut text = format!("{version} {kind} {image} {time}");
        for part in self.epoch.iter().map(ToString::to_string) {
            text = format!("{text} {part}");
        }
        for reference in self.references {
            text = format!("{text}\n{reference}");
        }
        Digest::of(text.as_bytes())
    }
}

/// Refuses, before any work is done, an output that could not be written in the end.
///
/// # Errors
/// [`ErrorKind::Output`], naming the path.
pub fn check(output: &Output) -> Result<()> {
    let Destination::Path { path, replace } = &output.destination else {
        return match output.kind {
            OutputKind::Oci | OutputKind::Docker | OutputKind::Tar => Ok(()),
            kind => Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "type={} is a directory and can't go to standard output",
                    kind.name()
                ),
            )
            .with_help("name a directory with `dest=`")),
        };
    };
    let shown = path.display();
    match output.kind {
        OutputKind::OciDirectory | OutputKind::Local if path.exists() && !path.is_dir() => {
            Err(Error::new(
                ErrorKind::Output,
                format!("`{shown}` is there and is no directory"),
            )
            .with_help("choose another `dest=`"))
        }
        OutputKind::OciDirectory | OutputKind::Local if is_root(path) => Err(Error::new(
            ErrorKind::Output,
            format!("`{shown}` is the root of this machine; nothing is written there"),
        )
        .with_help("choose another `dest=`")),
        OutputKind::OciDirectory | OutputKind::Local => Ok(()),
        _ if path.is_dir() => Err(Error::new(
            ErrorKind::Output,
            format!("`{shown}` is a directory"),
        )
        .with_help("name a file with `dest=`")),
        _ => {
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            if !parent.is_dir() {
                return Err(Error::new(
                    ErrorKind::Output,
                    format!(
                        "`{shown}` can't be written: there is no directory `{}`",
                        parent.display()
                    ),
                )
                .with_help("create the directory first"));
            }
            place::find(path)?;
            if !replace && is_foreign(path) {
                return Err(Error::new(
                    ErrorKind::Output,
                    format!("`{shown}` is there and is no image archive; it stays"),
                )
                .with_help("move it away, or say where to write with `-o type=oci,dest=FILE`"));
            }
            Ok(())
        }
    }
}

fn is_root(path: &Path) -> bool {
    path.canonicalize()
        .is_ok_and(|path| path.parent().is_none())
}

/// Whether something is there that is no image archive. Only a file is opened: a pipe would be waited for.
fn is_foreign(path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => {
            File::open(path).is_ok_and(|file| !archive::is_image_archive(file))
        }
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Writes one output.
pub(crate) fn write(
    store: &Store,
    bundle: &Bundle<'_>,
    output: &mut Output,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<()> {
    check(output)?;
    let kind = output.kind;
    let (destination, bytes) = match &mut output.destination {
        Destination::Handle(file) => (
            "-".to_owned(),
            write_file(store, bundle, kind, file, events, interrupt)?,
        ),
        Destination::Path { path, .. } => {
            let bytes = match kind {
                OutputKind::OciDirectory => layout::write(store, bundle, path)?,
                OutputKind::Local => rootfs::write_directory(store, bundle, path, interrupt)?,
                _ => write_path(store, bundle, kind, path, events, interrupt)?,
            };
            (path.display().to_string(), bytes)
        }
    };
    events.send(Event::OutputWritten {
        kind: kind.name(),
        destination,
        bytes,
    });
    Ok(())
}

/// Writes a file under its name, unless it is there as it would be written; or into what is there and is no file.
fn write_path(
    store: &Store,
    bundle: &Bundle<'_>,
    kind: OutputKind,
    path: &Path,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<u64> {
    let place = match place::find(path)? {
        Place::Name(place) => place,
        Place::Through => {
            let mut file = place::open(path, interrupt)?;
            return write_file(store, bundle, kind, &mut file, events, interrupt);
        }
    };
    let path = place.as_path();
    let content = bundle.content(kind);
    if let Some(bytes) = record::holds(store, path, &content) {
        return Ok(bytes);
    }
    let mut whole = WholeFile::create(path).map_err(Problem::at("create", path))?;
    let bytes = write_file(store, bundle, kind, whole.file(), events, interrupt)?;
    whole.persist().map_err(Problem::at("write", path))?;
    record::remember(store, path, &content)?;
    Ok(bytes)
}

fn write_file(
    store: &Store,
    bundle: &Bundle<'_>,
    kind: OutputKind,
    file: &mut File,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<u64> {
    let total: u64 = bundle
        .image
        .layers
        .iter()
        .map(|layer| layer.descriptor.size)
        .sum();
    let mut progress = |done_bytes| {
        let what = format!("{} archive", kind.name());
        events.send(Event::Transfer {
            what,
            digest: None,
            done_bytes,
            total_bytes: Some(total),
        });
        interrupt.check()
    };
    match kind {
        OutputKind::Docker => archive::write(store, bundle, Flavour::Docker, file, &mut progress),
        OutputKind::Tar => rootfs::write_tar(store, bundle, file, interrupt),
        _ => archive::write(store, bundle, Flavour::Oci, file, &mut progress),
    }
}

/// Copies a blob's bytes to the file's position. What this build wrote a moment ago is copied by the kernel; anything
/// else is verified on the way.
pub(crate) fn copy_blob(
    store: &Store,
    blob: &Descriptor,
    fresh: bool,
    to: &mut File,
) -> Result<u64> {
    if fresh {
        let path = store.blob_path(&blob.digest);
        let mut from = File::open(&path).map_err(Problem::at("read", &path))?;
        return io::copy(&mut from, to).map_err(|error| Problem::writing(error).into());
    }
    let mut from = store.open_blob(blob)?;
    let copied = io::copy(&mut from, to).map_err(|error| Problem::copying(error, blob))?;
    from.verify_rest()?;
    Ok(copied)
}

/// What can go wrong with an output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The operating system refused.
    #[error("cannot {verb} `{}`", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write the output")]
    Write {
        /// The answer.
        source: io::Error,
    },
    /// A blob could not be copied; the cause says whether reading or writing failed.
    #[error("cannot copy blob `{digest}`")]
    Copy {
        /// Which.
        digest: Digest,
        /// The answer.
        source: io::Error,
    },
}

impl Problem {
    fn writing(source: io::Error) -> Self {
        Self::Write { source }
    }

    /// The error of a copy: the store's own where a blob turned out to be damaged.
    fn copying(source: io::Error, blob: &Descriptor) -> Error {
        match source.downcast::<crate::store::Error>() {
            Ok(damaged) => damaged.into(),
            Err(source) => Self::Copy {
                digest: blob.digest,
                source,
            }
            .into(),
        }
    }

    fn at<'a>(verb: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            verb,
            path: path.to_owned(),
            source,
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let (Problem::Io { source, .. } | Problem::Write { source } | Problem::Copy { source, .. }) =
            &problem;
        let help = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room on the disk, or write elsewhere with `dest=`"
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "choose a `dest=` that you may write to"
            }
            io::ErrorKind::BrokenPipe => "the reader of standard output went away",
            io::ErrorKind::InvalidData => {
                "the store is damaged: build the image again, or pull its base again"
            }
            _ => "check the path of the output",
        };
        let message = problem.to_string();
        let (Problem::Io { source, .. } | Problem::Write { source } | Problem::Copy { source, .. }) =
            problem;
        Self::new(ErrorKind::Output, message)
            .with_help(help)
            .with_source(source)
    }
}
