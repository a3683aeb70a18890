//! Layers: entries to tar and blob, tar to entries, and a file's bytes out of the middle of a blob.
//!
//! Follows the OCI image layer specification. `write` makes layers, `read` indexes those of others and archives,
//! `index` answers what a layer holds, `data` opens a file's bytes,
//! `visit` shows all of a layer to who unpacks it. Nothing here unpacks into a directory.

mod ahead;
pub mod archive;
mod backing;
pub mod block;
pub mod blocks;
pub mod compress;
mod content;
pub mod data;
pub mod decompress;
pub mod error;
mod frame;
pub mod header;
pub mod index;
mod index_writer;
mod kept;
mod link_headers;
mod links;
mod making;
mod pax;
mod pipeline;
mod previous;
pub mod read;
mod reading;
mod recompress;
pub mod record;
mod sort;
mod sparse;
mod spool;
mod travel;
mod unarchive;
pub mod visit;
pub mod whiteout;
pub mod write;

pub use compress::Compression;
pub use data::{DataReader, LayerData, open_data};
pub use decompress::{Packing, detect_archive};
pub use error::{Error, Result, TarProblem};
pub use index::LayerIndex;
pub use kept::read_kept;
pub use read::{index_layer, index_stream};
pub use reading::read_through;
pub use recompress::recompress;
pub use record::{DataRange, Mark, Record};
pub use travel::{pack_index, unpack_index, verify_layer};
pub use unarchive::{Archive, index_archive};
pub use visit::{Visitor, makes_something, visit_layer};
pub use write::{Layer, LayerOptions, LayerWriter};
