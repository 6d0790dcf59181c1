//! Directories whose small files are read in no order: what is left of them is fetched by and by, while there is room for it.
//!
//! Who reads a data set in a new random order each time will want all of it, and nobody can say what next. Whoever waits in
//! such a directory is taken for that: for each file that was read [`FACTOR`] more are fetched, in the order of the listing,
//! so that the waste of a reader that stops is bounded by what it read.
//!
//! Always true: nothing here does I/O or waits; all of it is bounded; nothing is fetched that another file would be evicted
//! for. How many requests at once is found out for each source ([`pace`]): more for as long as that makes none slower.

mod directory;
mod pace;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use forebay_model::{Content, FileEntry};

use crate::source::Source;
use crate::walks::Whence;

pub(crate) use table::Shuffles;

/// Files that are fetched for each that was read.
pub(crate) const FACTOR: u64 = 4;

/// A small file is read from its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read<'a> {
    pub(crate) source: &'a Arc<Source>,
    pub(crate) content: &'a Content,
    pub(crate) whence: Whence,
    /// A walk knew that it would be read.
    pub(crate) is_foreseen: bool,
}

/// What a read leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    /// How many tasks more should fetch for its source.
    pub(crate) tasks: usize,
    /// Bytes that were fetched for this and are read now.
    pub(crate) used_bytes: u64,
    /// Bytes that were fetched and are not expected to be read any more.
    pub(crate) unused_bytes: u64,
}

/// What a task of a source is to do next.
#[derive(Debug)]
pub(crate) enum Next {
    /// See whether it is here, and fetch it if not.
    File(Arc<FileEntry>),
    /// Get names from the catalog: the first `most` of this directory, a prefix of keys, after a name.
    Load { directory: Arc<str>, after: Box<str>, most: u32 },
    /// End.
    Nothing,
}

/// Requests for this.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    /// So many more could begin now.
    pub(crate) now: usize,
    /// So many may be under way at the same time.
    pub(crate) most: usize,
}

/// What came of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// So many bytes, in that time.
    Came { bytes: u64, took: Duration },
    /// The object is another one than was listed.
    Changed,
    /// The origin fails.
    Failed,
}

/// Why a file that was next is not fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hindrance {
    /// Another file would have to be evicted for it.
    NoRoom,
    /// Memory is short, or much waits for the disk.
    Busy,
    /// The origin has enough to do.
    Requests,
}
