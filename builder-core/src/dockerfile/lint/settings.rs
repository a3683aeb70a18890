//! The `check` directive, the build argument that replaces it, and `# check=skip=` above an instruction.

use std::collections::BTreeSet;

use crate::diagnostic::{Diagnostic, Severity};
use crate::dockerfile::Dockerfile;
use crate::dockerfile::instruction::Instruction;
use crate::source::Span;

use super::RULES;

/// Which checks count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckSettings {
    /// Rules that are skipped.
    pub skip: BTreeSet<String>,
    /// All rules are skipped.
    pub skip_all: bool,
    /// A finding fails the build.
    pub error: bool,
    /// Experimental rules that are on.
    pub experimental: BTreeSet<String>,
    /// All experimental rules are on.
    pub experimental_all: bool,
}

impl CheckSettings {
    /// The settings of a file; `given` is the build argument `BUILDKIT_DOCKERFILE_CHECK`, which replaces them.
    pub fn new(dockerfile: &Dockerfile, given: Option<&str>) -> Self {
        let directive = dockerfile
            .directives
            .check
            .as_ref()
            .map(|word| word.text.as_str());
        given.or(directive).map(Self::parse).unwrap_or_default()
    }

    /// Reads `skip=A,B;error=true;experimental=all`; what it doesn't know is left out.
    pub fn parse(text: &str) -> Self {
        let mut settings = Self::default();
        for part in text.split(';') {
            let Some((key, value)) = part.split_once('=') else {
                continue;
            };
            let names: BTreeSet<String> = value
                .split(',')
                .map(|name| name.trim().to_owned())
                .collect();
            match key.trim() {
                "skip" => {
                    settings.skip_all = names.contains("all");
                    settings.skip = names;
                }
                "experimental" => {
                    settings.experimental_all = names.contains("all");
                    settings.experimental = names;
                }
                "error" => settings.error = value.trim().eq_ignore_ascii_case("true"),
                _ => {}
            }
        }
        settings
    }

    fn is_on(&self, rule: &str) -> bool {
        let default = RULES
            .iter()
            .find(|(name, _)| *name == rule)
            .is_some_and(|(_, on)| *on);
        if !default && !self.experimental_all && !self.experimental.contains(rule) {
            return false;
        }
        !self.skip_all && !self.skip.contains(rule)
    }

    /// Drops the findings of checks that are off, here or for their instruction, and makes errors of the rest where
    /// the file asks for that. Other diagnostics stay as they are.
    pub fn apply(&self, dockerfile: &Dockerfile, diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let skipped = skipped_by_comment(dockerfile);
        let mut kept = Vec::new();
        for mut one in diagnostics {
            if !RULES.iter().any(|(name, _)| *name == one.rule) {
                kept.push(one);
                continue;
            }
            let inside = |span: &Span| {
                span.start <= one.span.start && one.span.start < span.end.max(span.start + 1)
            };
            let off = skipped
                .iter()
                .any(|(span, settings)| inside(span) && !settings.is_on(one.rule));
            if off || !self.is_on(one.rule) {
                continue;
            }
            if self.error {
                one.severity = Severity::Error;
            }
            kept.push(one);
        }
        kept
    }
}

/// The instructions with a `# check=skip=…` comment directly above. Experimental rules stay as they are.
fn skipped_by_comment(dockerfile: &Dockerfile) -> Vec<(Span, CheckSettings)> {
    let setting = |instruction: &Instruction| {
        let comments = instruction.comments.iter();
        let value = comments
            .filter_map(|comment| comment.text.strip_prefix("check="))
            .next_back()?;
        let settings = CheckSettings {
            experimental_all: true,
            ..CheckSettings::parse(value)
        };
        Some((instruction.span, settings))
    };
    dockerfile.instructions().filter_map(setting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_settings() {
        let settings = CheckSettings::parse("skip=A, B ;error=TRUE;experimental=all");
        assert!(
            settings.skip.contains("B")
                && settings.error
                && settings.experimental_all
                && !settings.skip_all
        );
        assert!(CheckSettings::parse("skip=all").skip_all);
    }
}
