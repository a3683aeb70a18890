//! The flags that matter to RUN.

use clap::{Args, ValueEnum};

/// How RUN is executed, and what it is given.
#[derive(Debug, Args)]
#[command(next_help_heading = "RUN")]
pub(crate) struct RunFlags {
    /// A secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME] (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub(crate) secret: Vec<String>,

    /// An agent or keys for RUN --mount=type=ssh: default, or ID[=SOCKET|=KEYFILE,…] (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub(crate) ssh: Vec<String>,

    /// The network of RUN: default and host are this machine's, none is loopback alone
    #[arg(long, value_name = "HOW")]
    pub(crate) network: Option<String>,

    /// A line for /etc/hosts in RUN: NAME:ADDRESS or NAME=ADDRESS (repeatable)
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub(crate) add_host: Vec<String>,

    /// Size of /dev/shm in RUN, such as 1g [default: 64m]
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,

    /// A limit for RUN: NAME=SOFT[:HARD], such as nofile=1024:4096 (repeatable)
    #[arg(long, value_name = "LIMIT")]
    pub(crate) ulimit: Vec<String>,

    /// When a RUN fails: start a shell in its root, or keep that for `rbuild shell --last-failed`
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) on_failure: Option<OnFailureFlag>,

    #[command(flatten)]
    pub(crate) mode: ModeFlags,
}

/// `--on-failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFailureFlag {
    /// A shell.
    Shell,
    /// The root is kept.
    Keep,
}

/// How RUN is isolated.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "RUN")]
pub(crate) struct ModeFlags {
    /// How RUN is isolated; auto takes the best that this machine allows
    #[arg(long, value_enum, default_value = "auto", value_name = "MODE")]
    pub(crate) run_mode: Mode,

    /// Which user ids RUN has: one, with the others emulated, or all that the caller has
    #[arg(long, value_enum, default_value = "auto", value_name = "IDS")]
    pub(crate) run_ids: IdsFlag,
}

/// `--run-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// The best that works.
    Auto,
    /// Namespaces.
    Userns,
    /// A supervisor that resolves every path: no privilege, no namespaces.
    Paths,
    /// A chroot.
    Chroot,
    /// RUN is refused.
    None,
}

/// `--run-ids`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IdsFlag {
    /// All for root, one for others.
    Auto,
    /// One.
    Single,
    /// All.
    Range,
}
