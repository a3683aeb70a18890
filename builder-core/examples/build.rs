//! Builds an image from a Rust program: a Dockerfile and a directory in, an OCI tarball out.
//!
//! `cargo run -p builder-core --example build -- CONTEXT STORE OUTPUT.tar`

use std::path::{Path, PathBuf};

use builder_core::build::request::{BuildRequest, ContextSource};
use builder_core::build::{self, Built};
use builder_core::event::EventSink;
use builder_core::interrupt::Interrupt;
use builder_core::output::{Destination, Output, OutputKind};
use builder_core::source::SourceFile;
use builder_core::store::Store;
use builder_core::timestamp::Timestamp;

/// Builds `context/Dockerfile` and writes the image to `output`; the layers stay in the store for the next build.
pub(crate) fn build_image(
    context: &Path,
    store: &Path,
    output: &Path,
    now: Timestamp,
    events: &dyn EventSink,
) -> builder_core::Result<Built> {
    let text = std::fs::read_to_string(context.join("Dockerfile")).map_err(|error| {
        builder_core::Error::new(builder_core::ErrorKind::Dockerfile, "no Dockerfile")
            .with_source(error)
    })?;
    let ignore_files = vec![context.join(".dockerignore")];
    let source = ContextSource::Directory {
        path: context.to_owned(),
        ignore_files,
    };
    let mut request = BuildRequest::new(SourceFile::new("Dockerfile", text), source, now);
    request.build_args.insert("VERSION".into(), "2".into());
    let destination = Destination::Path {
        path: output.to_owned(),
        replace: true,
    };
    request.outputs.push(Output {
        kind: OutputKind::Oci,
        destination,
    });
    build::build(&Store::open(store)?, request, events, &Interrupt::default())
}

#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program reads its arguments and the clock, and speaks"
)]
#[allow(dead_code, reason = "the tests use only the function above")]
fn main() -> builder_core::Result<()> {
    let words: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [context, store, output] = &words[..] else {
        panic!("usage: build CONTEXT STORE OUTPUT.tar")
    };
    let now = Timestamp::from_system_time(std::time::SystemTime::now());
    let built = build_image(context, store, output, now, &builder_core::event::Silent)?;
    println!("{}", built.digest);
    Ok(())
}
