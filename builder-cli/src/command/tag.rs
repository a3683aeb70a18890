//! `rbuild tag`: further names for an image.

use builder_core::catalog;
use builder_core::reference::Reference;
use builder_core::{Error, ErrorKind, Result};

use super::open_store;
use crate::environment::Environment;
use crate::flags::images::TagFlags;

/// Gives an image its further names; what had one of them loses it.
pub(crate) fn run(flags: &TagFlags, environment: &Environment) -> Result<()> {
    let names: Vec<Reference> = flags
        .names
        .iter()
        .map(|name| new_name(name))
        .collect::<Result<_>>()?;
    let store = open_store(&flags.store, environment)?;
    // Nothing is collected between the look and the name.
    let _in_use = store.lock_for_use()?;
    let found = catalog::find(&store, &flags.source)?;
    for name in names {
        let tag = name.tag().unwrap_or("latest");
        store.tag(&name.to_string(), tag, &found.descriptor)?;
    }
    Ok(())
}

/// A name that an image may get: no digest, and nothing that reads as one.
pub(super) fn new_name(text: &str) -> Result<Reference> {
    let usage = |message: String| Error::new(ErrorKind::Usage, message);
    let reference: Reference = text.parse().map_err(|error| {
        let lower = text.to_lowercase();
        let better = lower != text && lower.parse::<Reference>().is_ok();
        let error = usage(format!("{error}"));
        if better {
            error.with_help(format!("write `{lower}`"))
        } else {
            error.with_help("write `[REGISTRY/]REPOSITORY[:TAG]`")
        }
    })?;
    if reference.digest().is_some() {
        return Err(
            usage(format!("`{text}` has a digest, which nobody can give"))
                .with_help("write `[REGISTRY/]REPOSITORY[:TAG]`"),
        );
    }
    let own = reference.last_component();
    let is_hex = own.len() == 64 && own.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex || matches!(reference.repository(), "library/sha256" | "library/sha512") {
        return Err(usage(format!("`{text}` would be taken for a digest"))
            .with_help("choose another repository"));
    }
    Ok(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_digest() {
        let hex = "a".repeat(64);
        for (text, legal) in [
            ("app", true),
            ("r.io/team/app:1", true),
            ("App", false),
            ("app@sha256:abc", false),
            (&format!("app@sha256:{hex}"), false),
            (&format!("sha256:{hex}"), false),
            ("sha256", false),
            (&hex, false),
            ("", false),
        ] {
            let found = new_name(text);
            assert_eq!(found.is_ok(), legal, "{text}");
            assert!(found.is_ok() || found.unwrap_err().help().is_some());
        }
    }
}
