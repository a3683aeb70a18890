//! Where the members of an archive go when a directory that the archive only implies is a link in the stage.
//!
//! An archive with `lib/y` and no entry for `lib` adds to whatever `lib` is, as tar does: where the stage has the link
//! `lib -> usr/lib`, the file becomes `usr/lib/y`. A directory that the archive names replaces the link.

use std::sync::Arc;

use crate::build::arrival::{Arrival, How, Origin};
use crate::build::target::Target;
use crate::error::Result;
use crate::image_path::ImagePath;
use crate::layer::archive::ArchiveTree;
use crate::tree::filter::{Filtered, Keep};
use crate::tree::pattern::PatternList;
use crate::tree::resolve::{Resolved, resolve};
use crate::tree::{Node, Tree};

/// Splits off the parts of archives that go elsewhere.
pub(crate) fn redirect<'a>(
    arrivals: Vec<Arrival<'a>>,
    target: &Target,
    base: Option<&dyn Tree>,
) -> Result<Vec<Arrival<'a>>> {
    let Some(base) = base else {
        return Ok(arrivals);
    };
    let mut settled = Vec::new();
    for arrival in arrivals {
        match arrival.how {
            How::Unpacked(archive, None) => {
                let place = target.directory()?;
                let origin = arrival.origin;
                split(
                    &archive,
                    origin,
                    &archive.root(),
                    &place,
                    base,
                    &mut settled,
                )?;
            }
            _ => settled.push(arrival),
        }
    }
    Ok(settled)
}

/// Puts what is below `node` at `place`, and each part that a link leads elsewhere at its own place.
fn split(
    archive: &Arc<ArchiveTree>,
    origin: Origin,
    node: &Node,
    place: &ImagePath,
    base: &dyn Tree,
    settled: &mut Vec<Arrival<'_>>,
) -> Result<()> {
    let mut led = Vec::new();
    find_links(archive, &node.entry.path, place, base, &mut led)?;
    let hidden: Vec<ImagePath> = led
        .iter()
        .map(|(node, _)| node.entry.path.clone())
        .collect();
    let tree = Filtered::new(
        Arc::clone(archive),
        ImagePath::root(),
        Arc::new(PatternList::from_literals(&hidden)),
        Keep::Unmatched,
        "a link",
    );
    settled.push(Arrival {
        tree: Box::new(tree),
        node: node.clone(),
        how: How::Unpacked(Arc::clone(archive), Some(place.clone())),
        origin,
    });
    for (node, place) in led {
        split(archive, origin, &node, &place, base, settled)?;
    }
    Ok(())
}

/// The implied directories below `directory` that are links in the base, with where they lead.
fn find_links(
    archive: &ArchiveTree,
    directory: &ImagePath,
    place: &ImagePath,
    base: &dyn Tree,
    led: &mut Vec<(Node, ImagePath)>,
) -> Result<()> {
    for child in archive.list(directory)? {
        let child = child?;
        if !child.implied {
            continue;
        }
        let here = place.child(child.entry.path.file_name().unwrap_or_default());
        match base.look_up(&here)? {
            Some(found) if found.entry.is_symlink() => {
                if let Resolved::Found(found) = resolve(base, &here, true)?
                    && found.entry.is_directory()
                {
                    led.push((child, found.entry.path));
                }
            }
            Some(found) if found.entry.is_directory() => {
                find_links(archive, &child.entry.path, &here, base, led)?;
            }
            _ => {}
        }
    }
    Ok(())
}
