//! Executing a RUN: a process in a root file system of its own, without privileges and without a container runtime.
//!
//! Three engines: namespaces of an ordinary user; a supervisor that resolves every path, where namespaces are forbidden;
//! and a chroot behind Landlock for root, which goes. Which one a machine allows is found out by trying (`probe`, `choose`). A helper process does the work
//! (`launch` starts it, `enter` is its beginning): only a process with one thread may change its namespaces. In it,
//! `init` starts the command and a supervisor answers the system calls for which the kernel alone has no good answer.
//!
//! `docs/sandbox.md` says what is isolated and what is shared.

mod calls;
pub mod choose;
mod chroot;
mod command;
mod console;
mod conversation;
mod engine;
mod enter;
mod filter;
mod handover;
mod init;
mod isolation;
pub mod launch;
mod masks;
mod mounts;
mod namespaces;
mod paths;
mod places;
pub mod probe;
mod range;
mod rights;
mod sealed;
pub mod spec;
mod streams;
mod supervisor;
mod sys;
mod terminal;

pub use engine::{Engine, EngineCapabilities, RootForm, Sandbox};
pub use enter::enter_if_asked;
pub use launch::{Finished, Helper};
pub use range::restart_with_subordinate_ids;
pub use streams::{Input, Streams, TakeOutput};
