//! What the commands have in common that move images: a display, registries that lend what the store lacks, and the
//! place that an archive goes to.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use builder_core::event::EventSink;
use builder_core::interrupt::Interrupt;
use builder_core::output::Destination;
use builder_core::registry::Registry;
use builder_core::registry::retry::SystemClock;
use builder_core::{Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::environment::Environment;
use crate::flags::{Progress, RegistryFlags};
use crate::network;
use crate::render::Display;

/// Does something with the registries, and shows how.
pub(super) fn with_registry<T>(
    (flags, progress, quiet): (&RegistryFlags, Progress, bool),
    environment: &Environment,
    interrupt: &Interrupt,
    work: &mut dyn FnMut(&Registry<'_>, &dyn EventSink) -> Result<T>,
) -> Result<T> {
    let transport = network::transport(environment, interrupt)?;
    let access = network::registries(flags, environment, interrupt)?;
    let display = Display::start(progress, quiet, environment);
    let (sink, clock) = (display.sink(), SystemClock::default());
    let registry = Registry::new(
        &*transport,
        &clock,
        &*access.credentials,
        &access.options,
        &sink,
        interrupt,
    );
    let done = work(&registry, &sink);
    drop(registry);
    drop(sink);
    display.finish();
    done
}

/// Where an archive goes: a path as it was typed, or standard output, where that is no terminal.
pub(super) fn destination(path: Option<&Path>, environment: &Environment) -> Result<Destination> {
    let path = path.filter(|path| *path != Path::new("-"));
    let Some(path) = path else {
        return standard_output(environment);
    };
    Ok(Destination::Path {
        path: environment.directory.join(path),
        replace: true,
    })
}

fn standard_output(environment: &Environment) -> Result<Destination> {
    let usage = |message: &str| Error::new(ErrorKind::Usage, message);
    if environment.output_terminal {
        return Err(usage(
            "standard output is a terminal, and an archive does not belong there",
        )
        .with_help("write to a file with `-o FILE`, or send it to a program: `… | ssh HOST docker load`"));
    }
    let handle = std::io::stdout().as_fd().try_clone_to_owned();
    let handle = handle.map_err(|error| {
        usage("standard output is closed")
            .with_help("open it, or write to a file with `-o FILE`")
            .with_source(error)
    })?;
    Ok(Destination::Handle(File::from(handle)))
}

/// Standard input as it comes, without a buffer that would hide what is there from who asks the system.
pub(super) fn standard_input() -> Result<File> {
    let handle = std::io::stdin().as_fd().try_clone_to_owned();
    handle.map(File::from).map_err(|error| {
        Error::new(ErrorKind::Usage, "standard input is closed")
            .with_help("name a file")
            .with_source(error)
    })
}

/// A stream that ends when the program is told to end: a reader of a pipe that nobody writes to waits for ever.
pub(super) struct Stoppable<'i, R>(pub(super) R, pub(super) &'i Interrupt);

/// How long an interrupt may wait for its answer.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

impl<R: Read + AsFd> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if self.1.is_set() {
                return Err(std::io::Error::other("interrupted"));
            }
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            // A signal is a reason to look, as any other.
            if poll(&mut fds, Some(&PATIENCE)).is_ok_and(|ready| ready > 0) {
                return self.0.read(buffer);
            }
        }
    }
}
