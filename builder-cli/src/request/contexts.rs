//! The context and the Dockerfile: which files, or what comes on standard input.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use builder_core::build::elsewhere::is_elsewhere;
use builder_core::build::request::{ContextSource, NamedContext};
use builder_core::image::layout_source::Wanted;
use builder_core::interrupt::Interrupt;
use builder_core::layer::Packing;
use builder_core::layer::archive::{ArchiveTree, Owners};
use builder_core::layer::decompress::sniff;
use builder_core::source::SourceFile;
use builder_core::store::Store;
use builder_core::{Error, ErrorKind, Result};

use super::inside::stays_inside;
use super::{elsewhere, usage};
use crate::environment::Environment;
use crate::flags::BuildFlags;

/// A Dockerfile and where its context is.
pub(crate) struct Input {
    /// The text.
    pub(crate) dockerfile: SourceFile,
    /// The context.
    pub(crate) context: ContextSource,
}

/// A Dockerfile larger than this is something else.
const MAX_DOCKERFILE: u64 = 16 << 20;

impl Input {
    /// Reads the Dockerfile, and of a context on standard input everything.
    pub(crate) fn read(
        flags: &BuildFlags,
        environment: &Environment,
        store: &Store,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let from_input = flags.file.as_deref() == Some(Path::new("-"));
        if flags.context == "-" {
            if from_input {
                return Err(usage("context and Dockerfile can't both be standard input"));
            }
            return from_standard_input(flags, store, interrupt);
        }
        let context: PathBuf = environment
            .directory
            .join(&flags.context)
            .components()
            .collect();
        let name = flags.context.to_string_lossy();
        if !context.is_dir() && is_elsewhere(&name) {
            return elsewhere::input(&name, flags, environment, store, interrupt);
        }
        if !context.exists() {
            let message = format!("the build context `{}` does not exist", context.display());
            return Err(Error::new(ErrorKind::Context, message)
                .with_help("the last argument names the directory to build from"));
        }
        if !context.is_dir() {
            let message = format!("the build context `{}` is no directory", context.display());
            return Err(Error::new(ErrorKind::Context, message)
                .with_help("name its directory, and the Dockerfile with `-f`; a tar comes on standard input: `rbuild - < FILE`"));
        }
        let general = context.join(".dockerignore");
        stays_inside(&general, &context)?;
        let mut ignore_files = vec![general];
        let dockerfile = if from_input {
            dockerfile_on_input(interrupt)?
        } else {
            let path = find_dockerfile(flags.file.as_deref(), &context, environment)?;
            let mut own = path.clone().into_os_string();
            own.push(".dockerignore");
            ignore_files.insert(0, PathBuf::from(own));
            read_dockerfile(&path, &shown(&path, &context, environment))?
        };
        if let Some(path) = &flags.ignorefile {
            let path = environment.directory.join(path);
            if !path.is_file() {
                return Err(Error::new(
                    ErrorKind::Context,
                    format!("the ignore file `{}` does not exist", path.display()),
                ));
            }
            ignore_files = vec![path];
        }
        Ok(Self {
            dockerfile,
            context: ContextSource::Directory {
                path: context,
                ignore_files,
            },
        })
    }
}

/// `-f` names a file from the working directory, or else from the context, as Docker's tools look for it.
fn find_dockerfile(
    file: Option<&Path>,
    context: &Path,
    environment: &Environment,
) -> Result<PathBuf> {
    let candidates = match file {
        Some(file) => vec![environment.directory.join(file), context.join(file)],
        None => vec![context.join("Dockerfile"), context.join("dockerfile")],
    };
    if let Some(found) = candidates.iter().find(|path| path.exists()) {
        if file.is_none() {
            stays_inside(found, context)?;
        }
        return Ok(found.clone());
    }
    if let Some(link) = candidates.iter().find(|path| path.is_symlink()) {
        let target = std::fs::read_link(link).unwrap_or_default();
        let message = format!(
            "the Dockerfile `{}` is a link to `{}`, which is not there",
            link.display(),
            target.display()
        );
        return Err(Error::new(ErrorKind::Dockerfile, message)
            .with_help("mend the link, or name another file with `-f`"));
    }
    let wanted = candidates
        .first()
        .map_or_else(String::new, |path| path.display().to_string());
    let error = Error::new(
        ErrorKind::Dockerfile,
        format!("there is no Dockerfile `{wanted}`"),
    );
    Err(match containerfile(context) {
        Some(found) => error.with_help(format!("there is `{found}`; name it with `-f`")),
        None => error.with_help("name it with `-f`"),
    })
}

/// What else looks like a Dockerfile in a directory.
fn containerfile(context: &Path) -> Option<String> {
    let names = std::fs::read_dir(context)
        .ok()?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names
        .filter(|name| name.to_lowercase().contains("file"))
        .collect();
    names.retain(|name| {
        let lower = name.to_lowercase();
        (lower.contains("docker") || lower.contains("container"))
            && !lower.ends_with(".dockerignore")
    });
    names.sort();
    names.into_iter().next()
}

/// How a message names the Dockerfile: as short as it is clear.
fn shown(path: &Path, context: &Path, environment: &Environment) -> String {
    let short = path
        .strip_prefix(&environment.directory)
        .or_else(|_| path.strip_prefix(context));
    let short = short.unwrap_or(path).display().to_string();
    short.strip_prefix("./").unwrap_or(&short).to_owned()
}

/// The Dockerfile that `-f -` reads.
pub(super) fn dockerfile_on_input(interrupt: &Interrupt) -> Result<SourceFile> {
    let bytes = read_limited(&mut Patient(interrupt), "standard input")
        .map_err(|error| interrupt.check().err().unwrap_or(error))?;
    text("-", bytes)
}

fn read_dockerfile(path: &Path, name: &str) -> Result<SourceFile> {
    let unreadable = |error| {
        Error::new(
            ErrorKind::Dockerfile,
            format!("the Dockerfile `{}` can't be read", path.display()),
        )
        .with_help("check its path and that you may read it")
        .with_source(error)
    };
    if path.is_dir() {
        return Err(Error::new(
            ErrorKind::Dockerfile,
            format!("the Dockerfile `{}` is a directory", path.display()),
        )
        .with_help("`-f` names the file itself"));
    }
    let mut file = File::open(path).map_err(unreadable)?;
    text(name, read_limited(&mut file, name)?)
}

fn read_limited(reader: &mut impl Read, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_DOCKERFILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| {
            Error::new(
                ErrorKind::Dockerfile,
                format!("the Dockerfile `{name}` can't be read"),
            )
            .with_source(error)
        })?;
    if bytes.len() as u64 > MAX_DOCKERFILE {
        return Err(Error::new(
            ErrorKind::Dockerfile,
            format!("`{name}` has more than {MAX_DOCKERFILE} bytes and is no Dockerfile"),
        ));
    }
    Ok(bytes)
}

pub(super) fn text(name: &str, bytes: Vec<u8>) -> Result<SourceFile> {
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    if utf16 || bytes.contains(&0) {
        let what = if utf16 {
            "is UTF-16"
        } else {
            "is no text: it holds zero bytes"
        };
        let message = format!("the Dockerfile `{name}` {what}");
        return Err(Error::new(ErrorKind::Dockerfile, message).with_help(
            "save it as UTF-8; in PowerShell: `… | Out-File -Encoding utf8 Dockerfile`",
        ));
    }
    Ok(SourceFile::from_bytes(name, bytes))
}

/// Standard input, waited for in small steps, so that an interrupt is noticed while nothing comes.
struct Patient<'i>(&'i Interrupt);

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stdin = io::stdin();
        let step = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        loop {
            if self.0.is_set() {
                return Err(io::Error::other("interrupted"));
            }
            let mut waiting = [rustix::event::PollFd::new(
                &stdin,
                rustix::event::PollFlags::IN,
            )];
            match rustix::event::poll(&mut waiting, Some(&step)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(rustix::io::read(&stdin, buffer)?),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Standard input holds a tar with everything in it, or a Dockerfile alone.
fn from_standard_input(flags: &BuildFlags, store: &Store, interrupt: &Interrupt) -> Result<Input> {
    let unreadable = |error| {
        let plain = Error::new(ErrorKind::Context, "standard input can't be read");
        let stopped = interrupt.check().err();
        stopped.unwrap_or_else(|| plain.with_source(error))
    };
    let mut spool = store.temporary_file()?;
    let mut input = Patient(interrupt);
    let mut head = Vec::new();
    input
        .by_ref()
        .take(2 << 20)
        .read_to_end(&mut head)
        .map_err(unreadable)?;
    // What begins as an archive and can't be read as one is told by who reads it all: at which byte.
    if let Ok(None) = builder_core::layer::detect_archive(head.as_slice()) {
        if sniff(&head) != Packing::Plain {
            return Err(
                Error::new(ErrorKind::Context, "standard input is a damaged archive")
                    .with_help("make the archive again"),
            );
        }
        if flags.file.is_some() {
            return Err(usage(
                "standard input is a Dockerfile, so `-f` names nothing",
            ));
        }
        head.extend(read_limited(&mut input, "standard input")?);
        return Ok(Input {
            dockerfile: text("-", head)?,
            context: ContextSource::Empty { modified: None },
        });
    }
    spool.write_all(&head).map_err(unreadable)?;
    io::copy(&mut input, &mut spool).map_err(unreadable)?;
    let mut file = spool.file();
    file.rewind().map_err(unreadable)?;
    let context = ArchiveTree::read(store, "standard input", file, Owners::Root)?;
    let names = names_inside(flags);
    for name in &names {
        if let Some(bytes) = context.read_file(name)? {
            return Ok(Input {
                dockerfile: text(name, bytes)?,
                context: ContextSource::Archive(Box::new(context)),
            });
        }
    }
    Err(Error::new(
        ErrorKind::Dockerfile,
        format!("the tar on standard input holds no `{}`", names[0]),
    )
    .with_help("name the Dockerfile in it with `-f`"))
}

/// What the Dockerfile may be called inside a context that comes as a whole.
pub(super) fn names_inside(flags: &BuildFlags) -> Vec<String> {
    match &flags.file {
        Some(file) => vec![file.to_string_lossy().into_owned()],
        None => vec!["Dockerfile".to_owned(), "dockerfile".to_owned()],
    }
}

/// `--build-context NAME=VALUE`.
pub(super) fn named(
    given: &[String],
    environment: &Environment,
) -> Result<BTreeMap<String, NamedContext>> {
    let mut contexts = BTreeMap::new();
    for one in given {
        let (name, value) = one
            .split_once('=')
            .filter(|(name, value)| !name.is_empty() && !value.is_empty())
            .ok_or_else(|| {
                usage(format!("--build-context `{one}` is no `NAME=VALUE`"))
                    .with_help("write `--build-context NAME=DIRECTORY`, or `NAME=URL`")
            })?;
        contexts.insert(name.to_owned(), named_context(value, environment)?);
    }
    Ok(contexts)
}

fn named_context(value: &str, environment: &Environment) -> Result<NamedContext> {
    if value == "docker-image://scratch" {
        return Ok(NamedContext::Scratch);
    }
    if let Some(reference) = value.strip_prefix("docker-image://") {
        let reference = reference
            .parse()
            .map_err(|error| usage(format!("--build-context: {error}")))?;
        return Ok(NamedContext::Image(reference));
    }
    if let Some(layout) = value.strip_prefix("oci-layout://") {
        return layout_context(layout, environment);
    }
    let path = environment.directory.join(value);
    if !path.is_dir() && is_elsewhere(value) {
        return Ok(NamedContext::Elsewhere(value.to_owned()));
    }
    if !path.is_dir() {
        return Err(Error::new(
            ErrorKind::Context,
            format!("--build-context: `{}` is no directory", path.display()),
        )
        .with_help("an image is written as `oci-layout://PATH` or `docker-image://NAME`"));
    }
    Ok(NamedContext::Directory(path))
}

/// `PATH[:TAG][@DIGEST]`; a path that exists as it stands has no tag.
fn layout_context(layout: &str, environment: &Environment) -> Result<NamedContext> {
    let (rest, digest) = match layout.split_once('@') {
        Some((rest, digest)) => (
            rest,
            Some(
                digest
                    .parse()
                    .map_err(|error| usage(format!("--build-context: {error}")))?,
            ),
        ),
        None => (layout, None),
    };
    let whole = environment.directory.join(rest);
    if whole.exists() {
        return Ok(NamedContext::Layout {
            path: whole,
            wanted: Wanted { name: None, digest },
        });
    }
    let (path, name) = rest
        .rsplit_once(':')
        .map_or((rest, None), |(path, tag)| (path, Some(tag.to_owned())));
    Ok(NamedContext::Layout {
        path: environment.directory.join(path),
        wanted: Wanted { name, digest },
    })
}
