//! The flags of the commands about images that are in the store.

use clap::Args;

use super::StoreFlags;

/// How a result is printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct FormatFlags {
    /// How to print: `json`, `table`, `table TEMPLATE` or a TEMPLATE as Docker's, such as `{{.Repository}}:{{.Tag}}`
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Cut nothing
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Print ids only
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
}

/// The flags of `images`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct ImagesFlags {
    /// Images of this name only; `*` stands for any letters but `/`
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) name: Option<String>,
    /// Show images without a name too
    #[arg(short = 'a', long)]
    pub(crate) all: bool,
    /// Show digests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Images that fit only: reference=PATTERN, dangling=BOOL, before=IMAGE, since=IMAGE, label=NAME[=VALUE] (repeatable)
    #[arg(short = 'f', long = "filter", value_name = "NAME=VALUE")]
    pub(crate) filters: Vec<String>,
    /// How.
    #[command(flatten)]
    pub(crate) format: FormatFlags,
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreFlags,
}

/// The flags of `tag`.
#[derive(Debug, Args)]
pub(crate) struct TagFlags {
    /// The image: a name, a digest, or the beginning of one
    #[arg(value_name = "IMAGE")]
    pub(crate) source: String,
    /// Its further names, `[REGISTRY/]REPOSITORY[:TAG]`
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreFlags,
}

/// The flags of `rmi`.
#[derive(Debug, Args)]
pub(crate) struct RmiFlags {
    /// Images: names, digests, or beginnings of one
    #[arg(value_name = "IMAGE", required_unless_present = "all")]
    pub(crate) images: Vec<String>,
    /// Take all names of an image that is given by its digest; what is not there is no error
    #[arg(short = 'f', long)]
    pub(crate) force: bool,
    /// All images
    #[arg(short = 'a', long, conflicts_with = "images")]
    pub(crate) all: bool,
    /// Take the names only, and leave the bytes to `rbuild prune`
    #[arg(long)]
    pub(crate) no_prune: bool,
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreFlags,
}

/// The flags of `inspect`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct InspectFlags {
    /// Images: names, digests, or beginnings of one
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// What to print: `json` or a TEMPLATE as Docker's, such as `{{json .Config.Env}}`
    #[arg(short = 'f', long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Platform of an image that has several, such as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// Accepted as `image`, which is all there is
    #[arg(long = "type", value_name = "KIND", hide = true)]
    pub(crate) kind: Option<String>,
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreFlags,
}

/// The flags of `history`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct HistoryFlags {
    /// The image: a name, a digest, or the beginning of one
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Sizes and times for people (the default), or exact with `--human=false`
    #[arg(short = 'H', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(crate) human: bool,
    /// Platform of an image that has several, such as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// How.
    #[command(flatten)]
    pub(crate) format: FormatFlags,
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreFlags,
}
