//! Builds OCI images from Dockerfiles: no daemon, no root, no container runtime.
//!
//! The rooms stand on floors; a room uses its own floor's neighbours and lower floors only. `ARCHITECTURE.md` has the
//! map, and a test holds it.

pub mod diagnostic;
pub mod digest;
pub mod dockerfile;
pub mod entry;
pub mod error;
pub mod event;
pub mod image_path;
pub mod interrupt;
pub mod oci;
pub mod plan;
pub mod platform;
pub mod source;
pub mod timestamp;

pub use error::{Error, ErrorKind, Result};
