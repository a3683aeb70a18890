//! The command of a session in place of a RUN's, and a shell in the root of a RUN that failed.

use std::path::Path;

use super::failed::{self, Failed};
use super::{Ready, RunInput, Runner, Sink, StageRoot, failure, ready, root};
use crate::build::layer::LayerMaker;
use crate::build::request::RunOptions;
use crate::build::session::{
    self, Attached, Console, Session, SessionCommand, SessionMount, Started,
};
use crate::error::{Error, ErrorKind, Result};
use crate::image_path::ImagePath;
use crate::interrupt::Interrupt;
use crate::layer::Layer as NewLayer;
use crate::owners::SideTable;
use crate::plan::step::RunStep;
use crate::sandbox::spec::{Bytes, Ended, Mount, MountKind, Root, RunSpec};
use crate::sandbox::{Engine, Finished, Input};
use crate::store::Store;
use crate::tree::Tree;
use crate::tree::resolve::{Resolved, resolve};

/// Shells of images, the best first.
const SHELLS: [&str; 4] = ["/bin/bash", "/bin/sh", "/bin/ash", "/busybox/sh"];

/// Where a busybox of the host is seen: in a directory that belongs to no layer.
const BUSYBOX: &str = "/dev/pipes/busybox";

/// What a terminal can do that nobody has named.
const TERM: &str = "xterm";

/// Executes the command of a session; its layer, where it is to be kept and ended well.
///
/// # Errors
/// [`ErrorKind::Run`] where the command can't be started or a mount can't be made.
pub(crate) fn attend(
    input: &RunInput<'_, '_>,
    root: &mut StageRoot,
    layer: Option<LayerMaker<'_>>,
    attached: &Attached<'_>,
) -> Result<Option<NewLayer>> {
    let session = attached.session;
    let step = customised(input, attached)?;
    let mut ready = ready(input, root, &step)?;
    ready.spec.env = session.env.iter().fold(ready.spec.env, replaced);
    ready.spec.mounts.extend(session.mounts.iter().map(mount));
    ready.spec.read_only = session.read_only;
    let config = &input.shared.plan.config.config;
    let stop = session.stop_signal.as_ref().unwrap_or(&config.stop_signal);
    ready.spec.stop_signal = signal(stop).unwrap_or(ready.spec.stop_signal);
    if let Started::Shell(text) = session::started(&session.command, config)? {
        use_shell(
            input,
            &mut ready,
            text.as_deref(),
            session.busybox.as_deref(),
        )?;
    }
    let finished = converse(input, &mut ready, attached.console)
        .map_err(|error| super::beforehand::explain(&step, input.base, error))?;
    ready.world.finish(&finished.table)?;
    attached.ended(finished.status);
    let Some(mut layer) = layer.filter(|_| finished.status == Ended::Status(0)) else {
        return Ok(None);
    };
    let (prepared, table) = (&ready.prepared, &finished.table);
    root.changes(prepared, input, table, &mut Sink(&mut layer))?;
    let made = layer.finish()?;
    root.keep(prepared, input, &made, table)?;
    Ok(Some(made))
}

/// Lets someone look at the root of a RUN that failed, as it left it; `table` are the owners in it.
///
/// # Errors
/// As for [`attend`].
pub(super) fn look_at(
    input: &RunInput<'_, '_>,
    ready: &mut Ready,
    table: &SideTable,
    (console, busybox): (&dyn Console, Option<&Path>),
) -> Result<()> {
    ready.prepared.begin_again()?;
    ready.spec.tables = ready.prepared.tables_and(table)?;
    use_shell(input, ready, None, busybox)?;
    converse(input, ready, console).map(|_| ())
}

/// A shell, or a script, in the root of the last RUN that failed and was kept.
///
/// # Errors
/// [`ErrorKind::Usage`] where there is none that the engine here can read.
pub(crate) fn look_at_last(
    store: &Store,
    session: &Session,
    options: &RunOptions,
    console: &dyn Console,
    interrupt: &Interrupt,
) -> Result<Ended> {
    let runner = Runner::probe(store, options, interrupt)?;
    let Failed {
        encoding,
        step,
        mut spec,
    } = failed::load(store)?;
    if encoding != runner.encoding().name() {
        let message = format!("the root of `{step}` was made by another engine than RUN has here");
        return Err(Error::new(ErrorKind::Usage, message)
            .with_help("give the `--run-mode` and `--run-ids` that the build had"));
    }
    root::begin_again(&spec.root)?;
    spec.env = session.env.iter().fold(spec.env, replaced);
    spec.mounts.extend(session.mounts.iter().map(mount));
    let own = shell_of_last(&spec);
    let shell = (own, session.busybox.as_deref());
    let text = match &session.command {
        SessionCommand::Script(text) => Some(text.as_str()),
        _ => None,
    };
    set_shell(&mut spec, shell, text)?;
    let ended = talk(&*runner.engine, &mut spec, console, interrupt)?;
    // Whoever looks again finds the owners of what was made now.
    failed::update(store, &ended.table)?;
    Ok(ended.status)
}

/// The shell that the layers of a kept root hold: in the first that has one, as far as no link leads out of it.
fn shell_of_last(spec: &RunSpec) -> Option<&'static str> {
    let folders: Vec<&Path> = match &spec.root {
        Root::Directory(root) => vec![root.as_path()],
        Root::Overlay(overlay) => overlay.lowers.iter().map(Bytes::as_path).collect(),
    };
    let upper = spec.root.upper();
    let has = |folder: &Path, shell: &str| {
        let path = folder.join(shell.trim_start_matches('/'));
        // A link leads to another place of the root: `/bin` to `/usr/bin`.
        let usr = folder.join("usr").join(shell.trim_start_matches('/'));
        path.symlink_metadata().is_ok() || usr.symlink_metadata().is_ok()
    };
    let all = || folders.iter().copied().chain(upper.as_deref());
    let mut shells = SHELLS.iter().copied();
    shells.find(|shell| all().any(|folder| has(folder, shell)))
}

fn converse(
    input: &RunInput<'_, '_>,
    ready: &mut Ready,
    console: &dyn Console,
) -> Result<Finished> {
    let engine = &*input.runner.engine;
    talk(engine, &mut ready.spec, console, input.shared.interrupt)
}

fn talk(
    engine: &dyn Engine,
    spec: &mut RunSpec,
    console: &dyn Console,
    interrupt: &Interrupt,
) -> Result<Finished> {
    let not_begun = || Error::new(ErrorKind::Internal, "the console of a session is broken");
    let mut finished = None;
    console.converse(&mut |streams| {
        if let Input::Terminal { .. } = streams.input
            && !spec.env.iter().any(|(name, _)| name == "TERM")
        {
            spec.env.push(("TERM".to_owned(), TERM.to_owned()));
        }
        finished = Some(engine.run(spec, streams, interrupt));
    });
    finished.ok_or_else(not_begun)?
}

/// The step with what the session says instead.
fn customised(input: &RunInput<'_, '_>, attached: &Attached<'_>) -> Result<RunStep> {
    let (mut step, session) = (input.step.clone(), attached.session);
    let config = &input.shared.plan.config.config;
    if let Started::Program(argv) = session::started(&session.command, config)? {
        step.argv = argv;
    }
    if let Some(user) = &session.user {
        step.user.clone_from(user);
    }
    if let Some(workdir) = &session.workdir {
        step.workdir.clone_from(workdir);
    }
    if let Some(hostname) = &session.hostname {
        step.hostname.clone_from(hostname);
    }
    Ok(step)
}

fn replaced(mut all: Vec<(String, String)>, one: &(String, String)) -> Vec<(String, String)> {
    all.retain(|(name, _)| *name != one.0);
    all.push(one.clone());
    all
}

fn mount(mount: &SessionMount) -> Mount {
    let (target, kind) = match mount {
        SessionMount::Host {
            source,
            target,
            read_only,
        } => {
            let kind = MountKind::Host {
                source: source.as_path().into(),
                read_only: *read_only,
            };
            (target, kind)
        }
        SessionMount::Tmpfs { target, size } => (target, MountKind::Tmpfs { size: *size }),
    };
    Mount {
        target: Bytes(target.as_bytes().to_vec()),
        kind,
    }
}

/// Makes the command a shell of the image.
fn use_shell(
    input: &RunInput<'_, '_>,
    ready: &mut Ready,
    text: Option<&str>,
    busybox: Option<&Path>,
) -> Result<()> {
    let mut shells = SHELLS.iter().copied();
    let own = shells.find(|path| is_file(input.base, path));
    set_shell(&mut ready.spec, (own, busybox), text)
}

/// Makes the command a shell: the image's own, else a busybox of the host.
fn set_shell(
    spec: &mut RunSpec,
    shell: (Option<&str>, Option<&Path>),
    text: Option<&str>,
) -> Result<()> {
    let mut argv = match shell {
        (Some(own), _) => vec![own.to_owned()],
        (None, Some(busybox)) => {
            spec.mounts.push(Mount {
                target: Bytes(BUSYBOX.as_bytes().to_vec()),
                kind: MountKind::Host {
                    source: busybox.into(),
                    read_only: true,
                },
            });
            vec![BUSYBOX.to_owned(), "sh".to_owned()]
        }
        (None, None) => {
            let message =
                "the image has no shell, and this machine has no static busybox to lend it";
            return Err(Error::new(ErrorKind::Run, message)
                .with_help("install the package `busybox-static`"));
        }
    };
    if let Some(text) = text {
        // A shell that is lent finds no other program by its name.
        let own = if shell.0.is_none() {
            format!("sleep() {{ {BUSYBOX} sleep \"$@\"; }}\n")
        } else {
            String::new()
        };
        argv.extend(["-c".to_owned(), format!("{own}{text}")]);
    }
    spec.argv = argv;
    Ok(())
}

fn is_file(base: &dyn Tree, path: &str) -> bool {
    let found = resolve(base, &ImagePath::clean(path), true);
    matches!(found, Ok(Resolved::Found(node)) if !node.entry.is_directory())
}

/// A signal's number, from STOPSIGNAL: `SIGTERM`, `TERM` or `15`.
fn signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    (1..32).find(|number| {
        failure::name(*number).is_some_and(|known| known.strip_prefix("SIG") == Some(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("TERM", Some(15)),
            ("3", Some(3)),
            ("SIGQUIT", Some(3)),
            ("", None),
            ("SIGNOTHING", None),
        ] {
            assert_eq!(signal(text), expected, "{text}");
        }
    }

    #[test]
    fn a_variable_replaces_one_of_its_name() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let all = vec![pair("A", "1"), pair("B", "2")];
        let all = replaced(all, &pair("A", "3"));
        assert_eq!(all, [pair("B", "2"), pair("A", "3")]);
    }
}
