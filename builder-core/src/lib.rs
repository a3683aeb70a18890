//! Builds OCI images from Dockerfiles: no daemon, no root, no container runtime.
//!
//! The rooms stand on floors; a room uses its own floor's neighbours and lower floors only. `ARCHITECTURE.md` has the
//! map, and a test holds it.

pub mod build;
pub mod confined;
pub mod context;
pub mod diagnostic;
pub mod digest;
pub mod dockerfile;
pub mod entry;
pub mod error;
pub mod event;
pub mod http;
pub mod image;
pub mod image_path;
pub mod interrupt;
pub mod layer;
pub mod nearest;
pub mod oci;
pub mod output;
pub mod plan;
pub mod platform;
pub mod reference;
pub mod registry;
pub mod source;
pub mod store;
pub mod timestamp;
pub mod tree;

pub use error::{Error, ErrorKind, Result};
