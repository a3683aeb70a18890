//! `rbuild rmi`: names taken away, and what nothing else needs then.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use builder_core::catalog::{self, Found, Removed};
use builder_core::store::Store;
use builder_core::{Error, ErrorKind, Result};

use super::{note, open_store, print};
use crate::environment::Environment;
use crate::flags::images::RmiFlags;
use crate::render::table::size;

/// Removes the images. All are looked up before the first goes: a mistyped name removes none.
pub(crate) fn run(flags: &RmiFlags, environment: &Environment) -> Result<()> {
    let store = open_store(&flags.store, environment)?;
    let found = if flags.all {
        everything(&store)?
    } else {
        let mut found = Vec::new();
        for name in &flags.images {
            match catalog::find(&store, name) {
                Err(error) if flags.force && error.kind() == ErrorKind::Usage => {
                    note(&format!("{}: nothing to remove", error.message()));
                }
                other => found.push(other?),
            }
        }
        found
    };
    check(&found, flags)?;
    let mut gone = Vec::new();
    for image in &found {
        let removed = if flags.no_prune {
            untag(&store, image)?
        } else {
            catalog::remove(&store, image, flags.force || flags.all)?
        };
        gone.push(removed);
    }
    tell(&gone)
}

/// Every image once, by its digest.
fn everything(store: &Store) -> Result<Vec<Found>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for one in catalog::list(store, true, 1)? {
        if seen.insert(one.descriptor.digest) {
            found.push(catalog::find(store, &one.descriptor.digest.to_string())?);
        }
    }
    Ok(found)
}

/// Refuses before anything is removed what would be refused in the middle.
fn check(found: &[Found], flags: &RmiFlags) -> Result<()> {
    for image in found {
        if image.name.is_none() && image.names.len() > 1 && !flags.force && !flags.all {
            let names: Vec<String> = image
                .references()
                .iter()
                .map(builder_core::reference::Reference::familiar)
                .collect();
            let message = format!(
                "image `{}` has several names",
                image.descriptor.digest.short()
            );
            return Err(Error::new(ErrorKind::Usage, message)
                .with_note(format!("they are {}", names.join(", ")))
                .with_help("remove it by name, or all names with `--force`"));
        }
    }
    Ok(())
}

fn untag(store: &Store, image: &Found) -> Result<Removed> {
    let mut removed = Removed::default();
    let names = image.name.iter().chain(match image.name {
        Some(_) => [].iter(),
        None => image.names.iter(),
    });
    for name in names {
        if store.untag(name)? {
            removed.names.push(name.clone());
        }
    }
    Ok(removed)
}

fn tell(gone: &[Removed]) -> Result<()> {
    let mut text = String::new();
    for removed in gone {
        for name in &removed.names {
            // Writing to a string can't fail.
            let _ = writeln!(text, "Untagged: {name}");
        }
        for image in &removed.images {
            let _ = writeln!(text, "Deleted: {image}");
        }
    }
    print(&text)?;
    let bytes: u64 = gone.iter().map(|removed| removed.bytes).sum();
    if bytes > 0 {
        note(&format!("freed {}", size(bytes)));
    }
    if gone.iter().any(|removed| removed.is_in_use) {
        let text = "the store is in use by a build: what no name reaches any more goes with `rbuild prune`";
        note(text);
    }
    Ok(())
}
