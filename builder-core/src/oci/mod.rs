//! The documents of the OCI image specification: reading what others wrote, writing our own.
//!
//! Our own serde types instead of a crate's, for two reasons: the bytes must be the same in every run (every map is a
//! `BTreeMap`), and fields that we don't know must survive a round trip.

pub mod choose;
pub mod config;
pub mod descriptor;
pub mod index;
pub mod json;
pub mod manifest;
pub mod media_type;

pub use descriptor::Descriptor;
pub use index::ImageIndex;
pub use manifest::ImageManifest;
pub use media_type::MediaType;
