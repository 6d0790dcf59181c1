//! The seam to origins: what a node asks of one, and how [`forebay_origin::Origin`] answers.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use forebay_catalog::Observed;
use forebay_model::{ByteRange, Fault, Version};

/// One thing that a listing saw: its full key, with a `/` at the end for a prefix.
pub type Observation = (String, Observed);

/// What a node asks of an origin. Every call ends by its deadline.
#[async_trait]
pub trait Upstream: Send + Sync + 'static {
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

    /// Whether the parts of a listing come in the order of keys: no key of a later part is less than one of an earlier.
    fn lists_in_order(&self) -> bool {
        false
    }

    /// Names that a listing brings for the price of a request. Where a listing asks for each name by itself, about one.
    fn names_per_request(&self) -> u64;

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
