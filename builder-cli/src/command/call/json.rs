//! The answers as JSON, in BuildKit's form.

use builder_core::diagnostic::Diagnostic;
use builder_core::plan::outline::{Argument, Mounted, Outline, Target};
use builder_core::registry::base64;
use builder_core::source::{SourceFile, Span};
use serde::Serialize;

/// A range for each line.
#[derive(Serialize)]
struct Location {
    ranges: Vec<Range>,
}

#[derive(Serialize)]
struct Range {
    start: Line,
    end: Line,
}

#[derive(Serialize)]
struct Line {
    line: usize,
}

impl Location {
    fn of(file: &SourceFile, span: Span) -> Self {
        let last = span.end.max(span.start + 1) - 1;
        let lines = file.position(span.start).line..=file.position(last).line;
        let range = |line| Range {
            start: Line { line },
            end: Line { line },
        };
        Self {
            ranges: lines.map(range).collect(),
        }
    }
}

/// The bytes of the file.
fn source(file: &SourceFile) -> String {
    base64(&builder_core::source::to_bytes(&file.text))
}

fn write(value: &impl Serialize) -> String {
    // Nothing in these values can fail to be written.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

#[derive(Serialize)]
struct Targets<'a> {
    targets: Vec<TargetItem<'a>>,
    sources: [String; 1],
}

#[derive(Serialize)]
struct TargetItem<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    base: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'a str>,
    location: Location,
}

/// The targets of a file.
pub(super) fn targets(file: &SourceFile, targets: &[Target]) -> String {
    let items = targets.iter().map(|target| TargetItem {
        name: target.name.as_deref(),
        default: target.default,
        description: target.description.as_deref(),
        base: &target.base,
        platform: target.platform.as_deref(),
        location: Location::of(file, target.span),
    });
    write(&Targets {
        targets: items.collect(),
        sources: [source(file)],
    })
}

#[derive(Serialize)]
struct Parameters<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Parameter<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Parameter<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<Parameter<'a>>,
    sources: [String; 1],
}

/// One argument, secret or agent.
#[derive(Serialize)]
struct Parameter<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

impl<'a> Parameter<'a> {
    fn argument(file: &SourceFile, argument: &'a Argument) -> Self {
        Self {
            name: &argument.name,
            description: argument.description.as_deref(),
            value: argument.value.as_deref().filter(|value| !value.is_empty()),
            required: false,
            location: Location::of(file, argument.span),
        }
    }

    fn mounted(file: &SourceFile, mounted: &'a [Mounted]) -> Vec<Self> {
        let parameter = |one: &'a Mounted| Self {
            name: &one.id,
            description: None,
            value: None,
            required: one.required,
            location: Location::of(file, one.span),
        };
        mounted.iter().map(parameter).collect()
    }
}

/// What a target takes from outside.
pub(super) fn outline(file: &SourceFile, outline: &Outline) -> String {
    let args = outline.args.iter();
    write(&Parameters {
        name: outline.name.as_deref(),
        description: outline.description.as_deref(),
        args: args.map(|arg| Parameter::argument(file, arg)).collect(),
        secrets: Parameter::mounted(file, &outline.secrets),
        ssh: Parameter::mounted(file, &outline.ssh),
        sources: [source(file)],
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Findings<'a> {
    warnings: Vec<Warning<'a>>,
    sources: [File<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    build_error: Option<BuildError<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Warning<'a> {
    rule_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    detail: &'a str,
    location: Location,
}

#[derive(Serialize)]
struct File<'a> {
    filename: &'a str,
    language: &'a str,
    data: String,
}

#[derive(Serialize)]
struct BuildError<'a> {
    message: &'a str,
    location: Location,
}

/// The warnings, and the first error.
pub(super) fn findings(file: &SourceFile, found: &[Diagnostic]) -> String {
    let warnings = found.iter().filter(|one| !one.is_error());
    let warnings = warnings.map(|one| Warning {
        rule_name: one.rule,
        description: one.help.as_deref(),
        detail: &one.message,
        location: Location::of(file, one.span),
    });
    let error = found.iter().find(|one| one.is_error());
    write(&Findings {
        warnings: warnings.collect(),
        sources: [File {
            filename: &file.name,
            language: "Dockerfile",
            data: source(file),
        }],
        build_error: error.map(|one| BuildError {
            message: &one.message,
            location: Location::of(file, one.span),
        }),
    })
}
