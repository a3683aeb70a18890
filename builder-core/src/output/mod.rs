//! What leaves the store: an image as an archive, a layout, a root file system.
//!
//! An output appears whole under its name or not at all. Every byte of an image comes from the store as it is there;
//! a blob that this build did not write itself is verified on the way.

mod archive;
mod contents;
mod layout;
mod place;
mod problem;
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
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::blob::copy;
use crate::store::{BlobSource, Store};
use crate::timestamp::Timestamp;
use archive::Flavour;
use contents::Contents;
pub use contents::{Name, Outgoing, blobs_of};
use place::Place;
pub use problem::Problem;
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

/// Writes one output of a build.
pub(crate) fn write(
    store: &Store,
    bundle: &Bundle<'_>,
    output: &mut Output,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<()> {
    let kind = output.kind;
    match kind {
        OutputKind::Local => {
            check(output)?;
            let Destination::Path { path, .. } = &output.destination else {
                return Ok(());
            };
            let bytes = rootfs::write_directory(store, bundle, path, interrupt)?;
            tell(events, kind, &output.destination, bytes);
            Ok(())
        }
        OutputKind::Tar => {
            let content = bundle.content(kind);
            let work = &mut |file: &mut File| rootfs::write_tar(store, bundle, file, interrupt);
            write_file(store, output, &content, events, interrupt, work)
        }
        _ => {
            let content = bundle.content(kind);
            let contents = Contents::of_bundle(bundle);
            write_contents(store, &contents, &content, output, events, interrupt)
        }
    }
}

/// Writes images of the store as they are, digests kept. `source` is where layers are fetched that the store lacks.
///
/// # Errors
/// [`ErrorKind::Output`], and those of the store and of the source.
pub fn write_images(
    store: &Store,
    images: &[Outgoing],
    output: &mut Output,
    source: &dyn BlobSource,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<()> {
    check(output)?;
    let contents = Contents::of_images(store, images, Timestamp::default())?;
    let blobs = contents.blobs.iter().map(|(blob, _)| blob);
    source.fetch(store, &store.missing(blobs)?)?;
    let content = contents.digest(output.kind.name())?;
    write_contents(store, &contents, &content, output, events, interrupt)
}

/// Writes the root file system of an image of the store, as a tar or as files.
///
/// # Errors
/// As [`write_images`].
pub fn write_root(
    store: &Store,
    name: &str,
    manifest: &Descriptor,
    output: &mut Output,
    source: &dyn BlobSource,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<()> {
    check(output)?;
    let base = crate::image::base::load(store, name, manifest, &Platform::host())?;
    let layers = base.image.layers.iter().map(|layer| &layer.descriptor);
    source.fetch(store, &store.missing(layers)?)?;
    let image = Committed {
        manifest: manifest.clone(),
        // A root file system is written from the layers alone.
        config: manifest.clone(),
        layers: base.image.layers,
    };
    let bundle = Bundle {
        image: &image,
        references: &[],
        time: Timestamp::default(),
        epoch: None,
        replacements: &Replacements::default(),
    };
    write(store, &bundle, output, events, interrupt)
}

/// Writes images as an archive or a layout.
fn write_contents(
    store: &Store,
    contents: &Contents,
    content: &Digest,
    output: &mut Output,
    events: &dyn EventSink,
    interrupt: &Interrupt,
) -> Result<()> {
    let kind = output.kind;
    let total = contents.bytes();
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
    if let (OutputKind::OciDirectory, Destination::Path { path, .. }) = (kind, &output.destination)
    {
        check(output)?;
        let bytes = layout::write(store, contents, path, &mut progress)?;
        tell(events, kind, &output.destination, bytes);
        return Ok(());
    }
    let flavour = match kind {
        OutputKind::Docker => Flavour::Docker,
        _ => Flavour::Oci,
    };
    let work = &mut |file: &mut File| archive::write(store, contents, flavour, file, &mut progress);
    write_file(store, output, content, events, interrupt, work)
}

fn tell(events: &dyn EventSink, kind: OutputKind, destination: &Destination, bytes: u64) {
    let destination = match destination {
        Destination::Handle(_) => "-".to_owned(),
        Destination::Path { path, .. } => path.display().to_string(),
    };
    events.send(Event::OutputWritten {
        kind: kind.name(),
        destination,
        bytes,
    });
}

/// Writes a file under its name, unless it is there as it would be written; or into what is there and is no file.
fn write_file(
    store: &Store,
    output: &mut Output,
    content: &Digest,
    events: &dyn EventSink,
    interrupt: &Interrupt,
    work: &mut dyn FnMut(&mut File) -> Result<u64>,
) -> Result<()> {
    check(output)?;
    let bytes = match &mut output.destination {
        Destination::Handle(file) => work(file)?,
        Destination::Path { path, .. } => match place::find(path)? {
            Place::Through => work(&mut place::open(path, interrupt)?)?,
            Place::Name(path) => match record::holds(store, &path, content) {
                Some(bytes) => bytes,
                None => {
                    let mut whole =
                        WholeFile::create(&path).map_err(Problem::at("create", &path))?;
                    let bytes = work(whole.file())?;
                    whole.persist().map_err(Problem::at("write", &path))?;
                    record::remember(store, &path, content)?;
                    bytes
                }
            },
        },
    };
    tell(events, output.kind, &output.destination, bytes);
    Ok(())
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
    let copied = copy(&mut from, to).map_err(|error| Problem::copying(error, blob))?;
    from.verify_rest()?;
    Ok(copied)
}
