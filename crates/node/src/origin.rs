//! Origins behind the node's seam.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use forebay_catalog::{Observed, ObservedFile};
use forebay_model::{ByteRange, Fault, FaultKind, Version};
use forebay_origin::{Listed, ObjectMeta, Origin, OriginError, OriginErrorKind, ReadStream, Scheme};

use crate::upstream::{Observation, Upstream, UpstreamRead};

/// What the caller can do about an origin's error is what the reader can do about the fault.
pub fn fault(error: OriginError) -> Fault {
    let kind = match error.kind {
        OriginErrorKind::NotFound => FaultKind::NotFound,
        OriginErrorKind::Changed => FaultKind::Changed,
        // It cannot prove a version: a person must act.
        OriginErrorKind::Denied | OriginErrorKind::Unsupported => FaultKind::Denied,
        OriginErrorKind::TimedOut => FaultKind::TimedOut,
        OriginErrorKind::Unavailable => FaultKind::Unavailable,
        OriginErrorKind::Invalid => FaultKind::Invalid,
    };
    Fault::new(kind, error.message)
}

fn observed(meta: ObjectMeta) -> Observed {
    Observed::File(ObservedFile { size: meta.size, mtime: meta.mtime, version: meta.version })
}

#[async_trait]
impl Upstream for Origin {
    async fn probe(&self) -> Result<(), Fault> {
        Origin::probe(self).await.map_err(fault)
    }

    async fn stat(&self, key: &str, deadline: Instant) -> Result<Observed, Fault> {
        match Origin::stat(self, key, deadline).await {
            Ok(meta) => Ok(observed(meta)),
            Err(error) if error.kind == OriginErrorKind::NotFound => Ok(Observed::Absent),
            Err(error) => Err(fault(error)),
        }
    }

    async fn has_prefix(&self, prefix: &str, deadline: Instant) -> Result<bool, Fault> {
        Origin::has_prefix(self, prefix, deadline).await.map_err(fault)
    }

    fn names_per_request(&self) -> u64 {
        Origin::names_per_request(self)
    }

    async fn list(
        &self,
        prefix: &str,
        sink: &mut (dyn FnMut(Vec<Observation>) -> Result<(), Fault> + Send),
    ) -> Result<(), Fault> {
        let mut listing = Origin::list(self, prefix);
        while let Some(batch) = listing.next_batch().await.map_err(fault)? {
            let observe = |listed: Listed| match listed {
                Listed::Object { key, meta } => (key.to_string(), observed(meta)),
                Listed::Prefix { key } => (key.to_string(), Observed::Directory),
            };
            sink(batch.into_iter().map(observe).collect())?;
        }
        if listing.hidden() > 0 {
            tracing::warn!(prefix, hidden = listing.hidden(), "names that cannot be shown were left out");
        }
        Ok(())
    }

    async fn read(
        &self,
        key: &str,
        version: &Version,
        size: u64,
        range: ByteRange,
        deadline: Instant,
    ) -> Result<Box<dyn UpstreamRead>, Fault> {
        let mut stream = Origin::read(self, key, version, size, range, deadline).await.map_err(fault)?;
        if !matches!(self.url().scheme(), Scheme::Hdfs | Scheme::Hf) {
            return Ok(Box::new(OriginRead(stream)));
        }
        // Proved only by the look at the object after the last piece: nothing is given out before.
        let mut pieces = VecDeque::new();
        while let Some(piece) = stream.next().await.map_err(fault)? {
            pieces.push_back(piece);
        }
        Ok(Box::new(Proved(pieces)))
    }
}

/// Pieces that are proved as they come.
struct OriginRead(ReadStream);

/// Pieces that were proved together.
struct Proved(VecDeque<Bytes>);

#[async_trait]
impl UpstreamRead for OriginRead {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        self.0.next().await.map_err(fault)
    }
}

#[async_trait]
impl UpstreamRead for Proved {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        Ok(self.0.pop_front())
    }
}

/// An origin as a node asks it.
pub fn upstream(origin: Origin) -> Arc<dyn Upstream> {
    Arc::new(origin)
}
