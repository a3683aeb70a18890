//! The integration tests of builder-core, one binary.

mod dockerfile;
mod golden;
mod layer;
mod plan;
mod registry;
mod store;
