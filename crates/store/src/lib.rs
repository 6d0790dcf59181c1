//! The pages that one node keeps on its directories: fast, bounded, verified, recoverable.
//!
//! It knows contents by id and size, groups, and bytes; no paths, buckets or nodes. Usable without the rest of Forebay.
//!
//! Always true: a read is filled with the bytes that were kept, or is `Absent`; it never fails because of a directory. A
//! descriptor that was handed out keeps its bytes, whatever is evicted and whoever dies. Everything is bounded: bytes on
//! each directory, bytes queued, files open. No lock of the index is held across I/O.
//!
//! Not here: where bytes come from, who may read them, and any clock or task: calls block on the disk, threads write. The
//! format on disk is described in `docs/store-format.md`.
//!
//! ```
//! use forebay_model::{ByteRange, ByteSize, Capacity, ContentId, PageIndex, block_sums};
//! use forebay_store::{Caching, DirectoryOptions, Fill, Group, Kept, ReadOutcome, Store, StoreOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let scratch = tempfile::tempdir()?;
//! # let path = scratch.path().to_owned();
//! let capacity = Capacity::Bytes(ByteSize(64 << 20));
//! let (store, recovery) = Store::open(&StoreOptions::new(vec![DirectoryOptions::new(path, capacity)]))?;
//! println!("{} contents are here from before", recovery.contents);
//!
//! let (id, bytes) = (ContentId::from_u128(7), bytes::Bytes::from_static(b"hello"));
//! let fill = Fill {
//!     id,
//!     size: 5,
//!     group: Group(0),
//!     page: PageIndex(0),
//!     sums: block_sums(&bytes),
//!     chunks: vec![bytes],
//! };
//! let (send, receive) = std::sync::mpsc::channel();
//! store.keep(fill, Box::new(move |kept| _ = send.send(kept)))?;
//! assert_eq!(receive.recv()?, Kept::Yes);
//!
//! let mut buffer = [0; 3];
//! assert_eq!(store.read(id, 5, ByteRange::new(1, 4), &mut buffer, Caching::Keep), ReadOutcome::Filled);
//! assert_eq!(&buffer, b"ell");
//! store.close()?;
//! # Ok(())
//! # }
//! ```

mod admission;
mod batch;
mod class;
mod compact;
#[cfg(test)]
mod crash;
mod dead;
mod device;
mod directory;
mod error;
mod evict;
mod eviction;
mod evictor;
mod expire;
mod files;
#[cfg(test)]
mod fuzz;
mod group;
mod handout;
mod index;
mod large;
mod lease;
mod lend;
mod log;
mod metrics;
mod offline;
mod options;
mod pack;
mod past_cache;
mod plan;
mod queue;
mod read;
mod record;
mod recover;
mod recovery;
mod replay;
mod residency;
#[cfg(test)]
mod residency_model;
mod room;
mod scratch;
mod scrub;
mod shared;
mod simulate;
mod store;
mod sweep;
mod sync;
#[cfg(test)]
mod tests;
mod tiers;
mod victim;
mod walk;
mod writeback;
mod writer;

pub use admission::Admission;
pub use batch::BatchRead;
pub use class::Class;
pub use error::{NotKept, StoreError};
pub use eviction::Eviction;
pub use group::{Group, GroupRules, GroupStats};
pub use handout::{Descriptor, HandoutLease};
pub use lend::LEND_MAX;
pub use metrics::{DirectoryStats, StoreStats};
pub use offline::{Content, Event, Fate, Finding, Flaw, Kind, Level, LogReport, Lost, Offline, PackReport, Summary};
pub use options::{BootId, DirectoryOptions, Reserve, Scrub, StoreOptions};
pub use plan::Plan;
pub use queue::{Done, Fill, Kept};
pub use read::{Caching, ReadOutcome, Residency};
pub use recovery::Recovery;
pub use room::Room;
pub use simulate::{Access, Outcome, Pattern, optimum, simulate, simulate_planned};
pub use store::Store;
