//! `--output`: `type=…,dest=…` as comma-separated values, a path alone, or `-`.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd as _;

use builder_core::Result;
use builder_core::output::{Destination, Output, OutputKind};
use builder_core::reference::Reference;

use super::{default_output, usage};
use crate::environment::Environment;

/// Where the image goes.
pub(super) struct Parsed {
    /// Files and directories.
    pub(super) outputs: Vec<Output>,
    /// Whether it goes to its registries.
    pub(super) push: bool,
}

/// Reads all specifications; without any, and without a push, the default output.
pub(super) fn parse(
    specs: &[String],
    push: bool,
    references: &[Reference],
    environment: &Environment,
) -> Result<Parsed> {
    let (registries, files): (Vec<&String>, Vec<&String>) =
        specs.iter().partition(|spec| is_registry(spec));
    let push = push || !registries.is_empty();
    if push && references.is_empty() {
        return Err(usage("a push needs a name to push to")
            .with_help("name the image with `-t REGISTRY/REPOSITORY:TAG`"));
    }
    if specs.is_empty() && !push {
        let path = default_output(references, &environment.directory);
        let destination = Destination::Path {
            path,
            replace: false,
        };
        return Ok(Parsed {
            outputs: vec![Output {
                kind: OutputKind::Oci,
                destination,
            }],
            push,
        });
    }
    let outputs: Vec<Output> = files
        .into_iter()
        .map(|spec| one(spec, references, environment))
        .collect::<Result<_>>()?;
    let handles = outputs
        .iter()
        .filter(|output| matches!(output.destination, Destination::Handle(_)))
        .count();
    if handles > 1 {
        return Err(
            usage("two outputs go to standard output").with_help("give one of them a `dest=`")
        );
    }
    Ok(Parsed { outputs, push })
}

/// `type=registry`, or buildx' `type=image,push=true`. Names are those of `-t`.
fn is_registry(spec: &str) -> bool {
    let fields: BTreeMap<&str, &str> = spec
        .split(',')
        .filter_map(|field| field.trim().split_once('='))
        .collect();
    match fields.get("type").copied() {
        Some("registry") => fields.keys().all(|key| matches!(*key, "type" | "push")),
        Some("image") => {
            fields.get("push") == Some(&"true")
                && fields.keys().all(|key| matches!(*key, "type" | "push"))
        }
        _ => false,
    }
}

fn one(spec: &str, references: &[Reference], environment: &Environment) -> Result<Output> {
    if spec == "-" {
        return output(OutputKind::Tar, Some("-"), references, environment);
    }
    if !spec.contains('=') {
        return output(OutputKind::Local, Some(spec), references, environment);
    }
    let mut fields: BTreeMap<String, &str> = BTreeMap::new();
    for field in spec.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| {
            usage(format!("--output `{spec}`: `{field}` is no `key=value`"))
                .with_help("write `type=oci,dest=FILE`")
        })?;
        fields.insert(key.trim().to_lowercase(), value.trim());
    }
    let kind = match fields.remove("type") {
        Some("oci") => OutputKind::Oci,
        Some("oci-dir") => OutputKind::OciDirectory,
        Some("docker") => OutputKind::Docker,
        Some("local") => OutputKind::Local,
        Some("tar") => OutputKind::Tar,
        Some(kind @ ("registry" | "image")) => {
            return Err(usage(format!("--output type={kind} has no such fields"))
                .with_help("write `type=registry`, and the names with `-t`"));
        }
        Some(kind) => {
            return Err(usage(format!("--output type `{kind}` is unknown"))
                .with_help("write oci, oci-dir, docker, local, tar or registry"));
        }
        None => {
            return Err(usage(format!("--output `{spec}` has no type"))
                .with_help("write `type=oci,dest=FILE`"));
        }
    };
    let destination = fields
        .remove("dest")
        .or_else(|| fields.remove("destination"));
    if let Some(key) = fields.keys().next() {
        return Err(usage(format!("--output `{spec}`: rbuild has no `{key}`"))
            .with_help("it has `type` and `dest`"));
    }
    output(kind, destination, references, environment)
}

fn output(
    kind: OutputKind,
    destination: Option<&str>,
    references: &[Reference],
    environment: &Environment,
) -> Result<Output> {
    let destination = match (destination, kind) {
        (Some("-"), _) => standard_output(environment)?,
        (Some(path), _) => Destination::Path {
            path: environment.directory.join(path),
            replace: true,
        },
        (None, OutputKind::Oci | OutputKind::Docker) => {
            let path = default_output(references, &environment.directory);
            Destination::Path {
                path,
                replace: false,
            }
        }
        (None, kind) => {
            return Err(
                usage(format!("--output type={} has no `dest`", kind.name()))
                    .with_help("add `,dest=PATH`"),
            );
        }
    };
    Ok(Output { kind, destination })
}

fn standard_output(environment: &Environment) -> Result<Destination> {
    if environment.output_terminal {
        return Err(
            usage("standard output is a terminal, and an archive does not belong there")
                .with_help("send it to a file or a program: `rbuild -o - . > FILE`"),
        );
    }
    let handle = std::io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| {
            usage("standard output is closed")
                .with_help("open it, or write to a file with `dest=`")
                .with_source(error)
        })?;
    Ok(Destination::Handle(File::from(handle)))
}
