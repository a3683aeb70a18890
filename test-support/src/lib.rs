//! Worlds and doubles for the integration tests of both crates.

pub mod registry;
