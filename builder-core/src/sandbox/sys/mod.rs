//! The only unsafe code: system calls that no safe wrapper covers, each with the reason why it is sound.

pub(crate) mod ids;
pub(crate) mod ipc;
pub(crate) mod landlock;
pub(crate) mod loader;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod process;
pub(crate) mod ptrace;
pub(crate) mod seccomp;
pub(crate) mod visit;
