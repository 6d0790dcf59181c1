//! The seam of eviction: what a policy is told and what it is asked.
//!
//! A directory's writer owns its policy. Readers only count in [`Unit`]; a policy looks at the counts when it is asked
//! for a victim. Pins, handed-out contents and packs being written stand above it: they are filtered by the caller.

mod probation;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use forebay_model::ExtentIndex;

use crate::group::GroupState;
use crate::large::Large;
use crate::pack::Pack;

pub(crate) use probation::Probation;

/// What is evicted at once: a pack, or an extent of a large content. A unit is itself by its address: a content that was
/// dropped and fetched again is another, though it has the same id.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) owner: Owner,
    /// Bytes that it takes.
    pub(crate) bytes: AtomicU64,
    /// Bytes read from it since it was last judged.
    pub(crate) hit_bytes: AtomicU64,
    /// The directory's clock when it was last filled or read.
    pub(crate) touched: AtomicU64,
    /// Its group on the directory.
    pub(crate) group: Arc<GroupState>,
}

/// Whose bytes a unit stands for.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    /// A pack.
    Pack(Weak<Pack>),
    /// An extent of a large content.
    Extent(Weak<Large>, ExtentIndex),
}

/// A directory at the moment of a decision. The clock counts bytes offered to it: time stands still while nothing new
/// comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Bytes offered since the store was opened.
    pub(crate) clock: u64,
    /// Bytes that may be kept.
    pub(crate) quota: u64,
}

/// Chooses what goes.
pub(crate) trait Policy: Send + std::fmt::Debug {
    /// A unit was begun, on a directory that is full or has room.
    fn insert(&mut self, unit: Arc<Unit>, full: bool);

    /// A unit is gone.
    fn remove(&mut self, unit: &Arc<Unit>);

    /// What to evict for new data; `may` says which units can be. None: the new data is not to be kept.
    fn victim(&mut self, now: Moment, may: &dyn Fn(&Unit) -> bool) -> Option<Arc<Unit>>;
}

impl Unit {
    pub(crate) fn new(owner: Owner, clock: u64, group: Arc<GroupState>) -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        Arc::new(Self { owner, bytes: zero(), hit_bytes: zero(), touched: AtomicU64::new(clock), group })
    }

    /// Counts a read of `bytes`.
    pub(crate) fn hit(&self, bytes: u64, clock: u64) {
        self.hit_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.touch(clock);
    }

    /// Sets the time of the last use.
    pub(crate) fn touch(&self, clock: u64) {
        for touched in [&self.touched, &self.group.touched] {
            // Read first: a store to a shared line on every read would not scale.
            if touched.load(Ordering::Relaxed) != clock {
                touched.store(clock, Ordering::Relaxed);
            }
        }
    }
}
