//! The flags of the commands that bring images into the store and out of it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Progress, RegistryFlags, StoreFlags};

/// How layers that the store lacks are fetched, and how it is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct MovingFlags {
    /// How to tell what happens
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    pub(crate) progress: Progress,
    /// Print nothing but the result
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    /// Registries.
    #[command(flatten)]
    pub(crate) registry: RegistryFlags,
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreFlags,
}

/// The forms of a saved image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveFormat {
    /// An OCI layout as a tar, which `docker load` reads too
    #[value(alias = "oci-archive")]
    Oci,
    /// An OCI layout as a directory
    OciDir,
    /// The archive of `docker save` alone
    #[value(alias = "docker-archive")]
    Docker,
}

/// The flags of `save`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct SaveFlags {
    /// Images: names, digests, or beginnings of one
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Where to; `-` is standard output [default: standard output]
    #[arg(short = 'o', long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// In which form
    #[arg(long, value_enum, default_value = "oci", value_name = "FORM")]
    pub(crate) format: SaveFormat,
    /// One platform of an image that has several, such as linux/arm64 [default: all that the store has]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// Accepted: several images need no flag
    #[arg(short = 'm', long, hide = true)]
    pub(crate) multi_image_archive: bool,
    /// Accepted as `false`: layers go as they are
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(crate) compress: Option<String>,
    /// How.
    #[command(flatten)]
    pub(crate) moving: MovingFlags,
}

/// The flags of `load`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct LoadFlags {
    /// An archive, plain or compressed, or the directory of an OCI layout; `-` is standard input
    #[arg(value_name = "PATH", conflicts_with = "input")]
    pub(crate) path: Option<PathBuf>,
    /// The same [default: standard input]
    #[arg(short = 'i', long, value_name = "PATH")]
    pub(crate) input: Option<PathBuf>,
    /// One platform of images that have several, such as linux/arm64 [default: all that are there]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// Print nothing
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreFlags,
}

/// The flags of `export`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct ExportFlags {
    /// The image: a name, a digest, or the beginning of one
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Where to: a file for a tar, a directory that is there or a path that ends with `/` for files; `-` is standard
    /// output [default: standard output]
    #[arg(short = 'o', long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Platform of an image that has several, such as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// How.
    #[command(flatten)]
    pub(crate) moving: MovingFlags,
}

/// The flags of `copy`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct CopyFlags {
    /// Where from: a name in the store, docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME]
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// Where to: as SOURCE
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: String,
    /// One platform of an image that has several, such as linux/arm64 [default: all]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// Accepted: an image goes with all its platforms
    #[arg(short = 'a', long, hide = true)]
    pub(crate) all: bool,
    /// Write the digest to a file
    #[arg(long = "digestfile", value_name = "PATH")]
    pub(crate) digest_file: Option<PathBuf>,
    /// How.
    #[command(flatten)]
    pub(crate) moving: MovingFlags,
}

/// The flags of `commit`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct CommitFlags {
    /// Directory, or tar (plain or compressed; `-` is standard input), whose files become a layer
    #[arg(value_name = "DIR|TAR")]
    pub(crate) source: PathBuf,
    /// Name of the image, `[REGISTRY/]REPOSITORY[:TAG]`
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Image that the layer lies on [default: none]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) from: Option<String>,
    /// Instruction that changes the config: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL,
    /// USER, VOLUME or WORKDIR (repeatable)
    #[arg(short = 'c', long = "change", value_name = "INSTRUCTION")]
    pub(crate) changes: Vec<String>,
    /// Who made it
    #[arg(short = 'a', long, default_value = "", value_name = "AUTHOR")]
    pub(crate) author: String,
    /// What is said of it in the history
    #[arg(short = 'm', long, default_value = "", value_name = "MESSAGE")]
    pub(crate) message: String,
    /// Platform of the image, or of the one that it lies on, such as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// Compression of the layer: gzip[:0-9], zstd[:1-19] or none
    #[arg(long, value_name = "KIND[:LEVEL]")]
    pub(crate) compression: Option<String>,
    /// No time in the image is later; seconds since 1970 [default: $SOURCE_DATE_EPOCH]
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub(crate) source_date_epoch: Option<i64>,
    /// How.
    #[command(flatten)]
    pub(crate) moving: MovingFlags,
}
