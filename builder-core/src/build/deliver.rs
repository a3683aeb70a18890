//! The end of a build: manifest and config, outputs, registries, names, in this order.

use crate::build::Built;
use crate::build::request::BuildRequest;
use crate::build::stage::Shared;
use crate::cache::shared::inline;
use crate::digest::ImageId;
use crate::error::Result;
use crate::event::Event;
use crate::image::{Committed, Image};
use crate::output::{self, Bundle, Output};
use crate::plan::Plan;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::Registry;
use crate::store::BlobSource as _;

/// Writes the outputs, sends the image to its registries, and gives it its names, in this order.
pub(super) fn deliver(
    shared: &Shared<'_>,
    committed: &Committed,
    outputs: Vec<Output>,
    request: &BuildRequest,
    registry: Option<&Registry<'_>>,
) -> Result<()> {
    let store = shared.store;
    let bundle = Bundle {
        image: committed,
        references: &request.references,
        time: shared.now,
        epoch: shared.options.epoch,
    };
    if let (Some(registry), false) = (registry, outputs.is_empty()) {
        let layers = committed.layers.iter().map(|layer| &layer.descriptor);
        registry.fetch(store, &store.missing(layers)?)?;
    }
    for mut output in outputs {
        output::write(store, &bundle, &mut output, shared.events, shared.interrupt)?;
    }
    if let (Some(registry), true) = (registry, request.push) {
        registry.push(store, &committed.manifest, &request.references)?;
    }
    tag(shared, committed, &request.references)
}

/// Writes manifest and config into the store.
pub(super) fn commit(
    shared: &Shared<'_>,
    mut image: Image,
    request: &BuildRequest,
) -> Result<Committed> {
    image.config.created = Some(shared.now.to_rfc3339());
    // A base's record tells of another image's steps.
    inline::remove(&mut image.config);
    if request.has_inline_cache() {
        inline::write(&mut image.config, &shared.caching.records());
    }
    let committed = image.commit(shared.store, request.annotations.clone())?;
    Ok(committed)
}

/// Gives the image its names, when everything else is done.
fn tag(shared: &Shared<'_>, committed: &Committed, references: &[Reference]) -> Result<()> {
    for reference in references {
        let tag = reference.tag().unwrap_or("latest");
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
