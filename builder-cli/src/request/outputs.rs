//! `--output`: `type=…,dest=…` as comma-separated values, a path alone, or `-`.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd as _;

use builder_core::Result;
use builder_core::output::{Destination, Output, OutputKind};
use builder_core::reference::Reference;

use super::fields::split;
use super::image_output::ImageFields;
use super::{default_output, usage};
use crate::environment::Environment;

/// Where the image goes.
pub(super) struct Parsed {
    /// Files and directories.
    pub(super) outputs: Vec<Output>,
    /// Names, registries and form of the image.
    pub(super) image: ImageFields,
}

/// Reads all specifications; without any, and where the image goes neither to a registry nor to an engine, the default
/// output. Names of outputs join `references`.
pub(super) fn parse(
    specs: &[String],
    (push, load): (bool, bool),
    references: &mut Vec<Reference>,
    environment: &Environment,
) -> Result<Parsed> {
    let mut image = ImageFields {
        push,
        ..ImageFields::default()
    };
    let mut files = Vec::new();
    for spec in specs {
        files.extend(one(spec, &mut image)?);
    }
    for name in &image.names {
        if !references.contains(name) {
            references.push(name.clone());
        }
    }
    if image.push && references.is_empty() {
        return Err(usage("a push needs a name to push to").with_help(
            "name the image with `-t REGISTRY/REPOSITORY:TAG`, or `name=` in the output",
        ));
    }
    if specs.is_empty() && !image.push && !load {
        files.push((OutputKind::Oci, None));
    }
    let outputs: Vec<Output> = files
        .into_iter()
        .map(|(kind, destination)| output(kind, destination.as_deref(), references, environment))
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
    Ok(Parsed { outputs, image })
}

/// The file or directory of one specification; none where the image goes to the store and to registries alone.
fn one(spec: &str, image: &mut ImageFields) -> Result<Option<(OutputKind, Option<String>)>> {
    if spec == "-" {
        return Ok(Some((OutputKind::Tar, Some("-".to_owned()))));
    }
    if !spec.contains('=') {
        return Ok(Some((OutputKind::Local, Some(spec.to_owned()))));
    }
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    for field in split("--output", spec)? {
        let (key, value) = field.split_once('=').ok_or_else(|| {
            usage(format!("--output `{spec}`: `{field}` is no `key=value`"))
                .with_help("write `type=oci,dest=FILE`")
        })?;
        // The names of annotations keep their letters.
        let key = key.trim();
        let key = if key.starts_with("annotation") {
            key.to_owned()
        } else {
            key.to_lowercase()
        };
        fields.insert(key, value.trim().to_owned());
    }
    let kind = fields.remove("type");
    let kind = match kind.as_deref() {
        Some("oci") => Some(OutputKind::Oci),
        Some("oci-dir") => Some(OutputKind::OciDirectory),
        Some("docker") => Some(OutputKind::Docker),
        Some("local") => Some(OutputKind::Local),
        Some("tar") => Some(OutputKind::Tar),
        Some("image" | "registry") => None,
        Some(kind) => {
            return Err(usage(format!("--output type `{kind}` is unknown"))
                .with_help("write oci, oci-dir, docker, local, tar, image or registry"));
        }
        None => {
            return Err(usage(format!("--output `{spec}` has no type"))
                .with_help("write `type=oci,dest=FILE`"));
        }
    };
    let is_image = !matches!(kind, Some(OutputKind::Local | OutputKind::Tar));
    if is_image {
        image.take(&mut fields, spec_pushes(spec))?;
    }
    let destination = fields
        .remove("dest")
        .or_else(|| fields.remove("destination"));
    if let (None, Some(_)) = (kind, &destination) {
        return Err(
            usage(format!("--output `{spec}`: an image goes to no file"))
                .with_help("write `type=oci,dest=FILE`"),
        );
    }
    if let Some(key) = fields.keys().next() {
        let help = if is_image {
            "it has `type`, `dest`, `name`, `push`, `push-by-digest`, `registry.insecure`, `compression`, `compression-level`, `force-compression`, `oci-mediatypes` and `annotation.KEY`"
        } else {
            "it has `type` and `dest`"
        };
        return Err(usage(format!("--output `{spec}`: rbuild has no `{key}`")).with_help(help));
    }
    Ok(kind.map(|kind| (kind, destination)))
}

/// `type=registry` is `type=image,push=true`.
fn spec_pushes(spec: &str) -> bool {
    spec.split(',').any(|field| field.trim() == "type=registry")
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

#[cfg(test)]
mod tests {
    use super::*;
    use builder_core::build::request::ImageForm;
    use builder_core::layer::Compression;

    fn image(spec: &str) -> Result<(ImageFields, bool)> {
        let mut image = ImageFields::default();
        let file = one(spec, &mut image)?;
        Ok((image, file.is_some()))
    }

    #[test]
    fn recipes_of_ci_are_understood() {
        let (found, _) = image(r#"type=image,"name=r.io/a:1,r.io/b",push=true"#).unwrap();
        let names: Vec<String> = found.names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["r.io/a:1", "r.io/b:latest"]);
        for (spec, push, file) in [
            ("type=image", false, false),
            ("type=image,push=true", true, false),
            ("type=registry", true, false),
            ("type=registry,name=r.io/a", true, false),
            ("type=registry,push=false", false, false),
            ("type=docker,name=a", false, true),
            ("type=oci,dest=x", false, true),
        ] {
            let (found, is_file) = image(spec).unwrap();
            assert_eq!((found.push, is_file), (push, file), "{spec}");
        }
        let spec = "type=image,push-by-digest=true,name-canonical=true,registry.insecure=true,oci-mediatypes=false,force-compression=true,compression=zstd,compression-level=7,annotation.A.b=c";
        let (found, _) = image(spec).unwrap();
        let form = ImageForm {
            docker_types: true,
            force_compression: true,
            by_digest: true,
        };
        assert!(found.insecure && found.form == form, "{found:?}");
        assert_eq!(found.compression, Some(Compression::Zstd(7)));
        assert_eq!(found.annotations["A.b"], "c");
        let (found, _) = image("type=oci,compression=uncompressed").unwrap();
        assert_eq!(found.compression, Some(Compression::None));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (spec, expected) in [
            ("type=image,dest=x", "goes to no file"),
            ("type=image,x=y", "no `x`"),
            ("type=local,dest=x,name=a", "no `name`"),
            ("type=image,push=maybe", "push=`maybe`"),
            ("type=image,name=A/B", "--output name"),
            ("type=image,compression=lz4", "compression `lz4`"),
            (
                "type=image,compression=gzip,compression-level=77",
                "compression `gzip:77`",
            ),
            ("type=image,compression=estargz", "estargz"),
            ("type=image,unpack=true", "unpack"),
            ("type=image,name=a,b", "`b` is no"),
            ("type=image,\"name=a", "never closed"),
        ] {
            let error = image(spec).map(|_| ()).unwrap_err();
            assert!(
                error.message().contains(expected),
                "{spec}: {}",
                error.message()
            );
        }
    }
}
