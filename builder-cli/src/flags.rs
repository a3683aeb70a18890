//! Every flag as it is typed. Nothing is believed yet: `request.rs` turns this into what the library takes.
//!
//! Names, short forms and meaning are those of `docker build` and `docker buildx build`; see
//! `docs/dockerfile-support.md`, "Flags".

#![expect(
    clippy::doc_markdown,
    rustdoc::broken_intra_doc_links,
    reason = "the doc lines are the help that is printed"
)]
#![expect(
    clippy::struct_excessive_bools,
    clippy::option_option,
    reason = "a flag is there or not, with a value or without"
)]

pub(crate) mod archives;
pub(crate) mod cache;
pub(crate) mod images;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod store;
mod words;

use std::ffi::OsString;
use std::path::PathBuf;

use archives::{CommitFlags, CopyFlags, ExportFlags, LoadFlags, SaveFlags};
use cache::{CacheCommand, PruneFlags};
use clap::{Args, Parser, Subcommand, ValueEnum};
use images::{HistoryFlags, ImagesFlags, InspectFlags, RmiFlags, TagFlags};
use run::{ModeFlags, RunFlags};
use session::{RunImageFlags, ShellFlags};
use store::StoreCommand;

/// Builds OCI images from Dockerfiles: no daemon, no root, no container runtime.
#[derive(Debug, Parser)]
#[command(name = "rbuild", version, about, max_term_width = 100)]
#[command(after_help = "The word `build` may be left out: `rbuild -t name .`")]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image (the default command)
    Build(Box<BuildFlags>),
    /// Print the build as a list of steps, and execute nothing
    Plan(Box<BuildFlags>),
    /// Report all problems of a Dockerfile, and build nothing
    Check(Box<BuildFlags>),
    /// Say which steps of a build would be executed and why, and execute nothing
    Why(Box<BuildFlags>),
    /// Look at the build cache
    Cache {
        /// What to do
        #[command(subcommand)]
        command: CacheCommand,
    },
    /// Look after the store
    Store {
        /// What to do
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Delete what the build cache holds, the least recently used first
    Prune(PruneFlags),
    /// Execute a command in an image: for a smoke test, or a look around; not for production
    Run(Box<RunImageFlags>),
    /// Start a shell in a stage, an image, or at a line of the Dockerfile
    Shell(Box<ShellFlags>),
    /// List the images in the store
    Images(ImagesFlags),
    /// Give an image of the store further names
    Tag(TagFlags),
    /// Remove images from the store
    Rmi(RmiFlags),
    /// Print all that is known of images, as JSON
    Inspect(InspectFlags),
    /// Print how an image came to be, a line an instruction
    History(HistoryFlags),
    /// Write images of the store into an archive, or the directory of a layout
    Save(SaveFlags),
    /// Read images from an archive, or the directory of a layout, into the store
    Load(LoadFlags),
    /// Write the root file system of an image, as a tar or as files
    Export(ExportFlags),
    /// Make an image of a directory or a tar, on its own or on top of another image
    Commit(CommitFlags),
    /// Copy an image between registries, the store, layouts and archives
    Copy(CopyFlags),
    /// Fetch images from their registries into the store
    Pull(TransferFlags),
    /// Send images of the store to their registries
    Push(TransferFlags),
    /// Check a user and a password with a registry, and keep them
    Login(LoginFlags),
    /// Forget the credentials for a registry
    Logout {
        /// Host and port [default: docker.io]
        registry: Option<String>,
    },
    /// Say how RUN would be executed on this machine, and why not better
    Doctor(DoctorFlags),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page in roff
    #[command(hide = true)]
    Manual,
}

/// Where the store is.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreFlags {
    /// Directory of the store [default: $RBUILD_ROOT, $XDG_DATA_HOME/rbuild or ~/.local/share/rbuild]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
}

/// The flags of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorFlags {
    /// RUN.
    #[command(flatten)]
    pub(crate) mode: ModeFlags,
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreFlags,
}

/// How registries are reached.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RegistryFlags {
    /// Registry that may be spoken to without TLS (repeatable)
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    pub(crate) insecure: Vec<String>,
    /// Where else to pull a registry's images from; without a name docker.io's (repeatable)
    #[arg(long = "registry-mirror", value_name = "[REGISTRY=]URL")]
    pub(crate) mirrors: Vec<String>,
}

/// The flags of `pull` and `push`.
#[derive(Debug, Args)]
pub(crate) struct TransferFlags {
    /// Images, `[REGISTRY/]REPOSITORY[:TAG]`
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// Platform to pull, such as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// How to tell what happens
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    pub(crate) progress: Progress,
    /// Print nothing but the digest
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    /// Registries.
    #[command(flatten)]
    pub(crate) registry: RegistryFlags,
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreFlags,
}

/// The flags of `login`.
#[derive(Args)]
pub(crate) struct LoginFlags {
    /// Host and port [default: docker.io]
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: Option<String>,
    /// The user
    #[arg(short = 'u', long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// The password; others can see it: use --password-stdin
    #[arg(short = 'p', long, value_name = "PASSWORD")]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Registries.
    #[command(flatten)]
    pub(crate) registries: RegistryFlags,
}

impl std::fmt::Debug for LoginFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginFlags")
            .field("registry", &self.registry)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// How a build tells what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// A live view on a terminal, lines elsewhere
    Auto,
    /// Lines
    Plain,
    /// A live view
    Tty,
    /// One JSON object a line
    #[value(alias = "rawjson")]
    Json,
    /// Errors only
    Quiet,
}

/// The flags of `build`, `plan` and `check`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct BuildFlags {
    /// Directory to build from, a URL of a tar or a Dockerfile, or a git repository; `-` is a tar or a Dockerfile on standard input
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: OsString,

    /// Name of the image, `[REGISTRY/]REPOSITORY[:TAG]` (repeatable)
    #[arg(short = 't', long = "tag", value_name = "NAME")]
    pub(crate) tags: Vec<String>,

    /// Path of the Dockerfile; `-` is standard input [default: CONTEXT/Dockerfile]
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,

    /// Build argument, `NAME=VALUE`, or `NAME` to take the value from the environment (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,

    /// Stage to build [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,

    /// Platform to build for, such as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,

    /// Label of the image (repeatable)
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<String>,

    /// Annotation of the manifest (repeatable)
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    pub(crate) annotations: Vec<String>,

    /// Named context: a directory, a URL, oci-layout://PATH[:TAG], or docker-image://NAME (repeatable)
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    pub(crate) build_contexts: Vec<String>,

    /// Ignore file to use instead of the ones that are looked for
    #[arg(long, value_name = "PATH")]
    pub(crate) ignorefile: Option<PathBuf>,

    /// What to write: type=oci|oci-dir|docker|local|tar|image|registry,dest=PATH; a PATH alone is type=local, `-` a tar on standard
    /// output (repeatable) [default: an OCI tarball named after the first tag]
    #[arg(short = 'o', long = "output", value_name = "SPEC")]
    pub(crate) outputs: Vec<String>,

    /// Write Docker's media types instead of OCI's, for old registries
    #[arg(long)]
    pub(crate) docker_media_types: bool,

    /// Compression of new layers: gzip[:0-9], zstd[:1-19] or none
    #[arg(long, value_name = "KIND[:LEVEL]")]
    pub(crate) compression: Option<String>,

    /// Number of threads that compress, and of stages that are built, at once [default: the number of processors]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,

    /// No time in the image is later: seconds since 1970, `context`, or a context or stage that has a time [default:
    /// $SOURCE_DATE_EPOCH]
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub(crate) source_date_epoch: Option<String>,

    /// How to tell what happens
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    pub(crate) progress: Progress,

    /// Print nothing but the digest of the image
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,

    /// Write the digest of the image to a file
    #[arg(long, value_name = "PATH")]
    pub(crate) iidfile: Option<PathBuf>,

    /// Write what was built as JSON to a file
    #[arg(long, value_name = "PATH")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// When to ask registries for images: always (without a value), missing or never [default: missing]
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "WHEN")]
    pub(crate) pull: Option<Option<String>>,

    /// Push the image to the registries of its tags; without -o nothing else is written
    #[arg(long)]
    pub(crate) push: bool,

    /// Registries.
    #[command(flatten)]
    pub(crate) registry: RegistryFlags,

    /// Ask about the Dockerfile and build nothing: check, outline (what the target takes from outside) or targets, each
    /// with `,format=json` behind it for JSON [default: build]
    #[arg(long, value_name = "QUESTION")]
    pub(crate) call: Option<String>,

    /// Report all problems of the Dockerfile, and build nothing: --call=check
    #[arg(long)]
    pub(crate) check: bool,

    /// For `--check` and `rbuild check`: warnings make the status that of errors
    #[arg(long)]
    pub(crate) warnings_as_errors: bool,

    /// Accept a `# syntax=` line that names a foreign frontend
    #[arg(long)]
    pub(crate) ignore_syntax: bool,

    /// RUN.
    #[command(flatten)]
    pub(crate) run: RunFlags,

    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreFlags,

    /// Flags of Docker's that are accepted or refused.
    #[command(flatten)]
    pub(crate) docker: DockerFlags,
}

/// Flags that users of Docker type. Those whose effect rbuild has anyway are accepted without a word; the others are
/// refused with the reason, by `request.rs`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Flags of docker build")]
pub(crate) struct DockerFlags {
    /// Execute every step anew
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Stages whose steps are executed anew (repeatable)
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Accepted: nothing is left behind
    #[arg(long, num_args = 0..=1, value_name = "BOOL", require_equals = true, hide = true)]
    pub(crate) rm: Option<Option<bool>>,
    /// Accepted: nothing is left behind
    #[arg(long, num_args = 0..=1, value_name = "BOOL", require_equals = true, hide = true)]
    pub(crate) force_rm: Option<Option<bool>>,
    /// Accepted as `false`: no attestations are made
    #[arg(long, value_name = "BOOL", hide = true)]
    pub(crate) provenance: Option<String>,
    /// Accepted as `false`: no attestations are made
    #[arg(long, value_name = "BOOL", hide = true)]
    pub(crate) sbom: Option<String>,
    /// Hand the image to Docker, podman or containerd, whichever is there, or to the one that is named: docker, podman,
    /// containerd, or a context of Docker's; without -o nothing else is written
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "ENGINE")]
    pub(crate) load: Option<String>,
    /// Cache of other machines to look steps up in: type=registry,ref=NAME, type=local,src=DIR, or the NAME of an image
    /// that carries its record; with mounts=true or mounts=ID;ID it fills new cache mounts too (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub(crate) cache_from: Vec<String>,
    /// Cache for other machines to write: type=registry,ref=NAME, type=local,dest=DIR, each with mode=min|max, and with
    /// mounts=true or mounts=ID;ID for cache mounts; or type=inline (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub(crate) cache_to: Vec<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) allow: Vec<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) attest: Vec<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) builder: Option<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) squash: bool,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) isolation: Option<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) cgroup_parent: Option<String>,
    /// Refused by name
    #[arg(short = 'm', long, hide = true)]
    pub(crate) memory: Option<String>,
}

pub(crate) use words::with_command;
