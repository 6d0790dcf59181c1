//! Manifests: files that say which objects a source has, so that its origin need not be listed.
//!
//! A manifest is CSV, JSON lines or Parquet, or the report of an S3 Inventory. It is read once, as a stream, put in the order of
//! keys on disk, and answered from there: an [`Index`] is one file, each block of which carries a checksum. A snapshot is a manifest that
//! Forebay writes itself ([`SnapshotText`]).
//!
//! Always true here: nothing is passed over silently: a line that cannot be understood ends the reading with the file, the line and
//! what was expected; memory is bounded, however long the file is; an index is whole or it is not there.
//!
//! Not here: where the file comes from (`origin`), when it is read anew, what is told of its objects (`node`).

mod block;
mod builder;
mod columns;
mod csv_file;
mod error;
mod format;
mod index;
mod inventory;
mod json_file;
mod line;
mod parquet_file;
mod snapshot;
mod time;
mod writer;

#[cfg(test)]
mod tests;

pub use builder::{BUILDER_MEMORY, Builder};
pub use columns::Rules;
pub use error::ManifestError;
pub use format::Format;
pub use index::{Index, IndexFacts, Place};
pub use inventory::{INVENTORY_MAX, Inventory};
pub use line::Line;
pub use snapshot::{SNAPSHOT_FORMAT, SnapshotHeader, SnapshotText};
