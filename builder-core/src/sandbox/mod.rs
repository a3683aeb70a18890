//! Executing a RUN: a process in a root file system of its own, without privileges and without a container runtime.

mod calls;
mod filter;
pub mod record;
mod supervisor;
mod sys;
