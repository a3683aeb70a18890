//! The end of a build: manifest and config, outputs, registries, names, in this order.

use crate::build::Built;
use crate::build::request::BuildRequest;
use crate::build::stage::{Shared, warn_of_replaced};
use crate::cache::Key;
use crate::cache::shared::inline;
use crate::digest::{Digest, ImageId};
use crate::error::Result;
use crate::event::Event;
use crate::image::{Committed, Image};
use crate::layer::recompress;
use crate::oci::config::ImageConfig;
use crate::output::{self, Bundle, Output};
use crate::plan::Plan;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::Registry;
use crate::store::BlobSource as _;
use crate::timestamp::Timestamp;

/// Writes the outputs, sends the image to its registries, and gives it its names, in this order.
pub(super) fn deliver(
    shared: &Shared<'_>,
    (committed, time): (&Committed, Timestamp),
    outputs: Vec<Output>,
    request: &BuildRequest,
    registry: Option<&Registry<'_>>,
) -> Result<()> {
    let store = shared.store;
    let bundle = Bundle {
        image: committed,
        references: &request.references,
        time,
        epoch: shared.options.epoch,
        replacements: shared.replacements,
    };
    if let (Some(registry), false) = (registry, outputs.is_empty()) {
        let layers = committed.layers.iter().map(|layer| &layer.descriptor);
        registry.fetch(store, &store.missing(layers)?)?;
    }
    for mut output in outputs {
        output::write(store, &bundle, &mut output, shared.events, shared.interrupt)?;
    }
    let mut stages = shared.plan.stages.iter();
    if let Some(target) = stages.find(|stage| stage.index == shared.plan.target) {
        warn_of_replaced(shared, target.span);
    }
    let references = names(committed, request);
    if let (Some(registry), true) = (registry, request.push) {
        registry.push(store, &committed.manifest, &references)?;
    }
    tag(shared, committed, &references)
}

/// The names of the result: those of the request, or the repositories of those with its digest.
pub(super) fn names(committed: &Committed, request: &BuildRequest) -> Vec<Reference> {
    if !request.form.by_digest {
        return request.references.clone();
    }
    let digest = committed.digest();
    let mut names: Vec<Reference> = Vec::new();
    for one in &request.references {
        let name = format!("{}/{}@{digest}", one.registry(), one.repository());
        names.extend(name.parse().ok().filter(|name| !names.contains(name)));
    }
    names
}

/// Writes manifest and config into the store; gives them with the time at which the image was made.
pub(super) fn commit(
    shared: &Shared<'_>,
    mut image: Image,
    request: &BuildRequest,
    registry: Option<&Registry<'_>>,
) -> Result<(Committed, Timestamp)> {
    if request.form.force_compression {
        compress_all(shared, &mut image, registry)?;
    }
    // A base's record tells of another image's steps.
    inline::remove(&mut image.config);
    let time = made_at(shared, &mut image, request)?;
    if request.has_inline_cache() {
        inline::write(&mut image.config, &shared.caching.records());
    }
    let committed = image.commit(
        shared.store,
        request.annotations.clone(),
        request.form.docker_types,
    )?;
    Ok((committed, time))
}

/// Compresses the layers that came from elsewhere as this build compresses its own.
fn compress_all(
    shared: &Shared<'_>,
    image: &mut Image,
    registry: Option<&Registry<'_>>,
) -> Result<()> {
    let (store, wanted) = (shared.store, shared.options.compression);
    let own = wanted.media_type();
    for layer in &mut image.layers {
        shared.interrupt.check()?;
        if layer.descriptor.media_type.to_oci() == own {
            continue;
        }
        if let Some(registry) = registry {
            registry.fetch(store, &store.missing([&layer.descriptor])?)?;
        }
        layer.descriptor = recompress(store, &layer.descriptor, wanted)?;
    }
    Ok(())
}

/// Says in the config when the image was made: now, or, where the same one was made before, then. So a build without a
/// change gives the digest that it gave.
fn made_at(shared: &Shared<'_>, image: &mut Image, request: &BuildRequest) -> Result<Timestamp> {
    let now = shared.now.to_rfc3339();
    if shared.options.epoch.is_some() {
        image.config.created = Some(now);
        return Ok(shared.now);
    }
    let is_now = |created: &Option<String>| created.as_ref() == Some(&now);
    let ours: Vec<usize> = (0..image.config.history.len())
        .filter(|number| is_now(&image.config.history[*number].created))
        .collect();
    say(&mut image.config, &ours, None);
    let mut key = Key::default();
    key.set("image", Digest::of(&image.config.to_bytes()?).to_string());
    let layers = image
        .layers
        .iter()
        .map(|layer| layer.descriptor.digest.hex());
    key.set("layers", layers.collect::<Vec<_>>().join(" "));
    for (name, value) in &request.annotations {
        key.set(format!("annotation {name}"), value.clone());
    }
    let made = shared.caching.made_at(&key, shared.now)?;
    say(&mut image.config, &ours, Some(&made.to_rfc3339()));
    Ok(made)
}

/// Puts a time into the config, and into the entries of its history that this build made.
fn say(config: &mut ImageConfig, ours: &[usize], time: Option<&str>) {
    config.created = time.map(str::to_owned);
    for number in ours {
        config.history[*number].created = time.map(str::to_owned);
    }
}

/// Gives the image its names, when everything else is done.
fn tag(shared: &Shared<'_>, committed: &Committed, references: &[Reference]) -> Result<()> {
    for reference in references {
        let digest = reference.digest().map(|digest| digest.to_string());
        let tag = reference.tag().or(digest.as_deref()).unwrap_or("latest");
        shared
            .store
            .tag(&reference.to_string(), tag, &committed.manifest)?;
    }
    let references = references.iter().map(Reference::familiar).collect();
    let digest = committed.digest();
    shared
        .events
        .send(Event::ImageWritten { references, digest });
    Ok(())
}

/// What is told of the result.
pub(super) fn built(committed: &Committed, references: Vec<Reference>, plan: &Plan) -> Built {
    let target = plan.stages.iter().find(|stage| stage.index == plan.target);
    Built {
        digest: committed.digest(),
        image_id: ImageId(committed.config.digest),
        references,
        platform: target.map_or_else(Platform::host, |stage| stage.platform.clone()),
        layer_bytes: committed
            .layers
            .iter()
            .map(|layer| layer.descriptor.size)
            .sum(),
    }
}
