//! The flags of the commands about the store.

use clap::{Args, Subcommand};

use super::StoreFlags;

/// The commands of `store`.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Read everything in the store, and say what is not as it was written
    Fsck(FsckFlags),
}

/// The flags of `store fsck`.
#[derive(Debug, Args)]
pub(crate) struct FsckFlags {
    /// Take away what is wrong: it is made or fetched again when it is needed
    #[arg(long)]
    pub(crate) repair: bool,
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreFlags,
}
