//! Flags and environment -> a request that the library takes. All refusals about flags are here.

mod cache;
mod contexts;
mod docker;
mod elsewhere;
pub(crate) mod fields;
mod image_output;
mod inside;
mod limits;
mod outputs;
mod run;
pub(crate) mod session;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use builder_core::build::git::GitOptions;
use builder_core::build::request::{BuildRequest, PullPolicy};
use builder_core::interrupt::Interrupt;
use builder_core::layer::Compression;
use builder_core::platform::Platform;
use builder_core::reference::Reference;
use builder_core::timestamp::Timestamp;
use builder_core::{Error, ErrorKind, Result};

use crate::engine::Wish;
use crate::environment::Environment;
use crate::flags::BuildFlags;
use crate::network;

pub(crate) use contexts::Input;
pub(crate) use run::isolation;

/// An error about the command line.
fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}

/// Makes the request. `input` is what was read of the context and the Dockerfile.
pub(crate) fn make(
    flags: &BuildFlags,
    environment: &Environment,
    input: Input,
    interrupt: &Interrupt,
) -> Result<BuildRequest> {
    docker::refuse(&flags.docker)?;
    let mut references = references(&flags.tags)?;
    let mut request = BuildRequest::new(input.dockerfile, input.context, environment.now);
    request.named_contexts = contexts::named(&flags.build_contexts, environment)?;
    request.build_args = build_args(&flags.build_args, environment)?;
    request.target.clone_from(&flags.target);
    request.platform = flags.platform.as_deref().map(platform).transpose()?;
    request.labels = pairs("label", &flags.labels)?;
    request.annotations = pairs("annotation", &flags.annotations)?
        .into_iter()
        .collect();
    request.threads = flags.jobs.unwrap_or(environment.processors).max(1);
    request.jobs = request.threads;
    request.no_cache = flags.docker.no_cache;
    request
        .no_cache_filter
        .clone_from(&flags.docker.no_cache_filter);
    let caches = cache::parse(
        &flags.docker.cache_from,
        &flags.docker.cache_to,
        &request.build_args,
        &environment.directory,
    )?;
    (request.cache_from, request.cache_to) = (caches.from, caches.to);
    let caches_compression = caches.compression;
    request.run = run::options(&flags.run, environment)?;
    epoch(flags, environment, &mut request);
    request.ignore_syntax = flags.ignore_syntax;
    let parsed = outputs::parse(
        &flags.outputs,
        (flags.push, load(flags).is_some()),
        &mut references,
        environment,
    )?;
    request.outputs = parsed.outputs;
    let image = parsed.image;
    request.push = image.push;
    request.annotations.extend(image.annotations);
    request.compression = one_compression(
        flags.compression.as_deref().map(compression).transpose()?,
        image.compression,
        caches_compression,
    )?;
    request.form = image.form;
    request.form.docker_types |= flags.docker_media_types;
    request.pull = pull(flags.pull.as_ref())?;
    request.registry = Some(network::registries(
        &flags.registry,
        environment,
        interrupt,
    )?);
    if let (true, Some(access)) = (image.insecure, &mut request.registry) {
        let hosts = references.iter().map(|one| one.registry().to_owned());
        access.options.insecure.extend(hosts);
    }
    request.references = references;
    request.git = git(environment);
    request.transport = Some(network::transport(environment, interrupt)?);
    Ok(request)
}

/// The engine that the image is handed to.
pub(crate) fn load(flags: &BuildFlags) -> Option<Wish> {
    flags.docker.load.as_deref().and_then(Wish::parse)
}

/// How git is called: with everything that the environment tells it about credentials and proxies.
fn git(environment: &Environment) -> GitOptions {
    let variables = environment
        .variables
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()));
    GitOptions {
        program: PathBuf::from("git"),
        environment: variables.collect(),
    }
}

/// `--pull` alone is `--pull=always`, as in Docker's.
fn pull(given: Option<&Option<String>>) -> Result<PullPolicy> {
    match given.map(|when| when.as_deref().unwrap_or("always")) {
        None | Some("missing" | "false") => Ok(PullPolicy::Missing),
        Some("always" | "true") => Ok(PullPolicy::Always),
        Some("never") => Ok(PullPolicy::Never),
        Some(other) => Err(usage(format!("--pull=`{other}` is unknown"))
            .with_help("write always, missing or never")),
    }
}

fn references(tags: &[String]) -> Result<Vec<Reference>> {
    let mut references = Vec::new();
    for tag in tags {
        let reference = Reference::from_str(tag).map_err(|error| {
            let help = tag.to_lowercase();
            let better = Reference::from_str(&help).is_ok() && help != *tag;
            let error = usage(format!("--tag: {error}"));
            if better {
                error.with_help(format!("write `{help}`"))
            } else {
                error.with_help("write `[REGISTRY/]REPOSITORY[:TAG]`")
            }
        })?;
        if reference.digest().is_some() {
            return Err(usage(format!(
                "--tag `{tag}` has a digest, which only the build itself can give"
            )));
        }
        if !references.contains(&reference) {
            references.push(reference);
        }
    }
    Ok(references)
}

/// `NAME=VALUE`, or `NAME` alone for the value of a variable; one that isn't set is left out, as Docker does.
fn build_args(given: &[String], environment: &Environment) -> Result<BTreeMap<String, String>> {
    let mut arguments = docker::proxies(environment);
    for argument in given {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (
                argument.as_str(),
                environment.text(argument).map(str::to_owned),
            ),
        };
        if name.is_empty() {
            return Err(usage(format!("--build-arg `{argument}` has no name"))
                .with_help("write `--build-arg NAME=VALUE`"));
        }
        if let Some(value) = value {
            arguments.insert(name.to_owned(), value);
        }
    }
    Ok(arguments)
}

fn pairs(flag: &str, given: &[String]) -> Result<Vec<(String, String)>> {
    let split = |pair: &String| match pair.split_once('=') {
        Some(("", _)) => Err(usage(format!("--{flag} `{pair}` has no name"))
            .with_help(format!("write `--{flag} NAME=VALUE`"))),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Ok((pair.clone(), String::new())),
    };
    given.iter().map(split).collect()
}

fn platform(text: &str) -> Result<Platform> {
    if text.contains(',') {
        return Err(usage(
            "--platform names several platforms, and this version builds one at a time",
        )
        .with_help("build once for each platform"));
    }
    let parsed = if text == "local" {
        Ok(Platform::host())
    } else {
        text.parse()
    };
    parsed.map_err(|error| usage(format!("--platform: {error}")))
}

/// `gzip`, `gzip:6`, `zstd`, `zstd:3`, `none`.
pub(crate) fn compression(text: &str) -> Result<Compression> {
    let problem = || {
        usage(format!("--compression `{text}` is unknown"))
            .with_help("write gzip, gzip:0 to gzip:9, zstd, zstd:1 to zstd:19, or none")
    };
    let (kind, level) = text
        .split_once(':')
        .map_or((text, None), |(kind, level)| (kind, Some(level)));
    let level = level
        .map(str::parse::<i32>)
        .transpose()
        .map_err(|_| problem())?;
    match (kind, level) {
        ("gzip", None) => Ok(Compression::DEFAULT),
        ("gzip", Some(level @ 0..=9)) => Ok(Compression::Gzip(level.unsigned_abs())),
        ("zstd", None) => Ok(Compression::Zstd(3)),
        ("zstd", Some(level @ 1..=19)) => Ok(Compression::Zstd(level)),
        ("none" | "uncompressed", None) => Ok(Compression::None),
        _ => Err(problem()),
    }
}

/// One build makes one blob of a layer, for outputs, registries and caches: a wish of one of them holds for all, and two
/// that differ are none.
fn one_compression(
    flag: Option<Compression>,
    output: Option<Compression>,
    cache: Option<Compression>,
) -> Result<Compression> {
    let mut wishes = [flag, output, cache].into_iter().flatten();
    let first = wishes.next();
    if wishes.any(|other| Some(other) != first) {
        return Err(
            usage("--compression, --output and --cache-to want different compressions")
                .with_help("one build makes one blob of each layer: name one of them"),
        );
    }
    Ok(first.unwrap_or(Compression::DEFAULT))
}

/// `--source-date-epoch`, or else the variable: a number, or a word that says what is as old, which is for the plan to
/// understand. A build argument comes before both.
fn epoch(flags: &BuildFlags, environment: &Environment, request: &mut BuildRequest) {
    let variable = environment.text("SOURCE_DATE_EPOCH");
    let given = flags.source_date_epoch.as_deref().or(variable);
    let Some(text) = given.map(str::trim).filter(|text| !text.is_empty()) else {
        return;
    };
    if let Ok(seconds) = text.parse() {
        request.epoch = Some(Timestamp::from_seconds(seconds));
        return;
    }
    let given = request.build_args.entry("SOURCE_DATE_EPOCH".to_owned());
    given.or_insert_with(|| text.to_owned());
}

/// The default output: `NAME.tar` in the working directory, of the last component of the first tag.
fn default_output(references: &[Reference], directory: &Path) -> PathBuf {
    let name = references
        .first()
        .map_or("image", Reference::last_component);
    directory.join(format!("{name}.tar"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_has_levels() {
        for (text, expected) in [
            ("gzip", Some(Compression::DEFAULT)),
            ("gzip:9", Some(Compression::Gzip(9))),
            ("zstd", Some(Compression::Zstd(3))),
            ("zstd:19", Some(Compression::Zstd(19))),
            ("none", Some(Compression::None)),
            ("gzip:10", None),
            ("zstd:0", None),
            ("none:1", None),
            ("lz4", None),
        ] {
            assert_eq!(compression(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn the_default_output_is_named_after_the_first_tag() {
        let references: Vec<Reference> = vec!["registry.example.com/team/app:1.2".parse().unwrap()];
        assert_eq!(
            default_output(&references, Path::new("/w")),
            Path::new("/w/app.tar")
        );
        assert_eq!(
            default_output(&[], Path::new("/w")),
            Path::new("/w/image.tar")
        );
    }
}
