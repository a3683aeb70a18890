//! The integration tests of builder-core, one binary.

mod layer;
mod store;
