//! A read under way, whatever the origin.

use bytes::Bytes;

use crate::error::OriginError;
use crate::files::FileRead;
use crate::metrics::OriginMetrics;
use crate::remote_read::RemoteRead;

/// Bytes of a range, in order, as they arrive. Gives exactly the range's length, or an error.
///
/// With [`crate::Proof::StatAround`] over `hdfs` and `hf` only the last piece is given out after the second stat: keep
/// nothing of a range before the last piece is there. With every other proof each piece is proved when it is given out.
pub struct ReadStream {
    engine: Engine,
    metrics: OriginMetrics,
}

pub(crate) enum Engine {
    Remote(Box<RemoteRead>),
    File(FileRead),
}

impl ReadStream {
    pub(crate) fn new(engine: Engine, metrics: OriginMetrics) -> Self {
        Self { engine, metrics }
    }

    /// The next bytes, never an empty piece; None after the last. A call that is dropped loses nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        let next = match &mut self.engine {
            Engine::Remote(read) => read.next().await,
            Engine::File(read) => read.next().await,
        };
        next.inspect_err(|error| self.metrics.failed(error.kind))
    }
}
