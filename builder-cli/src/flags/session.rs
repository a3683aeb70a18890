//! The flags of `run` and `shell`; names and meaning are those of `docker run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::run::ModeFlags;
use super::{RegistryFlags, StoreFlags};

/// What a command in a root finds there: common to `run` and `shell`.
#[derive(Debug, Clone, Args)]
pub(crate) struct WorldFlags {
    /// Variable, NAME=VALUE, or NAME to take the value from the environment (repeatable)
    #[arg(short = 'e', long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// File with a variable a line; lines that begin with # are comments (repeatable)
    #[arg(long, value_name = "PATH")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory [default: the image's]
    #[arg(short = 'w', long, value_name = "PATH")]
    pub(crate) workdir: Option<String>,
    /// User, NAME or ID, with :GROUP or without [default: the image's]
    #[arg(short = 'u', long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Directory or file of this machine to show: HOST:PATH[:ro] (repeatable)
    #[arg(short = 'v', long = "volume", value_name = "HOST:PATH[:ro]")]
    pub(crate) volume: Vec<String>,
    /// The same in Docker's long form: type=bind,src=HOST,dst=PATH[,readonly] or type=tmpfs,dst=PATH[,tmpfs-size=BYTES]
    /// (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub(crate) mount: Vec<String>,
    /// Directory in memory: PATH[:size=BYTES] (repeatable)
    #[arg(long, value_name = "PATH[:size=BYTES]")]
    pub(crate) tmpfs: Vec<String>,
    /// The network: default and host are this machine's, none is loopback alone
    #[arg(long, alias = "net", value_name = "HOW")]
    pub(crate) network: Option<String>,
    /// A line for /etc/hosts: NAME:ADDRESS or NAME=ADDRESS (repeatable)
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub(crate) add_host: Vec<String>,
    /// Size of /dev/shm, such as 1g [default: 64m]
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,
    /// A limit: NAME=SOFT[:HARD], such as nofile=1024:4096 (repeatable)
    #[arg(long, value_name = "LIMIT")]
    pub(crate) ulimit: Vec<String>,
    /// The root can't be written to
    #[arg(long)]
    pub(crate) read_only: bool,
    /// The host name that the command sees
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// How it is isolated.
    #[command(flatten)]
    pub(crate) mode: ModeFlags,
    /// Registries.
    #[command(flatten)]
    pub(crate) registry: RegistryFlags,
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreFlags,
}

/// The flags of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunImageFlags {
    /// The image, `[REGISTRY/]REPOSITORY[:TAG]`; pulled where the store lacks it
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// What to execute instead of the image's CMD
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<OsString>,
    /// Program to execute instead of the image's ENTRYPOINT; an empty one is none
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Pass on standard input
    #[arg(short = 'i', long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short = 't', long)]
    pub(crate) tty: bool,
    /// Make an image of what the command leaves, where it ends with status 0
    #[arg(long, value_name = "NAME")]
    pub(crate) commit: Option<String>,
    /// Start the image's program, and give the verdict of its HEALTHCHECK as exit status
    #[arg(long, conflicts_with_all = ["command", "entrypoint", "commit", "tty", "interactive"])]
    pub(crate) health: bool,
    /// Platform of the image, such as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// When to ask the registry for the image
    #[arg(long, value_enum, default_value = "missing", value_name = "WHEN")]
    pub(crate) pull: PullWhen,
    /// What it finds.
    #[command(flatten)]
    pub(crate) world: WorldFlags,
    /// Flags of Docker's.
    #[command(flatten)]
    pub(crate) docker: DockerRunFlags,
}

/// `--pull` of `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullWhen {
    /// A tag may have moved.
    Always,
    /// Where the store lacks it.
    Missing,
    /// Never.
    Never,
}

/// Flags of `docker run` whose effect `run` has anyway, or that are refused with the reason.
#[derive(Debug, Args)]
#[command(next_help_heading = "Flags of docker run")]
pub(crate) struct DockerRunFlags {
    /// What it always does: nothing is left behind
    #[arg(long)]
    pub(crate) rm: bool,
    /// Accepted: there is always a first process that reaps
    #[arg(long, hide = true)]
    pub(crate) init: bool,
    /// Accepted: nothing stays that could have a name
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Accepted: nothing stays that could be labelled
    #[arg(short = 'l', long, hide = true, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Accepted: nothing is probed without --health
    #[arg(long, hide = true)]
    pub(crate) no_healthcheck: bool,
    /// Don't tell that an image is pulled
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    /// Signal that asks the command to end [default: the image's STOPSIGNAL, or SIGTERM]
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Refused by name
    #[arg(short = 'd', long, hide = true)]
    pub(crate) detach: bool,
    /// Refused by name
    #[arg(short = 'p', long, hide = true)]
    pub(crate) publish: Vec<String>,
    /// Refused by name
    #[arg(short = 'P', long, hide = true)]
    pub(crate) publish_all: bool,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) privileged: bool,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) cap_add: Vec<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) device: Vec<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) gpus: Option<String>,
    /// Refused by name
    #[arg(short = 'm', long, hide = true)]
    pub(crate) memory: Option<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) cpus: Option<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) restart: Option<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) cap_drop: Vec<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) security_opt: Vec<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) group_add: Vec<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) pid: Option<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) ipc: Option<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) uts: Option<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) userns: Option<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) dns: Vec<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) volumes_from: Vec<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) cidfile: Option<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) stop_timeout: Option<String>,
    /// Refused by name
    #[arg(long, hide = true)]
    pub(crate) link: Vec<String>,
}

/// The flags of `shell`.
#[derive(Debug, Args)]
pub(crate) struct ShellFlags {
    /// A stage of the Dockerfile, by name or number, or an image [default: the last stage]
    #[arg(value_name = "STAGE|IMAGE", conflicts_with = "at")]
    pub(crate) what: Option<String>,
    /// The root as it is after the instruction at this line, with its mounts where it is a RUN
    #[arg(long, value_name = "LINE")]
    pub(crate) at: Option<usize>,
    /// With --at: before the instruction
    #[arg(long, requires = "at")]
    pub(crate) before: bool,
    /// The root of the last RUN that failed with --on-failure=keep
    #[arg(long, conflicts_with_all = ["what", "at"])]
    pub(crate) last_failed: bool,
    /// Execute this in the shell, and end
    #[arg(short = 'c', long, value_name = "COMMAND")]
    pub(crate) command: Option<String>,
    /// Directory to build from
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) context: OsString,
    /// Path of the Dockerfile [default: DIR/Dockerfile]
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
    /// Build argument, `NAME=VALUE`, or `NAME` to take the value from the environment (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,
    /// Named context: a directory, a URL, oci-layout://PATH[:TAG], or docker-image://NAME (repeatable)
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    pub(crate) build_contexts: Vec<String>,
    /// A secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME] (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub(crate) secret: Vec<String>,
    /// An agent or keys for RUN --mount=type=ssh: default, or ID[=SOCKET|=KEYFILE,…] (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub(crate) ssh: Vec<String>,
    /// Platform to build for, such as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// What it finds.
    #[command(flatten)]
    pub(crate) world: WorldFlags,
}
