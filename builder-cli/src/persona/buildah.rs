//! `buildah`: `bud` and `build`, and the commands about images.

use super::scan::{Flag, Scanned, Take, scan, switch, value};
use super::{Line, refuse, version};
use builder_core::Result;

const NO_CONTAINERS: &str =
    "rbuild has no working containers: a Dockerfile says what is to be done";
const NO_STORAGE: &str =
    "the store of rbuild has one form; `--root DIR` of rbuild's own says where it is";

/// Flags of all commands.
const COMMON: &[Flag] = &[
    switch(&["--tls-verify"], Take::Own),
    value(&["--authfile"], Take::Own),
    value(
        &["--cert-dir"],
        Take::Refuse(
            "certificates are looked for in `/etc/docker/certs.d` and `/etc/containers/certs.d`",
        ),
    ),
    value(&["--creds"], Take::Refuse("log in with `buildah login`")),
    switch(&["--quiet", "-q"], Take::As("--quiet")),
    value(&["--log-level"], Take::Drop),
    value(&["--root"], Take::As("--root")),
    value(&["--runroot"], Take::Drop),
    value(&["--storage-driver"], Take::Drop),
    value(&["--storage-opt"], Take::Refuse(NO_STORAGE)),
    value(&["--registries-conf"], Take::Own),
    value(
        &["--signature-policy"],
        Take::Refuse("signatures are not checked"),
    ),
    value(&["--platform"], Take::As("--platform")),
    value(&["--retry"], Take::Drop),
    value(&["--retry-delay"], Take::Drop),
];

/// Flags of `build`.
const BUILD: &[Flag] = &[
    value(&["--tag", "-t"], Take::As("--tag")),
    value(&["--file", "-f"], Take::As("--file")),
    value(&["--build-arg"], Take::As("--build-arg")),
    value(&["--build-context"], Take::As("--build-context")),
    value(&["--target"], Take::As("--target")),
    value(&["--label"], Take::As("--label")),
    value(&["--annotation"], Take::As("--annotation")),
    value(&["--secret"], Take::As("--secret")),
    value(&["--ssh"], Take::As("--ssh")),
    value(&["--network", "--net"], Take::As("--network")),
    value(&["--add-host"], Take::As("--add-host")),
    value(&["--iidfile"], Take::As("--iidfile")),
    value(&["--ignorefile"], Take::As("--ignorefile")),
    value(&["--timestamp"], Take::As("--source-date-epoch")),
    value(&["--source-date-epoch"], Take::As("--source-date-epoch")),
    value(&["--jobs"], Take::As("--jobs")),
    value(&["--shm-size"], Take::As("--shm-size")),
    value(&["--ulimit"], Take::As("--ulimit")),
    value(&["--memory", "-m"], Take::As("--memory")),
    value(&["--cgroup-parent"], Take::As("--cgroup-parent")),
    value(&["--output", "-o"], Take::As("--output")),
    value(&["--format"], Take::Own),
    value(&["--arch"], Take::Own),
    value(&["--os"], Take::Own),
    value(&["--variant"], Take::Own),
    value(&["--cache-from"], Take::Own),
    value(&["--cache-to"], Take::Own),
    value(&["--isolation"], Take::Drop),
    value(&["--runtime"], Take::Drop),
    value(&["--logfile"], Take::Refuse("redirect standard error")),
    value(
        &["--manifest"],
        Take::Refuse("build once for each platform, and join them with a tool of your registry"),
    ),
    value(
        &["--cap-add"],
        Take::Refuse("RUN has the rights of its caller"),
    ),
    value(&["--cap-drop"], Take::Drop),
    value(
        &["--device"],
        Take::Refuse("RUN has the devices of a container"),
    ),
    value(
        &["--volume", "-v"],
        Take::Refuse("use RUN --mount, or COPY --from with `--build-context`"),
    ),
    value(&["--security-opt"], Take::Drop),
    value(&["--userns"], Take::Drop),
    value(&["--env"], Take::Refuse("write ENV into the Dockerfile")),
    value(&["--from"], Take::Refuse("make the FROM line an ARG")),
    switch(&["--layers"], Take::Drop),
    switch(&["--rm"], Take::Drop),
    switch(&["--force-rm"], Take::Drop),
    switch(&["--no-cache"], Take::As("--no-cache")),
    switch(&["--pull"], Take::Own),
    switch(&["--pull-always"], Take::As("--pull=always")),
    switch(&["--pull-never"], Take::As("--pull=never")),
    switch(&["--squash"], Take::As("--squash")),
    switch(&["--squash-all"], Take::As("--squash")),
    switch(&["--disable-compression", "-D"], Take::Own),
    switch(&["--identity-label"], Take::Drop),
    switch(
        &["--omit-history"],
        Take::Refuse("an image tells how it came to be"),
    ),
    switch(&["--compress"], Take::Drop),
    switch(&["--disable-content-trust"], Take::Drop),
];

/// Flags of the others.
const OTHERS: &[Flag] = &[
    switch(&["--all", "-a"], Take::As("--all")),
    switch(&["--force", "-f"], Take::As("--force")),
    switch(&["--digests"], Take::As("--digests")),
    switch(&["--no-trunc"], Take::As("--no-trunc")),
    switch(&["--prune", "-p"], Take::Refuse("use `rbuild prune`")),
    switch(&["--json"], Take::As("--format=json")),
    switch(&["--noheading", "-n"], Take::Refuse("use `--format`")),
    value(&["--filter"], Take::As("--filter")),
    value(&["--format"], Take::Own),
    value(&["--digestfile"], Take::Own),
    value(&["--username", "-u"], Take::As("--username")),
    value(&["--password", "-p"], Take::As("--password")),
    switch(&["--password-stdin"], Take::As("--password-stdin")),
    switch(&["--remove-signatures"], Take::Drop),
    value(&["--sign-by"], Take::Refuse("images are not signed")),
];

/// Translates a line of `buildah`.
pub(super) fn line(words: Vec<String>) -> Result<Line> {
    let global = scan("buildah", words, COMMON, true)?;
    let command = global.rest.first().map_or("", String::as_str);
    let rest: Vec<String> = global.rest.iter().skip(1).cloned().collect();
    let mut line = match command {
        "" | "help" | "--help" | "-h" => Line::of(vec!["help".to_owned()]),
        "version" | "--version" | "-v" => Line::answer(version()),
        "bud" | "build" | "build-using-dockerfile" => build(rest)?,
        "push" => push(rest)?,
        "images" | "tag" | "rmi" | "pull" | "login" | "logout" => other(command, rest)?,
        "prune" => Line::of(vec!["prune".to_owned()]),
        "add" | "commit" | "config" | "containers" | "copy" | "from" | "mount" | "rename"
        | "rm" | "run" | "umount" | "unmount" => {
            let help = "write a Dockerfile, and build it with `buildah build`; a directory becomes an image with `rbuild commit`";
            return Err(refuse(&format!("buildah {command}"), NO_CONTAINERS, help));
        }
        other => {
            let help = "what is there: build (bud), push, pull, images, tag, rmi, login, logout";
            return Err(refuse(
                &format!("buildah {other}"),
                "rbuild has no such command",
                help,
            ));
        }
    };
    line.variables.extend(variables(&global));
    line.words.extend(global.out);
    Ok(line)
}

fn variables(scanned: &Scanned) -> Vec<(&'static str, String)> {
    let pairs = [
        ("--authfile", "REGISTRY_AUTH_FILE"),
        ("--registries-conf", "CONTAINERS_REGISTRIES_CONF"),
    ];
    let found = pairs.iter().filter_map(|(flag, name)| {
        let value = scanned.last(flag)?.to_owned();
        Some((*name, value))
    });
    found.collect()
}

fn tables(own: &[Flag]) -> Vec<Flag> {
    own.iter().chain(COMMON).copied().collect()
}

/// Registries without TLS: all of them, as the flag has it.
fn insecure(scanned: &Scanned, out: &mut Vec<String>) {
    if scanned.last("--tls-verify").is_some() && !scanned.is_on("--tls-verify") {
        out.extend(["0.0.0.0/0", "::/0"].map(|all| format!("--insecure-registry={all}")));
    }
}

fn build(words: Vec<String>) -> Result<Line> {
    let scanned = scan("buildah build", words, &tables(BUILD), false)?;
    let mut out = vec!["build".to_owned()];
    out.extend(scanned.out.iter().cloned());
    insecure(&scanned, &mut out);
    let has_output = out.iter().any(|word| word.starts_with("--output="));
    if !has_output {
        out.push("--output=type=image".to_owned());
    }
    match scanned.last("--format") {
        None | Some("oci") => {}
        Some("docker") => out.push("--docker-media-types".to_owned()),
        Some(other) => {
            let what = format!("buildah build --format={other}");
            return Err(refuse(
                &what,
                "there are `oci` and `docker`",
                "write one of them",
            ));
        }
    }
    if let Some(pull) = scanned.last("--pull") {
        let when = match pull {
            "true" | "always" => "always",
            "never" => "never",
            // A newer image is what asking tells of.
            "newer" | "ifnewer" => "always",
            _ => "missing",
        };
        out.push(format!("--pull={when}"));
    }
    if let Some(arch) = scanned.last("--arch") {
        let os = scanned.last("--os").unwrap_or("linux");
        let variant = scanned
            .last("--variant")
            .map(|variant| format!("/{variant}"));
        out.push(format!(
            "--platform={os}/{arch}{}",
            variant.unwrap_or_default()
        ));
    }
    if scanned.is_on("--disable-compression") {
        out.push("--compression=none".to_owned());
    }
    // buildah names a repository, rbuild a kind of cache.
    for flag in ["--cache-from", "--cache-to"] {
        out.extend(
            scanned
                .all(flag)
                .map(|name| format!("{flag}=type=registry,ref={name}")),
        );
    }
    let context = scanned.rest.first().cloned();
    out.push(context.unwrap_or_else(|| ".".to_owned()));
    Ok(Line {
        words: out,
        variables: variables(&scanned),
        answer: None,
    })
}

fn push(words: Vec<String>) -> Result<Line> {
    let scanned = scan("buildah push", words, &tables(OTHERS), false)?;
    let docker = scanned
        .last("--format")
        .is_some_and(|format| matches!(format, "docker" | "v2s2"));
    if docker {
        let help = "build with `--format docker`: an image is pushed as it is";
        return Err(refuse(
            "buildah push --format=docker",
            "it would be another image",
            help,
        ));
    }
    let mut flags = scanned.out.clone();
    flags.retain(|flag| flag != "--all");
    insecure(&scanned, &mut flags);
    let image = scanned.rest.first().cloned().unwrap_or_default();
    let to = scanned.rest.get(1).cloned();
    let digest_file = scanned.last("--digestfile");
    let mut out = Vec::new();
    match (to, digest_file) {
        (None, None) => out.extend(["push".to_owned(), image]),
        (to, _) => {
            let to = to.unwrap_or_else(|| image.clone());
            let is_place = to.contains("://")
                || ["oci:", "oci-archive:", "docker-archive:", "dir:"]
                    .iter()
                    .any(|one| to.starts_with(one));
            let to = if is_place {
                to
            } else {
                format!("docker://{to}")
            };
            out.extend(["copy".to_owned(), image, to]);
            out.extend(digest_file.map(|file| format!("--digestfile={file}")));
        }
    }
    out.extend(flags);
    Ok(Line {
        words: out,
        variables: variables(&scanned),
        answer: None,
    })
}

fn other(command: &str, words: Vec<String>) -> Result<Line> {
    let scanned = scan(&format!("buildah {command}"), words, &tables(OTHERS), false)?;
    let mut out = vec![command.to_owned()];
    out.extend(scanned.out.iter().cloned());
    out.extend(
        scanned
            .last("--format")
            .map(|format| format!("--format={format}")),
    );
    if matches!(command, "pull" | "login") {
        insecure(&scanned, &mut out);
    }
    out.extend(
        scanned
            .rest
            .iter()
            .map(|name| name.strip_prefix("docker://").unwrap_or(name).to_owned()),
    );
    Ok(Line {
        words: out,
        variables: variables(&scanned),
        answer: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(text: &str) -> Option<String> {
        let words = text.split(' ').map(str::to_owned).collect();
        let line = line(words).ok()?;
        Some(line.answer.unwrap_or_else(|| line.words.join(" ")))
    }

    #[test]
    fn lines_of_scripts_are_understood() {
        const ANY: &str = "--insecure-registry=0.0.0.0/0 --insecure-registry=::/0";
        for (text, expected) in [
            (
                "bud -t app .",
                Some("build --tag=app --output=type=image .".to_owned()),
            ),
            ("bud", Some("build --output=type=image .".to_owned())),
            (
                "build --isolation chroot --layers --storage-driver vfs -f D --build-arg A=1 --format docker x",
                Some(
                    "build --file=D --build-arg=A=1 --output=type=image --docker-media-types x"
                        .to_owned(),
                ),
            ),
            (
                "bud --tls-verify=false --arch arm64 --variant v8 --cache-from r.io/c .",
                Some(format!(
                    "build {ANY} --output=type=image --platform=linux/arm64/v8 --cache-from=type=registry,ref=r.io/c ."
                )),
            ),
            (
                "bud -qtapp .",
                Some("build --quiet --tag=app --output=type=image .".to_owned()),
            ),
            ("push r.io/app", Some("push r.io/app".to_owned())),
            (
                "push app docker://r.io/app:1",
                Some("copy app docker://r.io/app:1".to_owned()),
            ),
            (
                "push app r.io/app:1",
                Some("copy app docker://r.io/app:1".to_owned()),
            ),
            (
                "push --digestfile d app oci:dir:1",
                Some("copy app oci:dir:1 --digestfile=d".to_owned()),
            ),
            (
                "push --tls-verify=false app",
                Some(format!("push app {ANY}")),
            ),
            (
                "--storage-driver vfs images -q",
                Some("images --quiet".to_owned()),
            ),
            ("pull docker://r.io/app", Some("pull r.io/app".to_owned())),
            (
                "login -u me --password-stdin r.io",
                Some("login --username=me --password-stdin r.io".to_owned()),
            ),
            ("rmi -fa", Some("rmi --force --all".to_owned())),
            ("from alpine", None),
            ("run c ls", None),
            ("mount c", None),
            ("copy c a b", None),
            ("bud --volume a:b .", None),
            ("bud --nonsense", None),
            ("bud -t", None),
            ("frobnicate", None),
        ] {
            assert_eq!(translated(text), expected, "{text}");
        }
        let words = ["push", "--authfile", "/a", "x"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(
            line(words).unwrap().variables,
            [("REGISTRY_AUTH_FILE", "/a".to_owned())]
        );
    }
}
