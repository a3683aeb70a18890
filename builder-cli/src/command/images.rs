//! `rbuild images`: what the store holds.

use builder_core::Result;
use builder_core::catalog::{self, Summary};
use builder_core::reference::Reference;
use serde_json::{Value, json};

use super::image_filter::Filter;
use super::{open_store, print};
use crate::environment::Environment;
use crate::flags::images::ImagesFlags;
use crate::render::table::{ago, at, rows, size, titles};

const NONE: &str = "<none>";

/// Prints a line for each name, the newest image first.
pub(crate) fn run(flags: &ImagesFlags, environment: &Environment) -> Result<()> {
    let store = open_store(&flags.store, environment)?;
    let filter = Filter::read(&flags.filters, flags.name.as_deref(), &store)?;
    let mut images = catalog::list(
        &store,
        flags.all || filter.wants_unnamed(),
        environment.processors,
    )?;
    images.retain(|image| filter.fits(image));
    images.sort_by(|one, other| {
        let newest_first = other.created.cmp(&one.created);
        newest_first.then_with(|| one.name.cmp(&other.name))
    });
    let format = flags.format.format.as_deref();
    if flags.format.quiet && format.is_none() {
        let mut lines: Vec<String> = images
            .iter()
            .map(|image| format!("{}\n", id(image, flags.format.no_trunc)))
            .collect();
        // One image of several names is one image.
        lines.dedup();
        return print(&lines.concat());
    }
    let data: Vec<Value> = images
        .iter()
        .map(|image| row(image, flags.format.no_trunc, environment))
        .collect();
    let titles = titles(&[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("VirtualSize", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ]);
    let default = if flags.digests {
        "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    } else {
        "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    };
    print(&rows(format, default, &titles, &data)?)
}

fn id(image: &Summary, whole: bool) -> String {
    let digest = image.descriptor.digest;
    if whole {
        digest.to_string()
    } else {
        digest.short()
    }
}

/// The fields of Docker's; what only a daemon knows is what Docker says where it doesn't know it either.
fn row(image: &Summary, whole: bool, environment: &Environment) -> Value {
    let (repository, tag) = image
        .name
        .as_deref()
        .map_or_else(|| (NONE.to_owned(), NONE.to_owned()), repository_and_tag);
    let bytes = image.size.map_or_else(|| "N/A".to_owned(), size);
    json!({
        "Repository": repository,
        "Tag": tag,
        "Digest": image.descriptor.digest.to_string(),
        "ID": id(image, whole),
        "CreatedSince": ago(image.created, environment.now),
        "CreatedAt": at(image.created),
        "Size": bytes,
        "VirtualSize": bytes,
        "Containers": "N/A",
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
    })
}

/// A name of the store in two: `app` and `1.0`. A name with a digest alone has no tag.
pub(super) fn repository_and_tag(name: &str) -> (String, String) {
    let Ok(reference) = name.parse::<Reference>() else {
        return (name.to_owned(), NONE.to_owned());
    };
    let tag = reference.tag().unwrap_or(NONE).to_owned();
    let familiar = reference.familiar();
    let bare = familiar.split('@').next().unwrap_or(&familiar);
    let bare = match reference.tag() {
        Some(tag) => bare.strip_suffix(&format!(":{tag}")).unwrap_or(bare),
        None => bare,
    };
    (bare.to_owned(), tag)
}
