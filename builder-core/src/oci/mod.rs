//! The documents of the OCI image specification, as values.

pub mod config;
