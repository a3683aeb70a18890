//! The checks that need the text alone, one function each.
//!
//! Follows Docker's "Build checks".

use std::collections::BTreeMap;

use crate::diagnostic::Diagnostic;
use crate::dockerfile::instruction::{CommandForm, Instruction, InstructionKind};
use crate::dockerfile::word::Word;
use crate::dockerfile::{Dockerfile, Stage};
use crate::source::Span;

type Rule = fn(&Dockerfile, &mut Vec<Diagnostic>);

pub(super) const ALL: [Rule; 14] = [
    stage_names,
    from_as_casing,
    no_empty_continuation,
    consistent_casing,
    duplicate_stage_name,
    json_args_recommended,
    maintainer_deprecated,
    workdir_relative_path,
    multiple_instructions,
    legacy_key_value,
    redundant_target_platform,
    platform_constant,
    secrets,
    definition_description,
];

fn warn(rule: &'static str, span: Span, message: String, help: impl Into<String>) -> Diagnostic {
    Diagnostic::warning(rule, span, message).with_help(help)
}

fn named(dockerfile: &Dockerfile) -> impl Iterator<Item = (&Stage, &Word)> {
    dockerfile
        .stages
        .iter()
        .filter_map(|stage| Some((stage, stage.base()?.name.as_ref()?)))
}

fn stage_names(dockerfile: &Dockerfile, found: &mut Vec<Diagnostic>) {
    for (_, name) in named(dockerfile) {
        let lower = name.text.to_lowercase();
        if lower != name.text {
            let message = format!("the stage name `{}` is not in lower case", name.text);
            found.push(warn(
                "StageNameCasing",
                name.span,
                message,
                format!("write `{lower}`"),
            ));
        }
        if matches!(lower.as_str(), "scratch" | "context") {
            let message =
                format!("`{lower}` means something else, so a stage should not be called that");
            found.push(warn(
                "ReservedStageName",
                name.span,
                message,
                "choose another name",
            ));
        }
    }
}

fn from_as_casing(dockerfile: &Dockerfile, found: &mut Vec<Diagnostic>) {
    for stage in &dockerfile.stages {
        let Some(keyword) = stage.base().and_then(|from| from.as_keyword.as_ref()) else {
            continue;
        };
        let upper = case(&stage.from.keyword.text);
        if upper.is_some() && case(&keyword.text) != upper {
            let message = format!(
                "`{}` and `{}` are not in the same case",
                stage.from.keyword.text, keyword.text
            );
            let wanted = if upper == Some(true) { "AS" } else { "as" };
            found.push(warn(
                "FromAsCasing",
                keyword.span,
                message,
                format!("write `{wanted}`"),
            ));
        }
    }
}

/// True for all capitals, false for none, none for a mixture.
fn case(word: &str) -> Option<bool> {
    if word.bytes().all(|byte| byte.is_ascii_uppercase()) {
        Some(true)
    } else {
        word.bytes()
            .all(|byte| byte.is_ascii_lowercase())
            .then_some(false)
    }
}

fn no_empty_continuation(dockerfile: &Dockerfile, found: &mut Vec<Diagnostic>) {
    for (blank, instruction) in &dockerfile.style.empty_continuations {
        let message = "a blank line stands inside a continued instruction".to_owned();
        let warning = warn(
            "NoEmptyContinuation",
            *instruction,
            message,
            "remove it, or make it a comment",
        );
        found.push(warning.with_related(*blank, "the blank line"));
    }
}

fn consistent_casing(dockerfile: &Dockerfile, found: &mut Vec<Diagnostic>) {
    let cases: Vec<(&Word, Option<bool>)> = dockerfile
        .instructions()
        .map(|one| (&one.keyword, case(&one.keyword.text)))
        .collect();
    let count = |wanted: bool| {
        cases
            .iter()
            .filter(|(_, case)| *case == Some(wanted))
            .count()
    };
    let upper = count(true) >= count(false);
    for (keyword, _) in cases.iter().filter(|(_, case)| *case != Some(upper)) {
        let wanted = if upper {
            keyword.text.to_uppercase()
        } else {
            keyword.text.to_lowercase()
        };
        let message = format!(
            "`{}` is not in the case of most instructions of the file",
            keyword.text
        );
        found.push(warn(
            "ConsistentInstructionCasing",
            keyword.span,
            message,
            format!("write `{wanted}`"),
        ));
    }
}

fn duplicate_stage_name(dockerfile: &Dockerfile, found: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<String, Span> = BTreeMap::new();
    for (_, name) in named(dockerfile) {
        let lower = name.text.to_lowercase();
        if let Some(first) = seen.get(&lower) {
            let message = format!("a stage called `{lower}` stands above already");
            let warning = warn(
                "DuplicateStageName",
                name.span,
                message,
                "give each stage its own name",
            );
            found.push(warning.with_related(*first, "the first one"));
        } else {
            seen.insert(lower, name.span);
        }
    }
}

fn json_args_recommended(dockerfile: &Dockerfile, found: &mut Vec<Diagnostic>) {
    for stage in &dockerfile.stages {
        for instruction in &stage.instructions {
            let command = match &instruction.kind {
                InstructionKind::Shell(_) => break,
                InstructionKind::Cmd(cmd) => &cmd.command,
                InstructionKind::Entrypoint(entrypoint) => &entrypoint.command,
                _ => continue,
            };
            if let CommandForm::Shell(text) = command {
                let keyword = instruction.kind.keyword();
                let message =
                    format!("{keyword} in shell form: the shell gets the signals, not the program");
                let help = format!("write `{keyword} [\"program\", \"argument\"]`");
                found.push(warn(
                    "JSONArgsRecommended",
                    instruction.keyword.span.to(text.span),
                    message,
                    help,
                ));
            }
        }
    }
}

fn maintainer_deprecated(dockerfile: &Dockerfile, found: &mut Vec<Diagnostic>) {
    for instruction in dockerfile.instructions() {
        if let InstructionKind::Maintainer(_) = &instruction.kind {
            let message = "MAINTAINER is out of date".to_owned();
            let help = "write `LABEL org.opencontainers.image.authors=…`";
            found.push(warn(
                "MaintainerDeprecated",
                instruction.span,
                message,
                help,
            ));
        }
    }
}

fn workdir_relative_path(dockerfile: &Dockerfile, found: &mut Vec<Diagnostic>) {
    let mut with_directory: Vec<String> = Vec::new();
    for stage in &dockerfile.stages {
        let base = stage
            .base()
            .map(|from| from.image.text.as_str())
            .unwrap_or_default();
        let mut known = with_directory.iter().any(|name| name == base);
        for instruction in &stage.instructions {
            let InstructionKind::Workdir(workdir) = &instruction.kind else {
                continue;
            };
            let path = &workdir.path.text;
            let absolute = path.starts_with(['/', '$', '"', '\'']);
            if !absolute && !known {
                let message =
                    format!("the directory `{path}` is relative to one that the base chooses");
                found.push(warn(
                    "WorkdirRelativePath",
                    workdir.path.span,
                    message,
                    format!("write `/{path}`"),
                ));
            }
            known = true;
        }
        if known {
            with_directory.extend(stage.name());
        }
    }
}

fn multiple_instructions(dockerfile: &Dockerfile, found: &mut Vec<Diagnostic>) {
    for stage in &dockerfile.stages {
        let mut last: BTreeMap<&str, &Instruction> = BTreeMap::new();
        for instruction in &stage.instructions {
            let keyword = instruction.kind.keyword();
            if !matches!(keyword, "CMD" | "ENTRYPOINT" | "HEALTHCHECK") {
                continue;
            }
            if let Some(earlier) = last.insert(keyword, instruction) {
                let message =
                    format!("this {keyword} has no effect: a later one in the stage replaces it");
                let warning = warn(
                    "MultipleInstructionsDisallowed",
                    earlier.span,
                    message,
                    "remove one of the two",
                );
                found.push(warning.with_related(instruction.span, "the later one"));
            }
        }
    }
}

fn legacy_key_value(dockerfile: &Dockerfile, found: &mut Vec<Diagnostic>) {
    for instruction in dockerfile.instructions() {
        let pairs = match &instruction.kind {
            InstructionKind::Env(env) if env.legacy => &env.pairs,
            InstructionKind::Label(label) if label.legacy => &label.pairs,
            _ => continue,
        };
        let keyword = instruction.kind.keyword();
        let key = pairs
            .first()
            .map(|pair| pair.key.text.as_str())
            .unwrap_or_default();
        let message = format!("`{keyword} {key} …` is the old form, which takes one pair only");
        let help = format!("write `{keyword} {key}=…`, with quotes around a value with blanks");
        found.push(warn(
            "LegacyKeyValueFormat",
            instruction.span,
            message,
            help,
        ));
    }
}

fn redundant_target_platform(dockerfile: &Dockerfile, found: &mut Vec<Diagnostic>) {
    for stage in &dockerfile.stages {
        let Some(platform) = stage.base().and_then(|from| from.platform.as_ref()) else {
            continue;
        };
        if matches!(
            platform.text.as_str(),
            "$TARGETPLATFORM" | "${TARGETPLATFORM}"
        ) {
            let message = format!("`--platform={}` is what FROM does anyway", platform.text);
            found.push(warn(
                "RedundantTargetPlatform",
                platform.span,
                message,
                "leave out the flag",
            ));
        }
    }
}

fn platform_constant(dockerfile: &Dockerfile, found: &mut Vec<Diagnostic>) {
    for stage in &dockerfile.stages {
        let Some(platform) = stage.base().and_then(|from| from.platform.as_ref()) else {
            continue;
        };
        let name = stage.name().unwrap_or_default();
        let mentioned = platform
            .text
            .split('/')
            .any(|part| !part.is_empty() && name.contains(&part.to_lowercase()));
        if !platform.text.contains('$') && !platform.text.is_empty() && !mentioned {
            let message = format!(
                "the platform `{}` is fixed, so the file builds for nothing else",
                platform.text
            );
            let help = "leave out the flag, use `$BUILDPLATFORM`, or name the platform in the stage's name";
            found.push(warn(
                "FromPlatformFlagConstDisallowed",
                platform.span,
                message,
                help,
            ));
        }
    }
}

const SECRET_WORDS: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
const PUBLIC_WORDS: [&str; 3] = ["public", "file", "version"];

fn secrets(dockerfile: &Dockerfile, found: &mut Vec<Diagnostic>) {
    for instruction in dockerfile.instructions() {
        let names: Vec<&Word> = match &instruction.kind {
            InstructionKind::Arg(arg) => arg.args.iter().map(|one| &one.name).collect(),
            InstructionKind::Env(env) => env.pairs.iter().map(|pair| &pair.key).collect(),
            _ => continue,
        };
        for name in names.into_iter().filter(|name| is_secret_name(&name.text)) {
            let keyword = instruction.kind.keyword();
            let message = format!(
                "`{}` looks like a secret, and {keyword} leaves it readable in the image",
                name.text
            );
            let help = "use `RUN --mount=type=secret,id=…,env=…`";
            found.push(warn("SecretsUsedInArgOrEnv", name.span, message, help));
        }
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase();
    let has = |list: &[&str]| name.split('_').any(|word| list.contains(&word));
    has(&SECRET_WORDS) && !has(&PUBLIC_WORDS)
}

/// Experimental: a comment directly above ARG or a named FROM starts with the name that it describes.
fn definition_description(dockerfile: &Dockerfile, found: &mut Vec<Diagnostic>) {
    for instruction in dockerfile.instructions() {
        let name = match &instruction.kind {
            InstructionKind::Arg(arg) => arg.args.first().map(|one| &one.name),
            InstructionKind::From(from) => from.name.as_ref(),
            _ => None,
        };
        let (Some(name), Some(comment)) = (name, instruction.comments.first()) else {
            continue;
        };
        let described = comment.text.split_whitespace().next() == Some(name.text.as_str());
        if !described && !comment.text.starts_with("check=") {
            let message = format!(
                "the comment above `{}` does not start with that name",
                name.text
            );
            let help = format!(
                "write `# {} description`, or put an empty comment line between them",
                name.text
            );
            found.push(warn(
                "InvalidDefinitionDescription",
                comment.span,
                message,
                help,
            ));
        }
    }
}
