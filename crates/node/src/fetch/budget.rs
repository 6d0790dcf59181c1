//! Memory for bytes on their way.

use std::sync::Arc;
use std::time::Instant;

use forebay_model::ByteSize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits are counted in KiB: a page has 1,024.
const UNIT: u64 = 1 << 10;
/// What the smallest piece takes: its entries in tables, and the buffer of a connection that its bytes lie in.
const PIECE_MIN: u64 = 16 << 10;

/// A bounded amount of memory, taken before bytes are asked for and given back when nobody holds them.
#[derive(Debug)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    total: u32,
}

/// Memory taken; given back when dropped.
#[derive(Debug)]
pub(crate) struct Memory(OwnedSemaphorePermit);

impl Memory {
    /// Splits off the memory for `bytes`.
    pub(crate) fn split(&mut self, bytes: u64) -> Option<Self> {
        self.0.split(piece(bytes) as usize).map(Self)
    }
}

impl Budget {
    pub(crate) fn new(total: ByteSize) -> Self {
        let total = units(total.0).min(u32::MAX >> 4);
        Self { free: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Takes memory for pieces of these sizes if it is free now.
    pub(crate) fn try_take(&self, pieces: impl Iterator<Item = u64>) -> Option<Memory> {
        self.free.clone().try_acquire_many_owned(self.sum(pieces)).ok().map(Memory)
    }

    /// Takes memory for pieces of these sizes, in the order of asking. None when the deadline passes first.
    pub(crate) async fn take(&self, pieces: impl Iterator<Item = u64>, deadline: Instant) -> Option<Memory> {
        let wait = self.free.clone().acquire_many_owned(self.sum(pieces));
        tokio::time::timeout_at(deadline.into(), wait).await.ok()?.ok().map(Memory)
    }

    /// Whether at least a quarter is free.
    pub(crate) fn is_easy(&self) -> bool {
        self.free.available_permits() >= self.total as usize / 4
    }

    /// Bytes taken.
    pub(crate) fn taken(&self) -> u64 {
        (u64::from(self.total)).saturating_sub(self.free.available_permits() as u64) * UNIT
    }

    /// More than there is would be waited for in vain.
    fn sum(&self, pieces: impl Iterator<Item = u64>) -> u32 {
        pieces.map(piece).fold(0, u32::saturating_add).min(self.total)
    }
}

fn piece(bytes: u64) -> u32 {
    units(bytes.max(PIECE_MIN))
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}
