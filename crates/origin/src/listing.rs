//! One level of an origin's names, in batches.

use std::sync::Arc;

use crate::ObjectMeta;
use crate::error::OriginError;
use crate::files_list::FilesList;
use crate::metrics::OriginMetrics;
use crate::remote_list::RemoteList;
use crate::web::WebList;

/// Entries of a batch: what S3 gives at most in one answer. Batches may be shorter.
pub(crate) const BATCH: usize = 1000;

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// An object.
    Object {
        /// Its full key.
        key: Arc<str>,
        /// What is known of it.
        meta: ObjectMeta,
    },
    /// Keys with this in common, up to and with a `/`. `/` alone stands for keys that start with a slash.
    Prefix {
        /// The prefix, with its `/`.
        key: Arc<str>,
    },
}

impl Listed {
    /// Its full key, or the prefix.
    pub fn key(&self) -> &str {
        match self {
            Self::Object { key, .. } | Self::Prefix { key } => key,
        }
    }
}

/// A listing under way. Entries come in no particular order. It is whole when `next_batch` gives `None`, and at no other
/// time: after an error it gives the same error for ever.
pub struct Listing {
    engine: Engine,
    metrics: OriginMetrics,
    failed: Option<OriginError>,
}

pub(crate) enum Engine {
    Remote(Box<RemoteList>),
    Files(FilesList),
    Web(WebList),
    Refused(OriginError),
}

impl Listing {
    pub(crate) fn new(engine: Engine, metrics: OriginMetrics) -> Self {
        Self { engine, metrics, failed: None }
    }

    /// The next entries, never an empty batch; None when all were given. Each batch has the settings' deadline. A call
    /// that is dropped loses nothing.
    pub async fn next_batch(&mut self) -> Result<Option<Vec<Listed>>, OriginError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let next = match &mut self.engine {
            Engine::Remote(list) => Box::pin(list.next_batch()).await,
            Engine::Files(list) => list.next_batch().await,
            Engine::Web(list) => Box::pin(list.next_batch()).await,
            Engine::Refused(error) => Err(error.clone()),
        };
        next.inspect_err(|error| {
            self.metrics.failed(error.kind);
            self.failed = Some(error.clone());
        })
    }

    /// Names passed over so far because they cannot be read: not UTF-8, or sockets, devices and pipes.
    pub fn hidden(&self) -> u64 {
        match &self.engine {
            Engine::Files(list) => list.hidden(),
            Engine::Remote(_) | Engine::Web(_) | Engine::Refused(_) => 0,
        }
    }
}
