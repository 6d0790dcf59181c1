//! The seam of eviction: what a policy is told and what it is asked.
//!
//! A directory's writer owns its policy. Readers only count in [`Unit`]; a policy looks at the counts when it is asked
//! for a victim. Pins, handed-out contents and packs being written stand above it: they are filtered by the caller.

mod lru;
mod planned;
mod probation;
mod s3_fifo;
mod sieve;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use forebay_model::ExtentIndex;

use crate::group::GroupState;
use crate::large::Large;
use crate::pack::Pack;

use lru::Lru;
pub(crate) use planned::{Choice, Planned, soonest};
use probation::Probation;
use s3_fifo::S3Fifo;
use sieve::Sieve;

/// Which policy chooses what goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// What filled an empty cache stays while it is in use, new data is tried in a small part: resists scans.
    #[default]
    Probation,
    /// Least recently used.
    Lru,
    /// SIEVE (NSDI '24).
    Sieve,
    /// S3-FIFO (SOSP '23), without its ghost queue.
    S3Fifo,
}

impl Eviction {
    /// All policies, the default first.
    pub const ALL: [Self; 4] = [Self::Probation, Self::Lru, Self::Sieve, Self::S3Fifo];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Probation => "probation",
            Self::Lru => "lru",
            Self::Sieve => "sieve",
            Self::S3Fifo => "s3-fifo",
        }
    }

    /// A policy that knows of no unit yet.
    pub(crate) fn policy(self) -> Box<dyn Policy> {
        match self {
            Self::Probation => Box::new(Probation::new()),
            Self::Lru => Box::new(Lru::default()),
            Self::Sieve => Box::new(Sieve::default()),
            Self::S3Fifo => Box::new(S3Fifo::default()),
        }
    }
}

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

    /// What nobody has read for long, if the policy knows such a thing.
    fn idle(&mut self, _now: Moment, _may: &dyn Fn(&Unit) -> bool) -> Option<Arc<Unit>> {
        None
    }

    /// Whether what is hot in the last victim, if that is a pack, is to outlive it.
    fn spares_hot(&self) -> bool {
        false
    }
}

/// What is done with a pack that is to go, and some of whose objects are hot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes.
    Drop,
    /// Its hot objects are written again, then it goes.
    Rewrite,
    /// It stays, and the newcomer is not kept. Nothing in it is hot until it is read again.
    Spare,
}

/// What is done with a pack of `len` bytes of which `hot` are hot: no more than half a pack is written again for one.
pub(crate) fn verdict(hot: u64, len: u64) -> Verdict {
    match hot {
        0 => Verdict::Drop,
        _ if hot <= len / 2 => Verdict::Rewrite,
        _ => Verdict::Spare,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Groups;

    /// What the writer relies on, of every policy: it names only what may go and is still here, it names something while
    /// anything may go, and it ends.
    #[test]
    fn every_policy_names_what_may_go_and_nothing_else() {
        for eviction in Eviction::ALL {
            for all_read in [false, true] {
                let (groups, mut policy) = (Groups::default(), eviction.policy());
                let units: Vec<Arc<Unit>> = (0..40u64)
                    .map(|at| {
                        let unit = Unit::new(Owner::Pack(Weak::new()), at, groups.get(at % 3));
                        unit.bytes.store(10, Ordering::Relaxed);
                        policy.insert(Arc::clone(&unit), at >= 30);
                        unit
                    })
                    .collect();
                let now = Moment { clock: 40, quota: 400 };
                let barred = |unit: &Unit| units[..7].iter().any(|other| std::ptr::eq(&**other, unit));
                let mut gone: Vec<Arc<Unit>> = Vec::new();
                for _ in 7..units.len() {
                    if all_read {
                        units.iter().for_each(|unit| unit.hit(30, now.clock));
                    }
                    let victim = policy.victim(now, &|unit| !barred(unit)).expect("some may go");
                    assert!(!barred(&victim), "{}", eviction.name());
                    assert!(!gone.iter().any(|other| Arc::ptr_eq(other, &victim)), "{}", eviction.name());
                    policy.remove(&victim);
                    gone.push(victim);
                }
                assert!(policy.victim(now, &|unit| !barred(unit)).is_none(), "{}", eviction.name());
            }
        }
    }

    #[test]
    fn lru_lets_the_least_recently_used_go_and_sieve_what_was_not_read() {
        for (eviction, first) in [(Eviction::Lru, 1), (Eviction::Sieve, 2), (Eviction::S3Fifo, 2)] {
            let (groups, mut policy) = (Groups::default(), eviction.policy());
            let units: Vec<Arc<Unit>> =
                (0..4u64).map(|at| Unit::new(Owner::Pack(Weak::new()), at, groups.get(0))).collect();
            for unit in &units {
                unit.bytes.store(10, Ordering::Relaxed);
                policy.insert(Arc::clone(unit), false);
            }
            units[0].hit(20, 9);
            // Read, and long ago.
            units[1].hit(20, 1);
            let victim = policy.victim(Moment { clock: 9, quota: 40 }, &|_| true).expect("all may go");
            assert!(Arc::ptr_eq(&victim, &units[first]), "{}", eviction.name());
        }
    }
}
