//! The whole build as a value.
pub mod step;
