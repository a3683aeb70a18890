//! `COPY --parents`: what a word names arrives with the directories that lead to it.
//!
//! The pivot `/./` splits what is dropped from what is kept (Docker's reference, "COPY --parents"). Wildcards may stand
//! on both sides: each directory that the left side matches gives what the right side, a pattern of
//! [`PatternList`]'s language, matches below it. `..` stops at the root on either side.

use std::sync::Arc;

use crate::build::arrival::{self, Arrival};
use crate::build::copy::CopyInput;
use crate::build::missing::missing;
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;
use crate::plan::step::Spanned;
use crate::tree::Tree as _;
use crate::tree::filter::{Filtered, Keep};
use crate::tree::glob;
use crate::tree::pattern::PatternList;

/// The things that one word names. A word without wildcards brings what it names, or is an error: never nothing.
///
/// # Errors
/// A plain path that is not there, and a broken pattern.
pub(crate) fn arrivals<'a>(
    input: &CopyInput<'a>,
    word: &Spanned<String>,
    exclude: &Arc<PatternList>,
) -> Result<Vec<Arrival<'a>>> {
    let (dropped, kept) = word.value.split_once("/./").unwrap_or(("", &word.value));
    let plain = !glob::has_wildcard(&word.value);
    let kept = ImagePath::clean(kept);
    let include = Arc::new(patterns(&kept, plain)?);
    let mut arrivals = Vec::new();
    for selected in arrival::found(input, word, dropped)? {
        let base = arrival::followed(input, word, selected)?;
        let place = base.entry.path.clone();
        if !base.entry.is_directory() {
            if plain {
                return Err(missing(input, word, &place.append(&kept)));
            }
            continue;
        }
        if kept.is_root() {
            arrivals.push(arrival::directory(input.source, base, exclude));
            continue;
        }
        let matched = Keep::Matched;
        let include = Arc::clone(&include);
        let included = Filtered::new(input.source, place.clone(), include, matched, "--parents");
        let wanted = place.append(&kept);
        if plain && included.look_up(&wanted)?.is_none() {
            return Err(missing(input, word, &wanted));
        }
        arrivals.push(arrival::directory(
            included.marking_passages(),
            base,
            exclude,
        ));
    }
    Ok(arrivals)
}

/// What is kept, as patterns. A plain path means itself, whatever characters it holds.
fn patterns(kept: &ImagePath, plain: bool) -> Result<PatternList> {
    if plain {
        return Ok(PatternList::from_literals([kept]));
    }
    let text = String::from_utf8_lossy(kept.as_relative());
    PatternList::from_patterns([&*text]).map_err(|problems| {
        let first = problems.first();
        let message = first.map_or_else(String::new, ToString::to_string);
        Error::new(ErrorKind::Dockerfile, message)
            .with_help("write `\\[` to mean the character `[`")
    })
}
