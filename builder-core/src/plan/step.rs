//! Steps: instructions after lowering. Typed, fully expanded; no `$` is left except in what a shell will read.

use crate::platform::Platform;
use crate::source::Span;

/// What one instruction does to a stage's file system, with everything expanded and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Changes the config alone: ENV, LABEL, CMD and the like. Adds no layer.
    Config,
    /// COPY and ADD.
    Copy(Box<CopyStep>),
    /// WORKDIR: makes the directory. WORKDIR `/` is a [`Step::Config`].
    Workdir(WorkdirStep),
    /// RUN.
    Run(Box<RunStep>),
}

impl Step {
    /// Where it takes files from: a COPY's source, and those of a RUN's mounts.
    pub fn sources(&self) -> impl Iterator<Item = &CopyFrom> {
        let (copy, mounts) = match self {
            Self::Copy(step) => (Some(&step.from), &[][..]),
            Self::Run(step) => (None, &step.mounts[..]),
            _ => (None, &[][..]),
        };
        let of_mounts = mounts.iter().filter_map(|mount| match &mount.kind {
            RunMountKind::Bind { from, .. } => Some(from),
            RunMountKind::Cache { from, .. } => from.as_ref(),
            _ => None,
        });
        copy.into_iter().chain(of_mounts)
    }
}

/// COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyStep {
    /// Whether the instruction is ADD: URLs, git and archives are understood.
    pub add: bool,
    /// Where the path sources are looked up.
    pub from: CopyFrom,
    /// The sources in the order of the line; heredocs come after all paths.
    pub sources: Vec<CopySource>,
    /// The destination, joined to WORKDIR: absolute, not cleaned of links.
    pub destination: Destination,
    /// `--chown`, expanded.
    pub chown: Option<Spanned<Chown>>,
    /// `--chmod`, expanded.
    pub chmod: Option<Chmod>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, in order.
    pub exclude: Vec<Spanned<String>>,
    /// ADD `--checksum`, expanded.
    pub checksum: Option<Spanned<String>>,
    /// ADD `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// ADD `--unpack`: none is the default of the kind of source.
    pub unpack: Option<bool>,
}

/// A value and the place in the Dockerfile that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// The word or flag that gave it.
    pub span: Span,
}

/// Where COPY's path sources are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyFrom {
    /// The build context.
    Context,
    /// A stage, by its index in the Dockerfile.
    Stage(usize),
    /// A named context given with `--build-context`.
    Named(String),
    /// An image: the text of `--from`.
    Image(Spanned<String>),
}

/// One source of COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// A path or a wildcard pattern, as it stands after expansion.
    Path(Spanned<String>),
    /// A file whose content stands in the Dockerfile, expanded unless its marker was quoted.
    Heredoc {
        /// The delimiter word: the file's name.
        name: String,
        /// The file's bytes.
        content: String,
        /// The marker in the instruction's line.
        span: Span,
    },
    /// ADD of an http or https URL.
    Url(Spanned<String>),
    /// ADD of a git repository.
    Git(Spanned<String>),
}

/// The last word of COPY and ADD, joined to WORKDIR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Absolute path, as typed where it was absolute: may still hold `..` and double slashes.
    pub path: String,
    /// Whether it names a directory by its form: empty, `.`, or with a trailing `/` or `/.`.
    pub directory: bool,
    /// The word.
    pub span: Span,
}

/// `--chown=USER[:GROUP]`: each part a number, or a name that the image's own files resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chown {
    /// The user. None where the flag is `:GROUP`: user 0.
    pub user: Option<Account>,
    /// The group. None: the number of a numeric user, or the primary group of a named one.
    pub group: Option<Account>,
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// A number up to 2,147,483,647; `root` is 0.
    Id(u32),
    /// A name to look up in the image's `/etc/passwd` or `/etc/group`.
    Name(String),
}

/// `--chmod`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chmod {
    /// Octal, 0 to 0o7777.
    Octal(u32),
    /// A symbolic list such as `u=rwX,go=rX`, checked.
    Symbolic(Vec<SymbolicMode>),
}

/// One clause of a symbolic mode, after chmod(1): who, operation, permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolicMode {
    /// Bits of who: 1 user, 2 group, 4 others; never 0 (`a` and none are 7).
    pub who: u8,
    /// `+`, `-` or `=`.
    pub operation: char,
    /// Letters among `rwxXst`, or one of `u g o`.
    pub permissions: String,
}

/// WORKDIR: the directory is made if it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkdirStep {
    /// Absolute path, not resolved against links.
    pub path: String,
    /// The USER in force: owner of what is made. Empty is root.
    pub user: String,
}

/// RUN. Executed in an image's file system; see `docs/dockerfile-support.md` for what is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStep {
    /// What is started: the shell with its text, or the exec form as it stands.
    pub argv: Vec<String>,
    /// Scripts that are mounted read-only at `/dev/pipes/NAME` and executed directly (heredocs with `#!`).
    pub scripts: Vec<RunScript>,
    /// Build arguments in force, in the order in which the history shows them.
    pub args: Vec<(String, String)>,
    /// The whole environment of the process: ENV, then ARG, in order.
    pub env: Vec<(String, String)>,
    /// Proxy variables given as build arguments; not part of a cache key.
    pub proxies: Vec<(String, String)>,
    /// Working directory, absolute.
    pub workdir: String,
    /// USER as it stands in the config; empty is root.
    pub user: String,
    /// `--mount`, in order.
    pub mounts: Vec<RunMount>,
    /// The host name that it sees.
    pub hostname: String,
    /// `--network`.
    pub network: RunNetwork,
    /// `--security=insecure` was asked for.
    pub insecure: bool,
}

/// A heredoc that is a script of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunScript {
    /// The delimiter word, the file's name below `/dev/pipes`.
    pub name: String,
    /// The script, byte for byte.
    pub content: String,
}

/// `RUN --network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// The caller's network, or what the command line says.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// `RUN --mount=…`, values expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMount {
    /// What is mounted.
    pub kind: RunMountKind,
    /// Where, absolute. None for a secret that is only a variable.
    pub target: Option<String>,
    /// Whether writes are refused.
    pub read_only: bool,
    /// The flag.
    pub span: Span,
}

/// The types of mounts, each with what only it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunMountKind {
    /// `type=bind`.
    Bind {
        /// Where the source is looked up.
        from: CopyFrom,
        /// Path in it; `/` by default.
        source: String,
    },
    /// `type=cache`.
    Cache {
        /// Name of the cache; by default the cleaned target as written.
        id: String,
        /// `shared`, `private` or `locked`.
        sharing: CacheSharing,
        /// Content of a new cache; none is an empty directory.
        from: Option<CopyFrom>,
        /// Path in `from`.
        source: String,
        /// Mode of a new directory.
        mode: u32,
        /// Owner of a new directory.
        uid: u32,
        /// Group of a new directory.
        gid: u32,
    },
    /// `type=tmpfs`.
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
    },
    /// `type=secret`.
    Secret {
        /// Which secret.
        id: String,
        /// Whether a missing one fails the step.
        required: bool,
        /// Variable that gets the value.
        env: Option<String>,
        /// Mode of the file.
        mode: u32,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
    },
    /// `type=ssh`.
    Ssh {
        /// Which agent or key.
        id: String,
        /// Whether a missing one fails the step.
        required: bool,
        /// Mode of the socket.
        mode: u32,
        /// Owner of the socket.
        uid: u32,
        /// Group of the socket.
        gid: u32,
    },
}

/// How concurrent users share a cache mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheSharing {
    /// All at once.
    #[default]
    Shared,
    /// A second user gets a new directory.
    Private,
    /// A second user waits.
    Locked,
}

/// What a stage starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageBase {
    /// Nothing.
    Scratch,
    /// An earlier stage, by its index in the Dockerfile.
    Stage(usize),
    /// A named context given with `--build-context`: its name.
    Named(String),
    /// An image by reference.
    Image {
        /// The reference as it stands after expansion.
        reference: Spanned<String>,
        /// `--platform` of the FROM line, or the build's platform.
        platform: Platform,
    },
}
