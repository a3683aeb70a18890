//! Where COPY and the mounts of RUN look their files up: the context, a stage, a named context, an image.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::build::elsewhere::FetchedTree;
use crate::build::images::{Found, Images, open_named};
use crate::build::run::Sources;
use crate::build::stage::{self, Shared};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::image::view::View;
use crate::image::{Image, Layer};
use crate::plan::PlannedStage;
use crate::plan::step::CopyFrom;
use crate::tree::Tree;
use crate::tree::files::Files;

/// Finds sources for the steps of one stage.
pub(crate) struct Finder<'f, 'a, 'i> {
    /// The build.
    pub(crate) shared: &'f Shared<'a>,
    /// The stage.
    pub(crate) stage: &'f PlannedStage,
    /// Images, looked up one after the other.
    pub(crate) images: &'f Mutex<Images<'i>>,
    /// The results of earlier stages.
    pub(crate) done: &'f BTreeMap<usize, Image>,
}

/// A tree of files to copy from or to mount.
pub(crate) enum Source<'a> {
    /// One that the whole build shares: its context.
    Shared(&'a dyn Tree),
    /// A directory of the host, and its path.
    Context(Box<Context>, PathBuf),
    /// Files from elsewhere.
    Fetched(Arc<FetchedTree>),
    /// Layers.
    View(Box<View<'a>>, Vec<Layer>),
    /// Nothing at all.
    Nothing(Files),
}

impl<'a> Finder<'_, 'a, '_> {
    /// Finds one; none where it is a stage that would have to be built first, and nobody asked for that.
    ///
    /// # Errors
    /// Those of a context or an image that can't be had.
    pub(crate) fn find_known(&self, from: &CopyFrom) -> Result<Option<Source<'a>>> {
        match from {
            CopyFrom::Stage(index) if self.shared.only_asks && !self.done.contains_key(index) => {
                Ok(None)
            }
            _ => self.find(from).map(Some),
        }
    }

    /// Finds one.
    ///
    /// # Errors
    /// Those of a context or an image that can't be had.
    pub(crate) fn find(&self, from: &CopyFrom) -> Result<Source<'a>> {
        let view = |layers: &[Layer], name: String| {
            let view = View::new(self.shared.store, layers, name);
            let view = view
                .with_source(self.shared.source)
                .with_replacements(Some(self.shared.replacements));
            Source::View(Box::new(view), layers.to_vec())
        };
        let images = || self.images.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match from {
            CopyFrom::Context => self
                .shared
                .context
                .map_or_else(|| Source::Nothing(Files::default()), Source::Shared),
            CopyFrom::Stage(index) => {
                let found = self.done.get(index).ok_or_else(|| {
                    let message = format!("stage {index} is copied from before it is built");
                    Error::new(ErrorKind::Internal, message)
                })?;
                let mut stages = self.shared.plan.stages.iter();
                let stage = stages.find(|stage| stage.index == *index);
                let name = stage.map_or_else(|| format!("stage {index}"), stage::describe);
                view(&found.layers, name)
            }
            CopyFrom::Named(context) => match images().named(context, &self.stage.platform)? {
                Found::Directory(path) => {
                    Source::Context(Box::new(open_named(context, &path)?), path)
                }
                Found::Image(base) => view(&base.image.layers, format!("the image `{context}`")),
                Found::Fetched(tree) => Source::Fetched(tree),
                Found::Nothing => Source::Nothing(Files::default()),
            },
            CopyFrom::Image(reference) => {
                let base = images()
                    .image(&reference.value, &self.stage.platform)
                    .map_err(|error| error.at(self.shared.file, reference.span))?;
                view(
                    &base.image.layers,
                    format!("the image `{}`", reference.value),
                )
            }
        })
    }
}

impl<'a> Sources<'a> for Finder<'_, 'a, '_> {
    fn source(&self, from: &CopyFrom) -> Result<Source<'a>> {
        self.find(from)
    }
}

impl Source<'_> {
    /// The files.
    pub(crate) fn tree(&self) -> &dyn Tree {
        match self {
            Self::Shared(context) => *context,
            Self::Context(context, _) => &**context,
            Self::Fetched(tree) => &**tree,
            Self::View(view, _) => &**view,
            Self::Nothing(files) => files,
        }
    }
}
