//! Builds OCI images from Dockerfiles: no daemon, no root, no container runtime.
//!
//! ```
//! use builder_core::build::{build, request::{BuildRequest, ContextSource}};
//! use builder_core::event::Silent;
//! use builder_core::interrupt::Interrupt;
//! use builder_core::output::{Destination, Output, OutputKind};
//! use builder_core::source::SourceFile;
//! use builder_core::store::Store;
//! use builder_core::timestamp::Timestamp;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = tempfile::tempdir()?;
//! # let (store, context, tarball) = (home.path().join("store"), home.path().join("context"), home.path().join("app.tar"));
//! # std::fs::create_dir(&context)?;
//! # std::fs::write(context.join("app.conf"), "port = 80\n")?;
//! let store = Store::open(&store)?;
//! let dockerfile = SourceFile::new("Dockerfile", "FROM scratch\nCOPY app.conf /etc/\nENV PORT=80\n");
//! let context = ContextSource::Directory { path: context, ignore_files: Vec::new() };
//! let mut request = BuildRequest::new(dockerfile, context, Timestamp::from_seconds(1_700_000_000));
//! request.references.push("registry.example.com/team/app:1.2".parse()?);
//! let destination = Destination::Path { path: tarball.clone(), replace: true };
//! request.outputs.push(Output { kind: OutputKind::Oci, destination });
//!
//! let built = build(&store, request, &Silent, &Interrupt::default())?;
//! println!("{}", built.digest);
//! # assert!(tarball.exists() && store.contains(&built.digest)?);
//! # Ok(())
//! # }
//! ```
//!
//! Everything that a build depends on is in its [`BuildRequest`](build::request::BuildRequest): no environment
//! variable, clock, working directory or terminal is read, and there is no global state; builds may run side by side
//! in one process and in one [`Store`](store::Store). What happens is told to an [`EventSink`](event::EventSink);
//! an [`Interrupt`](interrupt::Interrupt) stops it. Failures are [`Error`]s with a kind, a place and a remedy.
//!
//! The rooms stand on floors; a room uses its own floor's neighbours and lower floors only. `ARCHITECTURE.md` has the
//! map, and a test holds it.

pub mod build;
pub mod cache;
pub mod catalog;
pub mod confined;
pub mod context;
pub mod diagnostic;
pub mod digest;
pub mod dockerfile;
pub mod entry;
pub mod error;
pub mod event;
pub mod http;
pub mod image;
pub mod image_path;
pub mod interrupt;
pub mod layer;
pub mod nearest;
pub mod oci;
pub mod output;
pub mod owners;
pub mod plan;
pub mod platform;
pub mod program;
pub mod reference;
pub mod registry;
pub mod rootfs;
pub mod sandbox;
pub mod source;
pub mod store;
pub mod timestamp;
pub mod tree;

pub use error::{Error, ErrorKind, Result};
