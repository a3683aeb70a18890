//! Worlds and doubles for the integration tests of both crates.
