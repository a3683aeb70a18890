//! The build checks: rules about a file's form, and which of them a file or a build argument turns off.
//!
//! Follows Docker's "Build checks" for names and meaning. The rules here need the text alone. `UndefinedVar`,
//! `UndefinedArgInFrom`, `InvalidDefaultArgInFrom`, `InvalidBaseImagePlatform`, `ExposeProtoCasing`,
//! `ExposeInvalidFormat` and `CopyIgnoredFile` need values and come from `plan`.

mod rules;
mod settings;

use crate::diagnostic::Diagnostic;

use super::Dockerfile;

pub use settings::CheckSettings;

/// The names of all 22 checks, and whether each is on without being asked for.
pub const RULES: [(&str, bool); 22] = [
    ("StageNameCasing", true),
    ("FromAsCasing", true),
    ("NoEmptyContinuation", true),
    ("ConsistentInstructionCasing", true),
    ("DuplicateStageName", true),
    ("ReservedStageName", true),
    ("JSONArgsRecommended", true),
    ("MaintainerDeprecated", true),
    ("UndefinedArgInFrom", true),
    ("WorkdirRelativePath", true),
    ("UndefinedVar", true),
    ("MultipleInstructionsDisallowed", true),
    ("LegacyKeyValueFormat", true),
    ("InvalidBaseImagePlatform", true),
    ("RedundantTargetPlatform", true),
    ("SecretsUsedInArgOrEnv", true),
    ("InvalidDefaultArgInFrom", true),
    ("FromPlatformFlagConstDisallowed", true),
    ("CopyIgnoredFile", true),
    ("InvalidDefinitionDescription", false),
    ("ExposeProtoCasing", true),
    ("ExposeInvalidFormat", true),
];

/// Warnings of rbuild's own, which no directive turns off.
pub const OWN_WARNINGS: [&str; 7] = [
    "copied-socket",
    "directory-replaces",
    "env-overrides-arg",
    "inline-comment",
    "mirrored-syntax",
    "not-json",
    "unused-build-arg",
];

/// Every warning of the rules that need the text alone, in file order; [`CheckSettings::apply`] drops what was
/// turned off.
pub fn check(dockerfile: &Dockerfile) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for rule in rules::ALL {
        rule(dockerfile, &mut found);
    }
    found.sort_by_key(|one: &Diagnostic| one.span);
    found
}
