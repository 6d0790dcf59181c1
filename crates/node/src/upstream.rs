//! The seam to origins: what a node asks of one, and how [`forebay_origin::Origin`] answers.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use forebay_catalog::Observed;
use forebay_model::{ByteRange, Fault, Version};

/// One thing that a listing saw: its full key, with a `/` at the end for a prefix.
pub type Observation = (String, Observed);

/// Places of a directory, in the order of their bytes: a place is a key without the prefix that is listed, up to and with the
/// next `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The last place before them; empty: they begin with the first.
    pub after: Box<str>,
    /// The last of them. None: they have no end.
    pub to: Option<Box<str>>,
}

/// A piece of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// All that there is in `places`, in order: place and what was seen of it. Places of two pieces do not overlap.
    Range {
        /// What is covered.
        places: Places,
        /// What is there.
        seen: Vec<(String, Observed)>,
    },
    /// Full keys from an origin that lists in no order: nothing is covered before its end.
    Names(Vec<Observation>),
}

impl Piece {
    /// Names in it.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Range { seen, .. } => seen.len(),
            Self::Names(names) => names.len(),
        }
    }
}

/// How busy an origin is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turns {
    /// Requests that could begin now.
    pub free: usize,
    /// Requests that may be under way at the same time.
    pub max: usize,
}

/// What a node asks of an origin. Every call ends by its deadline.
#[async_trait]
pub trait Upstream: Send + Sync + 'static {
    /// Whether it answers and lets us in.
    async fn probe(&self) -> Result<(), Fault>;

    /// The object `key`, or that there is none.
    async fn stat(&self, key: &str, deadline: Instant) -> Result<Observed, Fault>;

    /// Whether any key starts with `prefix`, which ends in `/`.
    async fn has_prefix(&self, prefix: &str, deadline: Instant) -> Result<bool, Fault>;

    /// Lists one level below `prefix` (empty, or ending in `/`), part by part. Ends with an error rather than short.
    async fn list(
        &self,
        prefix: &str,
        sink: &mut (dyn FnMut(Vec<Observation>) -> Result<(), Fault> + Send),
    ) -> Result<(), Fault>;

    /// Lists `gaps` (in order, apart from each other) of one level below `prefix`, by as many listers as the origin allows. It
    /// is whole when this returns `Ok`; until then, what the ranges given out cover is. An origin that lists in no order lists
    /// all, whatever the gaps.
    async fn list_pieces(
        &self,
        prefix: &str,
        _gaps: Vec<Places>,
        sink: &mut (dyn FnMut(Piece) -> Result<(), Fault> + Send),
    ) -> Result<(), Fault> {
        self.list(prefix, &mut |names| sink(Piece::Names(names))).await
    }

    /// Whether [`Self::list_pieces`] lists the gaps alone, and gives ranges.
    fn lists_ranges(&self) -> bool {
        false
    }

    /// Whether the parts of a listing come in the order of keys: no key of a later part is less than one of an earlier.
    fn lists_in_order(&self) -> bool {
        false
    }

    /// Names that a listing brings for the price of a request. Where a listing asks for each name by itself, about one.
    fn names_per_request(&self) -> u64;

    /// Requests that may be under way at the same time, and how many more could begin now.
    fn turns(&self) -> Turns;

    /// The bytes of `range` of that version of `key`, proved.
    async fn read(
        &self,
        key: &str,
        version: &Version,
        size: u64,
        range: ByteRange,
        deadline: Instant,
    ) -> Result<Box<dyn UpstreamRead>, Fault>;
}

/// Bytes on their way from an origin.
#[async_trait]
pub trait UpstreamRead: Send {
    /// The next bytes; none when all of the range came. Fails rather than ending short.
    async fn next(&mut self) -> Result<Option<Bytes>, Fault>;
}
