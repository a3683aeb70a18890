//! Worlds and doubles for the integration tests of both crates. Nothing here is built on builder-core: what judges the
//! product must not share its mistakes.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    clippy::return_self_not_must_use,
    reason = "a test starts processes, looks at the environment, speaks, and ends at the first surprise"
)]

pub mod archive;
pub mod busybox;
pub mod compare;
pub mod disk;
pub mod flatten;
pub mod image;
pub mod names;
pub mod reference;
pub mod registry;
pub mod tarball;
pub mod terminal;
pub mod tools;
pub mod world;
