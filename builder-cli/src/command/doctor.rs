//! `rbuild doctor`: what this machine allows, step by step, and how RUN would be executed.

use std::fmt::Write as _;

use builder_core::Result;
use builder_core::interrupt::Interrupt;
use builder_core::sandbox::Helper;
use builder_core::sandbox::choose::{choose, describe_failure, remedy};
use builder_core::sandbox::probe::{Outcome, Probe, Step};
use builder_core::sandbox::spec::Mode;

use crate::command;
use crate::environment::Environment;
use crate::exit_code;
use crate::flags::DoctorFlags;
use crate::request;

/// Probes, and prints what was found. The exit status says whether RUN works.
pub(crate) fn run(
    flags: &DoctorFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<u8> {
    let store = command::open_store(&flags.store, environment)?;
    let folder = store.temporary_directory()?;
    let program = environment.program.clone().unwrap_or_default();
    let probes = Helper::new(&program).probe(folder.path(), interrupt)?;
    let (mode, ids) = request::isolation(&flags.mode);
    let mut text = String::new();
    for probe in &probes {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{}", line(probe));
    }
    let status = match choose(&probes, mode, ids) {
        Ok(choice) => {
            let _ = writeln!(text, "\nRUN is executed by {}", choice.describe());
            if let Mode::Chroot { .. } = choice.mode {
                text.push_str("a chroot is no wall against hostile commands: they can leave it\n");
                let _ = writeln!(text, "for more isolation: {}", wrapped(remedy(&probes)));
            } else if !choice.overlay {
                text.push_str(
                    "for faster steps: put the store on a volume or a tmpfs (--root), where overlays can be mounted\n",
                );
            }
            exit_code::DONE
        }
        Err(error) => {
            let _ = writeln!(text, "\n{error}; Dockerfiles without RUN build here");
            if let Some(help) = error.help() {
                let _ = writeln!(text, "help: {}", wrapped(help));
            }
            exit_code::of(error.kind())
        }
    };
    command::print(&text)?;
    Ok(status)
}

fn wrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One step as a line: `ok`, or `no` and why.
fn line(probe: &Probe) -> String {
    let step = match probe.step {
        Step::AllIds => "user namespace with all ids",
        Step::OneId => "user namespace with one id",
        Step::Mounts => "mounts in it",
        Step::Overlay => "overlay in the store",
        Step::Processes => "process namespace and /proc",
        Step::Seccomp => "seccomp with a supervisor",
        Step::Paths => "supervisor of paths",
        Step::Chroot => "chroot",
        Step::OtherUsers => "other users",
        Step::Landlock => "Landlock",
    };
    match &probe.outcome {
        Outcome::Works(None) => format!("ok  {step}"),
        Outcome::Works(Some(version)) => format!("ok  {step} (version {version})"),
        Outcome::Fails(_, errno) => {
            let why = describe_failure(probe).unwrap_or_default();
            format!("no  {step}: {why} [{errno}]")
        }
    }
}
