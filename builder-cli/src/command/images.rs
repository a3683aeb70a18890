//! `rbuild images`: what the store holds under a name.

use builder_core::Result;
use builder_core::reference::Reference;

use super::{open_store, print};
use crate::environment::Environment;
use crate::flags::StoreFlags;

/// Prints a line for each name: reference, digest.
pub(crate) fn run(flags: &StoreFlags, environment: &Environment) -> Result<()> {
    let store = open_store(flags, environment)?;
    let mut lines = Vec::new();
    for (name, descriptor) in store.tags()? {
        let shown = name
            .parse::<Reference>()
            .map_or(name, |reference| reference.familiar());
        lines.push(format!("{shown}\t{}\n", descriptor.digest));
    }
    lines.sort();
    print(&lines.concat())
}
