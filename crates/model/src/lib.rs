//! What two Forebay processes must agree on to the bit: names, ids, versions, ranges, messages and faults.
//!
//! Always true here: no I/O, no clock, no randomness. Two processes that run the same version of this crate and hold the
//! same inputs reach the same ids, ranges and bytes.
//!
//! Not here: how anything is stored (`store`), fetched (`origin`), remembered (`catalog`) or carried (`wire`).

const _: () = assert!(usize::BITS == 64, "Forebay needs a 64-bit machine: sizes are cast between u64 and usize");

pub mod bytes;
mod checksum;
mod content;
mod entry;
mod fault;
mod freshness;
mod geometry;
mod message;
mod number;
mod path;
mod principal;
mod quantity;
mod refresh;
mod snapshot;
mod source;

pub use checksum::{BlockSum, BlockSummer, block_sum, block_sums};
pub use content::{Content, ContentId, ObjectId, OriginId, Version};
pub use entry::{DirectoryEntry, Entry, FileEntry, Found, ListedEntry, TimestampNs};
pub use fault::{Fault, FaultKind};
pub use freshness::{Freshness, FreshnessParseError};
pub use geometry::{
    BLOCK, BLOCKS_PER_PAGE, ByteRange, CONTENT_MAX, EXTENT, ExtentIndex, PAGE, PAGES_PER_EXTENT, PageIndex, SMALL_MAX,
    block_count, is_small, page_count, page_len, pages_of,
};
pub use message::{Body, ListedPage, Reply, ReplyBody, Request, Trace, TraceState};
pub use number::inode_number;
pub use path::{NAME_MAX, NameProblem, NsPath, PathParseError, check_name};
pub use principal::Principal;
pub use quantity::{ByteSize, Capacity, QuantityParseError, parse_duration};
pub use refresh::{Happened, ObjectEvent, Refreshed};
pub use snapshot::{SNAPSHOTS, Snapshot, SnapshotState};
pub use source::{ManifestInfo, PRIORITY_DEFAULT, Setting, SourceChange, SourceInfo, SourceSpec};
