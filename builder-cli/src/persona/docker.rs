//! `docker` and `docker buildx`: most command lines are rbuild's own.

use super::scan::{Take, scan, switch, value};
use super::{Line, refuse, version};
use builder_core::Result;

/// Commands that are rbuild's own.
const SAME: &[&str] = &[
    "history", "images", "inspect", "load", "login", "logout", "pull", "push", "rmi", "run",
    "save", "tag",
];

/// Commands about what rbuild doesn't have, and why.
const NONE: &[(&[&str], &str)] = &[
    (
        &[
            "attach",
            "commit",
            "container",
            "cp",
            "create",
            "diff",
            "exec",
            "export",
            "kill",
            "logs",
            "pause",
            "port",
            "ps",
            "rename",
            "restart",
            "rm",
            "start",
            "stats",
            "stop",
            "top",
            "unpause",
            "update",
            "wait",
        ],
        "rbuild keeps no containers",
    ),
    (
        &[
            "compose", "config", "node", "secret", "service", "stack", "swarm",
        ],
        "rbuild runs no services",
    ),
    (
        &[
            "network",
            "volume",
            "plugin",
            "checkpoint",
            "events",
            "search",
            "trust",
            "context",
            "manifest",
        ],
        "there is no engine behind it",
    ),
];

/// The flags before the command.
const GLOBAL: &[super::scan::Flag] = &[
    value(&["--config"], Take::Own),
    value(&["--context", "-c"], Take::Own),
    value(&["--host", "-H"], Take::Own),
    value(&["--log-level", "-l"], Take::Drop),
    switch(&["--debug", "-D"], Take::Drop),
    switch(&["--version", "-v"], Take::Own),
    switch(&["--tls"], Take::Drop),
    switch(&["--tlsverify"], Take::Drop),
];

/// Translates a line of `docker`.
pub(super) fn line(words: Vec<String>) -> Result<Line> {
    let global = scan("docker", words, GLOBAL, true)?;
    let mut line = of_command(&global.rest)?;
    if global.is_on("--version") {
        line = Line::answer(version());
    }
    for (flag, name) in [
        ("--config", "DOCKER_CONFIG"),
        ("--context", "DOCKER_CONTEXT"),
        ("--host", "DOCKER_HOST"),
    ] {
        let given = global.last(flag).map(str::to_owned);
        line.variables.extend(given.map(|value| (name, value)));
    }
    Ok(line)
}

fn of_command(words: &[String]) -> Result<Line> {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let rest = |from: usize| words.get(from..).unwrap_or_default().to_vec();
    let own = |name: &str, from: usize| {
        let words = std::iter::once(name.to_owned()).chain(rest(from));
        Line::of(words.collect())
    };
    Ok(match (word(0), word(1)) {
        ("" | "help" | "--help" | "-h", _) => Line::of(vec!["help".to_owned()]),
        ("build", _) => build(rest(1)),
        ("image" | "builder" | "buildx", "build") | ("buildx", "b") => build(rest(2)),
        ("buildx", second) => return buildx(second, rest(2)),
        ("image", "ls" | "list") => own("images", 2),
        ("image", "rm" | "remove") => own("rmi", 2),
        ("image", "import") => own("commit", 2),
        ("import", _) => own("commit", 1),
        ("image" | "system" | "builder", "prune") => own("prune", 2),
        ("image", second) if SAME.contains(&second) && second != "run" => own(second, 2),
        ("container", "run") => own("run", 2),
        ("system", "df") => Line::of(vec!["cache".to_owned(), "ls".to_owned()]),
        ("version", _) => Line::answer(version()),
        ("info", _) | ("system", "info") => Line::answer(format!(
            "{}no engine: images are built and kept by rbuild itself\n",
            version()
        )),
        (first, _) if SAME.contains(&first) => own(first, 1),
        (first, second) => {
            let what = format!("docker {first} {second}");
            let known = NONE.iter().find(|(names, _)| names.contains(&first));
            let why = known.map_or("rbuild has no such command", |(_, why)| *why);
            let help = "what is there: build, buildx build, history, images, inspect, load, login, logout, pull, push, rmi, run, save, tag";
            return Err(refuse(what.trim(), why, help));
        }
    })
}

/// Builders are not needed: who makes, chooses or looks at one goes on.
fn buildx(second: &str, rest: Vec<String>) -> Result<Line> {
    match second {
        "create" | "use" | "inspect" | "ls" | "rm" | "stop" => Ok(Line::answer("rbuild\n")),
        "version" => Ok(Line::answer(version())),
        "prune" => {
            let words = std::iter::once("prune".to_owned()).chain(rest);
            Ok(Line::of(words.collect()))
        }
        "du" => Ok(Line::of(vec!["cache".to_owned(), "ls".to_owned()])),
        other => Err(refuse(
            format!("docker buildx {other}").trim(),
            "rbuild has no such command",
            "what is there: buildx build; a builder is not needed",
        )),
    }
}

/// A build leaves its image in the store, where `docker images` and `docker push` find it.
fn build(words: Vec<String>) -> Line {
    let mut out = vec!["build".to_owned()];
    let mut has_output = false;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let (name, value) = word.split_once('=').unwrap_or((&word, "true"));
        match name {
            // The store is where Docker's would be.
            "--load" | "--compress" | "--disable-content-trust" => continue,
            "--builder" => {
                if word == "--builder" {
                    words.next();
                }
                continue;
            }
            // A switch has a value with Go's flags.
            "--push" | "--no-cache" | "--quiet" | "--squash" | "--check" => {
                if value != "false" {
                    has_output |= name == "--push";
                    out.push(name.to_owned());
                }
                continue;
            }
            "-o" | "--output" => has_output = true,
            _ => has_output |= word.starts_with("-o"),
        }
        out.push(word);
    }
    if !has_output {
        out.insert(1, "--output=type=image".to_owned());
    }
    Line::of(out)
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
        for (text, expected) in [
            ("build -t app .", Some("build --output=type=image -t app .")),
            (
                "buildx build --load --builder x -t app .",
                Some("build --output=type=image -t app ."),
            ),
            (
                "buildx build --builder=x --push -t r.io/app .",
                Some("build --push -t r.io/app ."),
            ),
            (
                "buildx build -o type=oci,dest=x .",
                Some("build -o type=oci,dest=x ."),
            ),
            (
                "image build --push=false .",
                Some("build --output=type=image ."),
            ),
            ("-D --config /c push r.io/app", Some("push r.io/app")),
            ("images -q", Some("images -q")),
            ("image ls -q", Some("images -q")),
            ("image rm a", Some("rmi a")),
            ("image inspect -f {{.Id}} a", Some("inspect -f {{.Id}} a")),
            (
                "login -u me --password-stdin r.io",
                Some("login -u me --password-stdin r.io"),
            ),
            ("system prune -af", Some("prune -af")),
            ("run --rm app", Some("run --rm app")),
            ("buildx create --use --name b", Some("rbuild\n")),
            ("ps", None),
            ("compose up", None),
            ("buildx bake", None),
            ("frobnicate", None),
            ("commit c app", None),
            ("--nonsense ps", None),
        ] {
            assert_eq!(translated(text).as_deref(), expected, "{text}");
        }
        let words = ["-H", "unix:///x", "images"].map(str::to_owned).to_vec();
        let line = line(words).unwrap();
        assert_eq!(line.variables, [("DOCKER_HOST", "unix:///x".to_owned())]);
    }
}
