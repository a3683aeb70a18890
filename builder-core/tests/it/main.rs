//! The integration tests of builder-core, one binary.

mod cache;
mod dockerfile;
#[path = "../../examples/build.rs"]
mod example;
mod golden;
mod house;
mod incremental;
mod layer;
mod library;
mod plan;
mod registry;
mod registry_around;
mod store;
