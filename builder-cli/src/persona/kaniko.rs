//! kaniko's `executor`: one build that ends in registries, a tarball or a layout.

use std::path::Path;

use super::scan::{Flag, Scanned, Take, scan, switch, value};
use super::{Line, refuse, version};
use crate::environment::Environment;
use builder_core::Result;

/// Where kaniko looks for the context, and for credentials.
const CONTEXT: &str = "/workspace";
const CREDENTIALS: &str = "/kaniko/.docker";

const FLAGS: &[Flag] = &[
    value(&["--context", "-c"], Take::Own),
    value(&["--context-sub-path"], Take::Own),
    value(&["--dockerfile", "-f"], Take::Own),
    value(&["--destination", "-d"], Take::Own),
    value(&["--build-arg"], Take::As("--build-arg")),
    value(&["--target"], Take::As("--target")),
    value(&["--label"], Take::As("--label")),
    value(&["--annotation"], Take::As("--annotation")),
    value(
        &["--custom-platform", "--customPlatform"],
        Take::As("--platform"),
    ),
    value(&["--digest-file"], Take::As("--iidfile")),
    value(&["--registry-mirror"], Take::As("--registry-mirror")),
    value(&["--registry-map"], Take::Own),
    value(&["--insecure-registry"], Take::As("--insecure-registry")),
    value(
        &["--skip-tls-verify-registry"],
        Take::As("--insecure-registry"),
    ),
    value(&["--tar-path", "--tarPath"], Take::Own),
    value(&["--oci-layout-path"], Take::Own),
    value(&["--cache-repo"], Take::Own),
    value(&["--compression"], Take::Own),
    value(&["--compression-level"], Take::Own),
    switch(&["--cache"], Take::Own),
    switch(&["--no-push"], Take::Own),
    switch(&["--no-push-cache"], Take::Own),
    switch(&["--reproducible"], Take::Own),
    switch(&["--insecure"], Take::Own),
    switch(&["--insecure-pull"], Take::Own),
    switch(&["--skip-tls-verify"], Take::Own),
    switch(&["--skip-tls-verify-pull"], Take::Own),
    // What rbuild does in any case, or what is about how kaniko works.
    value(&["--cache-dir"], Take::Drop),
    value(&["--cache-ttl"], Take::Drop),
    switch(&["--cache-copy-layers"], Take::Drop),
    switch(&["--cache-run-layers"], Take::Drop),
    switch(&["--compressed-caching"], Take::Drop),
    switch(&["--cleanup"], Take::Drop),
    switch(&["--pre-cleanup"], Take::Drop),
    switch(&["--preserve-context"], Take::Drop),
    switch(&["--force"], Take::Drop),
    switch(&["--skip-unused-stages"], Take::Drop),
    switch(&["--skip-push-permission-check"], Take::Drop),
    switch(&["--use-new-run"], Take::Drop),
    switch(&["--ignore-var-run", "--whitelist-var-run"], Take::Drop),
    switch(&["--log-timestamp"], Take::Drop),
    value(&["--log-format"], Take::Drop),
    value(&["--verbosity", "-v"], Take::Drop),
    value(&["--snapshot-mode", "--snapshotMode"], Take::Drop),
    value(&["--kaniko-dir"], Take::Drop),
    value(&["--push-retry"], Take::Drop),
    value(&["--image-download-retry"], Take::Drop),
    value(&["--image-fs-extract-retry"], Take::Drop),
    switch(
        &["--push-ignore-immutable-tag-errors"],
        Take::Refuse("a push that is refused has failed"),
    ),
    switch(
        &["--single-snapshot"],
        Take::Refuse("a step is a layer; use several stages to leave files behind"),
    ),
    value(
        &["--ignore-path"],
        Take::Refuse("use RUN --mount=type=cache or tmpfs for what is not to be in the image"),
    ),
    value(
        &["--git"],
        Take::Refuse(
            "write the branch into the context: `git://HOST/REPOSITORY#refs/heads/BRANCH`",
        ),
    ),
    value(
        &["--image-name-with-digest-file"],
        Take::Refuse("use `--digest-file`"),
    ),
    value(
        &["--image-name-tag-with-digest-file"],
        Take::Refuse("use `--digest-file`"),
    ),
    value(
        &["--registry-certificate"],
        Take::Refuse("put the CA into `/etc/docker/certs.d/HOST/ca.crt`"),
    ),
    value(
        &["--registry-client-cert"],
        Take::Refuse("put it into `/etc/docker/certs.d/HOST/`"),
    ),
    value(
        &["--credential-helpers"],
        Take::Refuse("helpers are named in Docker's `config.json`"),
    ),
    switch(
        &["--skip-default-registry-fallback"],
        Take::Refuse("a registry is asked where its mirrors fail"),
    ),
];

/// Translates a line of the executor.
pub(super) fn line(words: Vec<String>, environment: &Environment) -> Result<Line> {
    match words.first().map(String::as_str) {
        Some("version") => return Ok(Line::answer(version())),
        Some("--help" | "-h" | "help") => {
            return Ok(Line::of(vec!["help".to_owned(), "build".to_owned()]));
        }
        _ => {}
    }
    let scanned = scan("executor", words, FLAGS, false)?;
    if let Some(word) = scanned.rest.first() {
        return Err(refuse(
            &format!("executor {word}"),
            "kaniko's executor takes flags alone",
            "write `--context`, `--dockerfile`, `--destination`",
        ));
    }
    let mut out = vec!["build".to_owned()];
    out.extend(scanned.out.iter().cloned());
    let context = context(&scanned)?;
    out.extend(dockerfile(&scanned, &context, environment));
    destinations(&scanned, &mut out)?;
    caches(&scanned, &mut out)?;
    if scanned.is_on("--reproducible") {
        out.push("--source-date-epoch=0".to_owned());
    }
    let any = [
        "--insecure",
        "--insecure-pull",
        "--skip-tls-verify",
        "--skip-tls-verify-pull",
    ];
    if any.iter().any(|flag| scanned.is_on(flag)) {
        out.extend(["0.0.0.0/0", "::/0"].map(|all| format!("--insecure-registry={all}")));
    }
    for map in scanned
        .all("--registry-map")
        .flat_map(|maps| maps.split(';'))
    {
        let (from, to) = map.split_once('=').unwrap_or((map, ""));
        out.push(format!("--registry-mirror={from}=https://{to}"));
    }
    match (
        scanned.last("--compression"),
        scanned.last("--compression-level"),
    ) {
        (None, None) => {}
        (kind, None) => out.push(format!("--compression={}", kind.unwrap_or("gzip"))),
        (kind, Some(level)) => {
            out.push(format!("--compression={}:{level}", kind.unwrap_or("gzip")));
        }
    }
    out.push(context);
    let credentials = Path::new(CREDENTIALS).join("config.json");
    let variables = match environment.path("DOCKER_CONFIG") {
        None if credentials.is_file() => vec![("DOCKER_CONFIG", CREDENTIALS.to_owned())],
        _ => Vec::new(),
    };
    Ok(Line {
        words: out,
        variables,
        answer: None,
    })
}

/// The context as rbuild takes it, with the directory in it.
fn context(scanned: &Scanned) -> Result<String> {
    let given = scanned.last("--context").unwrap_or(CONTEXT);
    let below = scanned.last("--context-sub-path").unwrap_or_default();
    let (kind, rest) = given.split_once("://").unwrap_or(("dir", given));
    let context = match kind {
        "dir" => Path::new(rest).join(below).display().to_string(),
        "git" | "https" | "http" => {
            let url = if kind == "git" {
                format!("https://{rest}")
            } else {
                given.to_owned()
            };
            match (url.contains('#'), below) {
                (_, "") => url,
                (true, below) => format!("{url}:{below}"),
                (false, below) => format!("{url}#:{below}"),
            }
        }
        "tar" if rest == "stdin" || rest == "/stdin" => "-".to_owned(),
        "tar" => {
            return Err(refuse(
                &format!("executor --context {given}"),
                "a tarball is read from standard input or a URL",
                &format!("write `--context tar://stdin < {rest}`"),
            ));
        }
        _ => {
            return Err(refuse(
                &format!("executor --context {given}"),
                "rbuild has no client for that storage",
                "fetch it first, and name a directory; git and https URLs are taken",
            ));
        }
    };
    Ok(context)
}

/// The Dockerfile: below the context, or where it is.
fn dockerfile(scanned: &Scanned, context: &str, environment: &Environment) -> Option<String> {
    let file = scanned.last("--dockerfile")?;
    let below = Path::new(context).join(file);
    let is_remote = context == "-" || context.contains("://");
    let path = if is_remote || !environment.directory.join(&below).exists() {
        file.to_owned()
    } else {
        below.display().to_string()
    };
    Some(format!("--file={path}"))
}

fn destinations(scanned: &Scanned, out: &mut Vec<String>) -> Result<()> {
    let names: Vec<&str> = scanned.all("--destination").collect();
    let pushes = !scanned.is_on("--no-push");
    if names.is_empty() && pushes {
        return Err(refuse(
            "executor",
            "it has neither a destination nor `--no-push`",
            "write `--destination REGISTRY/REPOSITORY:TAG`",
        ));
    }
    out.extend(names.iter().map(|name| format!("--tag={name}")));
    if pushes {
        out.push("--push".to_owned());
    }
    let mut files = Vec::new();
    if let Some(path) = scanned.last("--tar-path") {
        files.push(format!("--output=type=docker,dest={path}"));
    }
    if let Some(path) = scanned.last("--oci-layout-path") {
        files.push(format!("--output=type=oci-dir,dest={path}"));
    }
    if files.is_empty() && !pushes {
        files.push("--output=type=image".to_owned());
    }
    out.extend(files);
    Ok(())
}

/// kaniko's cache is a repository: the one that is named, or `cache` below the first destination.
fn caches(scanned: &Scanned, out: &mut Vec<String>) -> Result<()> {
    if !scanned.is_on("--cache") {
        return Ok(());
    }
    let repository = match (scanned.last("--cache-repo"), scanned.last("--destination")) {
        (Some(repository), _) => repository.to_owned(),
        (None, Some(name)) => {
            let name: builder_core::reference::Reference = name.parse().map_err(|error| {
                refuse(
                    "executor --destination",
                    &format!("{error}"),
                    "write `REGISTRY/REPOSITORY:TAG`",
                )
            })?;
            format!("{}/{}/cache", name.registry(), name.repository())
        }
        (None, None) => {
            return Err(refuse(
                "executor --cache",
                "there is neither a destination nor a repository for it",
                "write `--cache-repo REGISTRY/REPOSITORY`",
            ));
        }
    };
    if let Some(path) = repository.strip_prefix("oci:") {
        out.push(format!("--cache-from=type=local,src={path}"));
        out.push(format!("--cache-to=type=local,dest={path},mode=max"));
        return Ok(());
    }
    out.push(format!("--cache-from=type=registry,ref={repository}"));
    if !scanned.is_on("--no-push-cache") {
        out.push(format!(
            "--cache-to=type=registry,ref={repository},mode=max"
        ));
    }
    Ok(())
}
