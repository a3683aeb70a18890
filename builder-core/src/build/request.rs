//! What a build is asked to do: plain values, one struct for the caller to fill.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::build::elsewhere::FetchedTree;
use crate::build::git::GitOptions;
use crate::cache::shared::{CacheFrom, CacheTarget, CacheTo};
use crate::http::Transport;
use crate::image::layout_source::Wanted;
use crate::layer::Compression;
use crate::layer::archive::ArchiveTree;
use crate::output::Output;
use crate::plan::step::{RunNetwork, RunStep};
use crate::plan::{PlanOptions, epoch};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::{Credentials, RegistryOptions};
use crate::sandbox::choose::{RunIds, RunMode};
use crate::sandbox::spec::Limits;
use crate::source::SourceFile;
use crate::timestamp::Timestamp;

/// A build. Start with [`BuildRequest::new`] and change what differs.
pub struct BuildRequest {
    /// The Dockerfile's text, with the name that messages use.
    pub dockerfile: SourceFile,
    /// What COPY and ADD read.
    pub context: ContextSource,
    /// `--build-context`: by name, as typed.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// `--build-arg`: values by name.
    pub build_args: BTreeMap<String, String>,
    /// `--target`: the stage to build; the last one without it.
    pub target: Option<String>,
    /// `--platform`: what to build for; the platform of this machine without it.
    pub platform: Option<Platform>,
    /// `--label`: applied last, in order.
    pub labels: Vec<(String, String)>,
    /// `--annotation`: annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// `--tag`: the names of the result in the store and in its outputs.
    pub references: Vec<Reference>,
    /// What to write besides the store.
    pub outputs: Vec<Output>,
    /// How new layers are compressed.
    pub compression: Compression,
    /// How many threads compress at once, at least 1. It changes no byte.
    pub threads: usize,
    /// How many stages are built at once, at least 1. It changes no byte.
    pub jobs: usize,
    /// `SOURCE_DATE_EPOCH` as the caller has it: like a build argument of that name, which comes before it.
    pub epoch: Option<Timestamp>,
    /// The time of everything that is made "now".
    pub now: Timestamp,
    /// Whether a `# syntax=` line that names a foreign frontend is passed over instead of refused.
    pub ignore_syntax: bool,
    /// How git is called, for ADD of a repository.
    pub git: GitOptions,
    /// For ADD of a URL; such an ADD is refused without one.
    pub transport: Option<Arc<dyn Transport + Send + Sync>>,
    /// For images in registries, through the transport; without it only those of the store are known.
    pub registry: Option<RegistryAccess>,
    /// `--pull`: when a registry is asked for an image.
    pub pull: PullPolicy,
    /// `--no-cache`: every step is executed.
    pub no_cache: bool,
    /// `--no-cache-filter`: the stages of which every step is executed.
    pub no_cache_filter: Vec<String>,
    /// `--cache-from`: caches of other machines, in the order in which they are asked.
    pub cache_from: Vec<CacheFrom>,
    /// `--cache-to`: where results go for other machines.
    pub cache_to: Vec<CacheTo>,
    /// How RUN is executed.
    pub run: RunOptions,
    /// `--push`: whether the result goes to the registries of its references.
    pub push: bool,
    /// In which form the image is written.
    pub form: ImageForm,
}

/// In which form an image is written; none of it is part of a step's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageForm {
    /// `oci-mediatypes=false`: Docker's media types instead of OCI's, for registries that know no others. Docker's
    /// manifest has no annotations.
    pub docker_types: bool,
    /// `force-compression=true`: layers of the base are compressed as those of this build are.
    pub force_compression: bool,
    /// `push-by-digest=true`: pushed and named by its digest, without a tag.
    pub by_digest: bool,
}

/// How RUN is executed, and what it is given.
#[derive(Clone, Default)]
pub struct RunOptions {
    /// The program that is started as `PROGRAM __sandbox` to execute RUN: one that calls
    /// [`enter_if_asked`](crate::sandbox::enter_if_asked) first in its `main`, such as the caller itself. Without one,
    /// RUN is refused.
    pub sandbox_program: Option<PathBuf>,
    /// `--run-mode`.
    pub mode: RunMode,
    /// `--run-ids`.
    pub ids: RunIds,
    /// `--network`: what RUN without a flag of its own has.
    pub network: RunNetwork,
    /// `--add-host`: names and addresses for `/etc/hosts`.
    pub hosts: Vec<(String, IpAddr)>,
    /// `--shm-size` and `--ulimit`.
    pub limits: Limits,
    /// `--secret`: values by id. They reach no layer, no message and no disk.
    pub secrets: BTreeMap<String, Secret>,
    /// `--ssh`: where keys come from, by id.
    pub ssh: BTreeMap<String, SshSource>,
}

impl RunOptions {
    /// The network that a step has.
    pub(crate) fn network_of(&self, step: &RunStep) -> RunNetwork {
        match step.network {
            RunNetwork::Default => self.network,
            own => own,
        }
    }

    /// The names that `--add-host` gives; where they lead is no part of a key.
    pub(crate) fn host_names(&self) -> Vec<String> {
        self.hosts.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// The value of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunOptions")
            .field("sandbox_program", &self.sandbox_program)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// Where the keys of an ssh mount come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SshSource {
    /// The socket of an agent (`SSH_AUTH_SOCK`).
    Agent(PathBuf),
    /// Files with private keys, without a passphrase.
    Keys(Vec<PathBuf>),
}

/// How registries are reached.
#[derive(Clone)]
pub struct RegistryAccess {
    /// Mirrors, insecure hosts, how many blobs at once.
    pub options: RegistryOptions,
    /// Looks credentials up.
    pub credentials: Arc<FindCredentials>,
}

/// Looks credentials up by the image that is asked for.
pub type FindCredentials = dyn Fn(&Reference) -> Option<Credentials> + Send + Sync;

impl std::fmt::Debug for RegistryAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAccess")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// When a registry is asked for an image that a build starts from or copies from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Where the store doesn't know it.
    #[default]
    Missing,
    /// Always: a tag may have moved.
    Always,
    /// Never.
    Never,
}

impl std::fmt::Debug for BuildRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Build arguments may be secrets: their values are not shown.
        f.debug_struct("BuildRequest")
            .field("dockerfile", &self.dockerfile.name)
            .field("context", &self.context)
            .field("build_args", &self.build_args.keys())
            .field("target", &self.target)
            .field("references", &self.references)
            .finish_non_exhaustive()
    }
}

/// Where the build context is.
#[derive(Debug)]
pub enum ContextSource {
    /// A directory of the host.
    Directory {
        /// Its path.
        path: PathBuf,
        /// Where its ignore file may be; the first that exists holds.
        ignore_files: Vec<PathBuf>,
    },
    /// A tar that was read already. No ignore file is applied to it.
    Archive(Box<ArchiveTree>),
    /// Files that [`fetch`](crate::build::elsewhere::fetch) brought. No ignore file is applied to them.
    Fetched(Box<FetchedTree>),
    /// There is none: the Dockerfile came alone.
    Empty {
        /// When it was last modified, where a server says so: the time of `SOURCE_DATE_EPOCH=context`.
        modified: Option<Timestamp>,
    },
}

impl ContextSource {
    /// The directory of the host, where the context is one.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// What `--build-context NAME=…` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory of the host, less what the `.dockerignore` in it excludes.
    Directory(PathBuf),
    /// An image in an OCI layout: `oci-layout://PATH[:TAG][@DIGEST]`.
    Layout {
        /// The layout's directory or tarball.
        path: PathBuf,
        /// Which image of it.
        wanted: Wanted,
    },
    /// A tar behind a URL, or a git repository; fetched when a step needs it. No ignore file is applied.
    Elsewhere(String),
    /// An image by reference: `docker-image://REFERENCE`.
    Image(Reference),
    /// Nothing at all: `docker-image://scratch`.
    Scratch,
}

impl BuildRequest {
    /// A request with the defaults of `rbuild`: no tags, no outputs, gzip, one thread.
    pub fn new(dockerfile: SourceFile, context: ContextSource, now: Timestamp) -> Self {
        Self {
            dockerfile,
            context,
            named_contexts: BTreeMap::new(),
            build_args: BTreeMap::new(),
            target: None,
            platform: None,
            labels: Vec::new(),
            annotations: BTreeMap::new(),
            references: Vec::new(),
            outputs: Vec::new(),
            compression: Compression::DEFAULT,
            threads: 1,
            jobs: 1,
            epoch: None,
            now,
            ignore_syntax: false,
            git: GitOptions::default(),
            transport: None,
            registry: None,
            pull: PullPolicy::default(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            run: RunOptions::default(),
            push: false,
            form: ImageForm::default(),
        }
    }

    /// Whether the image carries its own cache record.
    pub(crate) fn has_inline_cache(&self) -> bool {
        let mut targets = self.cache_to.iter();
        targets.any(|to| to.target == CacheTarget::Inline)
    }

    /// The part that the plan is made from.
    pub(crate) fn plan_options(&self) -> PlanOptions {
        let mut build_args = self.build_args.clone();
        if let Some(epoch) = self.epoch {
            let given = build_args.entry(epoch::NAME.to_owned());
            given.or_insert_with(|| epoch.seconds.to_string());
        }
        PlanOptions {
            build_args,
            target: self.target.clone(),
            platform: self.platform.clone(),
            build_platform: Platform::host(),
            labels: self.labels.clone(),
            named_contexts: self.named_contexts.keys().cloned().collect(),
            ignore_syntax: self.ignore_syntax,
            epoch: None,
        }
    }
}
