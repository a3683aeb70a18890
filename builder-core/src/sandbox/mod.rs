//! Executing a RUN: a process in a root file system of its own, without privileges and without a container runtime.

pub mod record;
mod sys;
