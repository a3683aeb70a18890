//! The images that a build starts from or copies from, by reference, from a layout, or from a directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::build::elsewhere::{self, Fetched, FetchedTree};
use crate::build::remote::Remote;
use crate::build::request::{NamedContext, PullPolicy};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::http::for_message;
use crate::image::base::{self, Base};
use crate::image::layout_source;
use crate::interrupt::Interrupt;
use crate::oci::{Descriptor, MediaType};
use crate::plan::step::StageBase;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::{Pull, Registry};
use crate::store::Store;

/// Finds images and keeps what it found.
#[derive(Debug)]
pub(crate) struct Images<'a> {
    store: &'a Store,
    named: &'a BTreeMap<String, NamedContext>,
    registry: Option<&'a Registry<'a>>,
    policy: PullPolicy,
    remote: Option<Remote<'a>>,
    found: BTreeMap<(String, Platform), Base>,
    fetched: BTreeMap<String, Arc<FetchedTree>>,
}

/// What a stage starts from.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// Nothing, or an earlier stage.
    Nothing,
    /// An image.
    Image(Box<Base>),
    /// A directory of the host, whose files become one layer.
    Directory(PathBuf),
    /// Files from elsewhere, which become one layer.
    Fetched(Arc<FetchedTree>),
}

impl<'a> Images<'a> {
    /// Looks in the store and in the named contexts.
    pub(crate) fn new(store: &'a Store, named: &'a BTreeMap<String, NamedContext>) -> Self {
        Self {
            store,
            named,
            registry: None,
            policy: PullPolicy::Never,
            remote: None,
            found: BTreeMap::new(),
            fetched: BTreeMap::new(),
        }
    }

    /// Asks registries too.
    pub(crate) fn with_registry(
        mut self,
        registry: Option<&'a Registry<'a>>,
        policy: PullPolicy,
    ) -> Self {
        self.registry = registry;
        self.policy = policy;
        self
    }

    /// Fetches named contexts that are elsewhere.
    pub(crate) fn with_remote(mut self, remote: Remote<'a>) -> Self {
        self.remote = Some(remote);
        self
    }

    /// The means to reach what is elsewhere, where there are any.
    pub(crate) fn remote(&self) -> Option<&Remote<'a>> {
        self.remote.as_ref()
    }

    /// What a FROM line starts from.
    pub(crate) fn base(&mut self, base: &StageBase, platform: &Platform) -> Result<Found> {
        match base {
            StageBase::Scratch | StageBase::Stage(_) => Ok(Found::Nothing),
            StageBase::Image {
                reference,
                platform,
            } => self
                .image(&reference.value, platform)
                .map(|base| Found::Image(Box::new(base))),
            StageBase::Named(name) => self.named(name, platform),
        }
    }

    /// What a named context is.
    pub(crate) fn named(&mut self, name: &str, platform: &Platform) -> Result<Found> {
        match self.named.get(name) {
            Some(NamedContext::Directory(path)) => Ok(Found::Directory(path.clone())),
            Some(NamedContext::Scratch) => Ok(Found::Nothing),
            Some(NamedContext::Elsewhere(url)) => self.fetched(name, url),
            Some(NamedContext::Image(reference)) => self
                .image(&reference.to_string(), platform)
                .map(|base| Found::Image(Box::new(base))),
            Some(NamedContext::Layout { path, wanted }) => {
                let key = (format!("{name}="), platform.clone());
                if let Some(base) = self.found.get(&key) {
                    return Ok(Found::Image(Box::new(base.clone())));
                }
                let never = Interrupt::default();
                let remote = self.remote.as_ref();
                let interrupt = remote.map_or(&never, |remote| remote.interrupt);
                let manifest =
                    layout_source::import(self.store, path, wanted, platform, interrupt)?;
                let base =
                    base::load(self.store, &path.display().to_string(), &manifest, platform)?;
                self.found.insert(key, base.clone());
                Ok(Found::Image(Box::new(base)))
            }
            None => Err(Error::new(
                ErrorKind::Internal,
                format!("the named context `{name}` is not known"),
            )),
        }
    }

    fn fetched(&mut self, name: &str, url: &str) -> Result<Found> {
        if let Some(tree) = self.fetched.get(name) {
            return Ok(Found::Fetched(Arc::clone(tree)));
        }
        let Some(remote) = &self.remote else {
            return Ok(Found::Nothing);
        };
        let Fetched::Files(tree) = elsewhere::fetch(remote, url, None)? else {
            let shown = for_message(url);
            let message = format!("the context `{name}`, `{shown}`, is no tar");
            return Err(Error::new(ErrorKind::Context, message)
                .with_help("a single file from elsewhere is for ADD"));
        };
        let tree: Arc<FetchedTree> = Arc::from(tree);
        self.fetched.insert(name.to_owned(), Arc::clone(&tree));
        Ok(Found::Fetched(tree))
    }

    /// An image of the store, by reference.
    pub(crate) fn image(&mut self, text: &str, platform: &Platform) -> Result<Base> {
        let reference = Reference::from_str(text).map_err(|error| {
            Error::new(ErrorKind::BaseImage, error.to_string())
                .with_help("write `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`")
        })?;
        let key = (reference.to_string(), platform.clone());
        if let Some(base) = self.found.get(&key) {
            return Ok(base.clone());
        }
        let base = self.find(&reference, platform)?.ok_or_else(|| {
            let name = reference.familiar();
            let error = Error::new(
                ErrorKind::BaseImage,
                format!("image `{name}` is not in the store"),
            )
            .with_note(format!("the store is `{}`", self.store.root().display()));
            if self.registry.is_some() {
                return error.with_help("leave `--pull=never` out to fetch it from its registry");
            }
            error.with_help(format!(
                "build it with `rbuild -t {name}`, or give it with `--build-context {text}=oci-layout://PATH`"
            ))
        })?;
        self.found.insert(key, base.clone());
        Ok(base)
    }

    /// Looks in the store and, as the policy says, in the image's registry. Layers stay where they are.
    fn find(&self, reference: &Reference, platform: &Platform) -> Result<Option<Base>> {
        let name = reference.familiar();
        let load = |descriptor: &Descriptor| base::load(self.store, &name, descriptor, platform);
        let known = self.descriptor(reference)?;
        let registry = match (self.registry, self.policy) {
            (None, _) | (_, PullPolicy::Never) => {
                return known.as_ref().map(load).transpose();
            }
            (Some(registry), _) => registry,
        };
        let current = match (&known, self.policy) {
            (None, _) => None,
            (Some(known), PullPolicy::Always) => {
                let found = registry.resolve(reference)?;
                (found.digest == known.digest).then_some(known)
            }
            (Some(known), _) => Some(known),
        };
        let loaded = current.map(load);
        let damage = match loaded {
            Some(Err(error)) if error.kind() == ErrorKind::Store => Some(error),
            Some(loaded) => return loaded.map(Some),
            None => None,
        };
        // What is missing or damaged here may be whole there; if not, the damage is what to tell.
        match registry.pull(self.store, reference, platform, Pull::Documents) {
            Ok(pulled) => load(&pulled).map(Some),
            Err(error) => Err(damage.unwrap_or_else(|| not_here(error, reference))),
        }
    }

    /// The manifest or index of a reference. A digest decides where there is one.
    fn descriptor(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let Some(digest) = reference.digest() else {
            return Ok(self.store.resolve(&reference.to_string())?);
        };
        let Some(size) = self.store.blob_size(&digest)? else {
            return Ok(None);
        };
        let unknown = Descriptor::new(MediaType::Manifest, digest, size);
        let bytes = self
            .store
            .read_document(&unknown, base::MAX_DOCUMENT_BYTES)?;
        let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let media_type = match document.get("manifests") {
            Some(_) => MediaType::Index,
            None => MediaType::Manifest,
        };
        Ok(Some(Descriptor::new(media_type, digest, size)))
    }
}

/// The error of a registry, with the ways to do without it.
fn not_here(error: Error, reference: &Reference) -> Error {
    let name = reference.familiar();
    let way = format!("`--build-context {name}=oci-layout://PATH` gives it from a layout");
    error
        .with_note(format!(
            "`{name}` is not in the store, so its registry was asked"
        ))
        .with_note(way)
}

/// Opens a directory that is named by `--build-context`; its own `.dockerignore` holds.
pub(crate) fn open_named(name: &str, path: &Path) -> Result<Context> {
    Context::open(
        path,
        &[path.join(".dockerignore")],
        &[],
        &format!("the context `{name}`"),
    )
}
