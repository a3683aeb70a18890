//! The flags of the commands about the build cache.

use clap::{Args, Subcommand};

use super::StoreFlags;

/// The commands of `cache`.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List what the cache holds: kind, size, when it was used last, and what it is
    Ls(StoreFlags),
}

/// The flags of `prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneFlags {
    /// Delete everything that no image's tag reaches
    #[arg(short = 'a', long)]
    pub(crate) all: bool,
    /// Bring the cache to this size [default: the larger of 10 GB and a tenth of the disk]
    #[arg(long, value_name = "SIZE")]
    pub(crate) keep_storage: Option<String>,
    /// until=AGE: delete what was not used for so long, such as 24h
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// Only say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Accepted: nothing is asked
    #[arg(short = 'f', long, hide = true)]
    pub(crate) force: bool,
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreFlags,
}
