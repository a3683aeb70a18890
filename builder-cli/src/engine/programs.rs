//! Engines by their own programs: `podman load`, `ctr images import`, and `docker load` where only Docker's client knows the
//! way.

#![expect(
    clippy::disallowed_methods,
    reason = "an engine's own program is the interface that it has"
)]

use std::process::{Command, Stdio};

use builder_core::output::OutputKind;
use builder_core::program::{Finished, Problem, run, run_fed};
use builder_core::reference::Reference;
use builder_core::{Error, ErrorKind, Result};

use super::choose::{Program, ProgramKind};
use super::{Image, refused};

/// Gives the engine what it lacks; gives whether that was nothing but names.
pub(super) fn hand_over(program: &Program, image: &Image<'_>) -> Result<bool> {
    match program.kind {
        ProgramKind::Ctr => ctr(program, image),
        ProgramKind::Podman | ProgramKind::Docker => with_inspect(program, image),
    }
}

/// podman and docker: one question tells whether the image is there, and under which names.
fn with_inspect(program: &Program, image: &Image<'_>) -> Result<bool> {
    let ids: &[&String] = match program.kind {
        // Docker's engine on containerd knows the image by its manifest.
        ProgramKind::Docker => &[&image.id, &image.digest],
        _ => &[&image.id],
    };
    for id in ids {
        let hex = id.strip_prefix("sha256:").unwrap_or(id);
        let words = ["image", "inspect", "--format", "{{json .RepoTags}}", hex];
        let answer = ask(program, image, &words)?;
        if !answer.success {
            continue;
        }
        let tags: Vec<String> = serde_json::from_slice(&answer.stdout).unwrap_or_default();
        let tags: Vec<Reference> = tags.iter().filter_map(|tag| tag.parse().ok()).collect();
        for name in image.names {
            if !tags.iter().any(|tag| is_name(tag, name)) {
                let words = ["tag", hex, &name.familiar()];
                well(program, ask(program, image, &words)?)?;
            }
        }
        return Ok(true);
    }
    let words = ["load", "--quiet"];
    feed(program, image, &words, OutputKind::Docker)?;
    Ok(false)
}

/// Whether an engine's name is the one that is wanted. podman calls `localhost/app` what was named without a registry, and
/// finds it under the short name.
fn is_name(tag: &Reference, name: &Reference) -> bool {
    let short = || {
        tag.to_string()
            .strip_prefix("localhost/")
            .map(str::to_owned)
    };
    tag == name || short().is_some_and(|short| short == name.familiar())
}

/// containerd keeps an image by its name, with the digest of its manifest.
fn ctr(program: &Program, image: &Image<'_>) -> Result<bool> {
    let listed = well(program, ask(program, image, &["images", "list"])?)?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let has = |name: &Reference| {
        text.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.first() == Some(&name.to_string().as_str())
                && words.contains(&image.digest.as_str())
        })
    };
    if !image.names.is_empty() && image.names.iter().all(has) {
        return Ok(true);
    }
    let platform = image.platform.to_string();
    let words = ["images", "import", "--platform", &platform, "-"];
    feed(program, image, &words, OutputKind::Oci)?;
    Ok(false)
}

fn command(program: &Program, words: &[&str]) -> Command {
    let mut command = Command::new(&program.path);
    command
        .args(&program.words)
        .args(words)
        .stderr(Stdio::piped());
    command
}

fn ask(program: &Program, image: &Image<'_>, words: &[&str]) -> Result<Finished> {
    let finished = run(&mut command(program, words), &[], image.interrupt);
    finished.map_err(|problem| trouble(program, problem))
}

fn feed(program: &Program, image: &Image<'_>, words: &[&str], kind: OutputKind) -> Result<()> {
    let mut command = command(program, words);
    let fed = run_fed(
        &mut command,
        |pipe| image.write(kind, pipe),
        image.interrupt,
    );
    let (finished, written) = fed.map_err(|problem| trouble(program, problem))?;
    // Where the program has said why it stopped reading, that is the reason.
    well(program, finished)?;
    written
}

fn well(program: &Program, finished: Finished) -> Result<Finished> {
    if finished.success {
        return Ok(finished);
    }
    let said = String::from_utf8_lossy(&finished.stderr).into_owned();
    Err(refused(&program.path.display().to_string(), &said))
}

fn trouble(program: &Program, problem: Problem) -> Error {
    if let Problem::Interrupted = problem {
        return Error::new(ErrorKind::Interrupted, "interrupted");
    }
    let message = format!("`{}` can't be used", program.path.display());
    Error::new(ErrorKind::Output, message).with_source(problem)
}
