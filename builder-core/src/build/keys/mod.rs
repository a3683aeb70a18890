//! The keys of steps: what each one's layer depends on, part by part.
//!
//! Follows `docs/cache.md`, "Keys". The layers below count by what they are, never by how they came about; files count
//! by their bytes and modes, never by their times.
//!
//! A key is made of the values that the step is executed from, each taken apart field by field: a field that is added
//! there doesn't compile here until someone has said what it means to the key.

mod files;
mod run;
#[cfg(test)]
mod tests;
mod tokens;

pub(crate) use files::Reader;
pub(crate) use run::{Given, bound, bound_name, run};
pub(crate) use tokens::quoted;

use crate::build::caching::Asked;
use crate::build::copy::Landing;
use crate::build::finder::Source;
use crate::cache::Key;
use crate::digest::Hasher;
use crate::image::Layer;
use crate::plan::step::{CopySource, CopyStep, WorkdirStep};
use crate::platform::Platform;

/// What all keys of a stage have.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The keyword of the instruction.
    keyword: &'static str,
    /// The platform of the stage.
    platform: &'a Platform,
    /// The layers below.
    layers: &'a [Layer],
    /// How many of them are the base's.
    base: usize,
}

impl<'a> Place<'a> {
    /// The place of a step on top of `layers`, of which the first `base` are those that its stage starts from.
    pub(crate) fn new(asked: &Asked<'a>, layers: &'a [Layer], base: usize) -> Self {
        Self {
            keyword: asked.keyword,
            platform: &asked.stage.platform,
            layers,
            base,
        }
    }

    /// A key of a step that no layer below can change.
    fn alone(&self) -> Key {
        let mut key = Key::default();
        key.set("instruction", self.keyword);
        key.set("platform", self.platform.to_string());
        key
    }

    /// A key with the layers below, those of the base apart from those of this stage.
    fn below(&self) -> Key {
        let chain = |layers: &[Layer]| {
            let mut hasher = Hasher::new();
            for layer in layers {
                hasher.update(layer.identity.0.as_bytes());
            }
            hasher.finish().to_string()
        };
        let (base, steps) = self.layers.split_at(self.base.min(self.layers.len()));
        let mut key = self.alone();
        key.set("base", chain(base));
        key.set("steps", chain(steps));
        key
    }
}

/// FROM a directory, without its files.
pub(crate) fn directory(place: &Place<'_>) -> Key {
    place.alone()
}

/// WORKDIR.
pub(crate) fn workdir(place: &Place<'_>, step: &WorkdirStep) -> Key {
    let WorkdirStep { path, user } = step;
    let mut key = place.below();
    key.set("path", path.clone());
    key.set("user", user.clone());
    key
}

/// COPY and ADD, without the files.
pub(crate) fn copy(place: &Place<'_>, landing: &Landing<'_>) -> Key {
    let Landing {
        destination,
        chown,
        chmod,
        link,
        parents,
    } = landing;
    let mut key = if landing.asks_the_base() {
        place.below()
    } else {
        place.alone()
    };
    key.set("destination", tokens::destination(destination));
    if let Some(chown) = chown {
        key.set("--chown", tokens::chown(&chown.value));
    }
    if let Some(chmod) = chmod {
        key.set("--chmod", tokens::chmod(chmod));
    }
    for (name, value) in [("--link", *link), ("--parents", *parents)] {
        if value {
            key.set(name, "true");
        }
    }
    key
}

/// The key of a selection of files from layers, whose content is then known for ever; none for other sources. It is
/// made of all that [`collect`](crate::build::arrival::collect) looks at.
pub(crate) fn selection(source: &Source<'_>, step: &CopyStep) -> Option<Key> {
    let CopyStep {
        // ADD knows no layers as a source.
        add: false,
        unpack: _,
        // What `from` names is `source`.
        from: _,
        sources,
        exclude,
        parents,
        // Where the files go, and how, is the step's own key.
        destination: _,
        chown: _,
        chmod: _,
        link: _,
        // Of what is elsewhere, of which there is none here.
        checksum: _,
        keep_git_dir: _,
    } = step
    else {
        return None;
    };
    let mut key = of_layers(source)?;
    let words = sources.iter().map(|source| match source {
        CopySource::Path(path) => Some(quoted(&path.value)),
        CopySource::Heredoc { .. } | CopySource::Url(_) | CopySource::Git(_) => None,
    });
    let words: Option<Vec<String>> = words.collect();
    key.set("sources", words?.join(" "));
    let exclude: Vec<String> = exclude.iter().map(|one| quoted(&one.value)).collect();
    key.set("exclude", exclude.join(" "));
    key.set("parents", parents.to_string());
    Some(key)
}

/// The same for the source of a mount.
pub(crate) fn mounted(source: &Source<'_>, path: &str) -> Option<Key> {
    let mut key = of_layers(source)?;
    key.set("mounted", path);
    Some(key)
}

fn of_layers(source: &Source<'_>) -> Option<Key> {
    let Source::View(_, layers) = source else {
        return None;
    };
    let mut key = Key::default();
    let chain: Vec<String> = layers
        .iter()
        .map(|layer| layer.identity.to_string())
        .collect();
    key.set("layers", chain.join(" "));
    Some(key)
}
