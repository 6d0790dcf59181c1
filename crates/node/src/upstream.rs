//! The seam to origins: what a node asks of one, and how [`forebay_origin::Origin`] answers.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use forebay_catalog::{Observed, ObservedFile};
use forebay_manifest::Line;
use forebay_model::{ByteRange, Fault, FaultKind, ManifestInfo, Version};

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

/// Directories that are known and still to be listed, when all of an origin is: some 100 MB of names.
const DIRECTORIES_MAX: usize = 1_000_000;

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

    /// Lists `gaps` (in order; they may touch) of one level below `prefix`, by as many listers as the origin allows. It
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

    /// The same of an object that may have been replaced since, by the id of its version where the origin keeps old ones.
    async fn read_by_id(
        &self,
        key: &str,
        _id: Option<&str>,
        version: &Version,
        size: u64,
        range: ByteRange,
        deadline: Instant,
    ) -> Result<Box<dyn UpstreamRead>, Fault> {
        self.read(key, version, size, range, deadline).await
    }

    /// The version that a line of a manifest proves here, as a listing would give it. None: it proves none.
    fn version_of(&self, line: &Line) -> Option<Version> {
        line.etag.as_ref().map(|etag| Version::Etag(format!("\"{etag}\"").into()))
    }

    /// All objects below `prefix`, whatever their depth, in any order, with the ids of their versions where it keeps old ones.
    async fn list_all(
        &self,
        prefix: &str,
        sink: &mut (dyn FnMut(Vec<Line>) -> Result<(), Fault> + Send),
    ) -> Result<(), Fault> {
        list_by_levels(self, prefix, sink).await
    }

    /// Begins to write the object `key`. Nobody sees it before it is whole.
    async fn upload(&self, key: &str, _deadline: Instant) -> Result<Box<dyn UpstreamWrite>, Fault> {
        Err(Fault::new(FaultKind::Invalid, format!("{key}: nothing can be written there")))
    }

    /// What it knows itself may be outdated: the next question is asked anew.
    fn refresh(&self) {}

    /// What is known of the manifest that it answers from, if there is one, and why it cannot be read.
    fn manifest(&self) -> Option<(ManifestInfo, Option<String>)> {
        None
    }
}

/// Lists all objects below `prefix`, one level after the other.
pub(crate) async fn list_by_levels<U: Upstream + ?Sized>(
    upstream: &U,
    prefix: &str,
    sink: &mut (dyn FnMut(Vec<Line>) -> Result<(), Fault> + Send),
) -> Result<(), Fault> {
    let mut waiting = vec![prefix.to_owned()];
    while let Some(prefix) = waiting.pop() {
        let mut each = |names: Vec<Observation>| {
            let mut lines = Vec::with_capacity(names.len());
            for (key, seen) in names {
                match seen {
                    Observed::Directory if waiting.len() >= DIRECTORIES_MAX => {
                        let why = format!("{prefix}: over {DIRECTORIES_MAX} directories are known and not listed yet");
                        return Err(Fault::new(FaultKind::Invalid, why));
                    }
                    Observed::Directory => waiting.push(key),
                    Observed::File(file) => lines.push(line_of(key, file)),
                    Observed::Absent => {}
                }
            }
            sink(lines)
        };
        upstream.list(&prefix, &mut each).await?;
    }
    Ok(())
}

/// What a manifest says of an object that was seen.
pub(crate) fn line_of(key: String, seen: ObservedFile) -> Line {
    let line = Line { key, size: Some(seen.size), mtime: Some(seen.mtime), ..Line::default() };
    match seen.version {
        Version::Etag(etag) => Line { etag: Some(etag.trim_matches('"').to_owned()), ..line },
        Version::Id(id) => Line { version_id: Some(id.to_string()), ..line },
        Version::Stamp { mtime, file, .. } => Line { mtime: Some(mtime), file, ..line },
    }
}

/// An object that is being written.
#[async_trait]
pub trait UpstreamWrite: Send {
    /// Adds bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), Fault>;

    /// All is written: it is there when this returns.
    async fn finish(&mut self) -> Result<(), Fault>;

    /// Takes away what was written.
    async fn abort(self: Box<Self>);
}

/// Bytes on their way from an origin.
#[async_trait]
pub trait UpstreamRead: Send {
    /// The next bytes; none when all of the range came. Fails rather than ending short.
    async fn next(&mut self) -> Result<Option<Bytes>, Fault>;
}
