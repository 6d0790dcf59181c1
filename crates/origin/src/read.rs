//! A read under way, whatever the origin.

use bytes::Bytes;

use crate::error::OriginError;
use crate::files::FileRead;
use crate::metrics::OriginMetrics;
use crate::remote_read::RemoteRead;

/// Bytes of a range, in order, as they arrive. Gives exactly the range's length, or an error.
///
/// Each piece is proved when it is given out, unless [`Self::is_proved_at_end`]: then keep nothing of a range before its last
/// piece is there.
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

    /// Whether the answer did not say which version it is of, as those of `hdfs` and `hf` never do: a stat after the range
    /// proves it, before the last piece is given out.
    pub fn is_proved_at_end(&self) -> bool {
        matches!(&self.engine, Engine::Remote(read) if read.is_proved_at_end())
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
