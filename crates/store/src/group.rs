//! Groups: rules that stand above the eviction policy, and what each group takes of a directory.
//!
//! Always true: a pinned group is not evicted from; a group takes no more than its quota; what is kept for a group takes the
//! place of nothing that has a higher priority. Rules are told by the caller after each start: the store keeps numbers only.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use forebay_model::ByteSize;
use parking_lot::Mutex;

use crate::eviction::Moment;

/// An opaque number that the store keeps with each content: source and class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(pub u64);

/// What a group may take, and how long it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRules {
    /// The most that it takes of the store. Each directory allows its share, by capacity. None: as much as there is.
    pub quota: Option<ByteSize>,
    /// Lower ones are evicted first, and never evict higher ones.
    pub priority: u8,
    /// What was kept longer ago is dropped, within a second; a pack with its oldest object. After a restart the time begins
    /// anew. None: never.
    pub ttl: Option<Duration>,
    /// Nothing of it is evicted.
    pub is_pinned: bool,
}

/// Bytes of a group in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupStats {
    /// Which.
    pub group: Group,
    /// Bytes of packs and pages.
    pub bytes_resident: u64,
}

/// A group on one directory.
#[derive(Debug)]
pub(crate) struct GroupState {
    pub(crate) group: u64,
    /// The directory's clock when anything of it was last filled or read.
    pub(crate) touched: AtomicU64,
    /// The directory's clock when something of it was kept that a plan knows; 0: never.
    pub(crate) planned: AtomicU64,
    /// Bytes of its packs and pages.
    pub(crate) used: AtomicU64,
    quota: AtomicU64,
    priority: AtomicU8,
    /// In milliseconds; the most for never.
    ttl: AtomicU64,
    is_pinned: AtomicBool,
}

/// The groups of a directory. As many as there are sources and their classes.
#[derive(Debug, Default)]
pub(crate) struct Groups(Mutex<HashMap<u64, Arc<GroupState>>>);

impl Default for GroupRules {
    /// No limits, in the middle of the priorities.
    fn default() -> Self {
        Self { quota: None, priority: 100, ttl: None, is_pinned: false }
    }
}

impl GroupState {
    fn new(group: u64) -> Self {
        let state = Self {
            group,
            touched: AtomicU64::new(0),
            planned: AtomicU64::new(0),
            used: AtomicU64::new(0),
            quota: AtomicU64::new(0),
            priority: AtomicU8::new(0),
            ttl: AtomicU64::new(0),
            is_pinned: AtomicBool::new(false),
        };
        state.set(&GroupRules::default(), u64::MAX);
        state
    }

    /// `quota` is this directory's share.
    fn set(&self, rules: &GroupRules, quota: u64) {
        let ttl = rules.ttl.map_or(u64::MAX, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        self.quota.store(quota, Ordering::Relaxed);
        self.priority.store(rules.priority, Ordering::Relaxed);
        self.ttl.store(ttl, Ordering::Relaxed);
        self.is_pinned.store(rules.is_pinned, Ordering::Relaxed);
    }

    /// Whether what came of it lately, a cache's worth ago at most, was in a plan.
    pub(crate) fn is_planned(&self, now: Moment) -> bool {
        let planned = self.planned.load(Ordering::Relaxed);
        planned > 0 && now.clock.saturating_sub(planned) <= now.quota
    }

    pub(crate) fn quota(&self) -> u64 {
        self.quota.load(Ordering::Relaxed)
    }

    pub(crate) fn priority(&self) -> u8 {
        self.priority.load(Ordering::Relaxed)
    }

    /// None: what it has stays.
    pub(crate) fn ttl(&self) -> Option<Duration> {
        let ttl = self.ttl.load(Ordering::Relaxed);
        (ttl < u64::MAX).then(|| Duration::from_millis(ttl))
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.is_pinned.load(Ordering::Relaxed)
    }
}

impl Groups {
    pub(crate) fn get(&self, group: u64) -> Arc<GroupState> {
        Arc::clone(self.0.lock().entry(group).or_insert_with(|| Arc::new(GroupState::new(group))))
    }

    /// `quota` is this directory's share.
    pub(crate) fn set(&self, group: u64, rules: &GroupRules, quota: u64) {
        self.get(group).set(rules, quota);
    }

    pub(crate) fn all(&self) -> Vec<Arc<GroupState>> {
        self.0.lock().values().cloned().collect()
    }

    /// The priorities of what lies here, in ascending order.
    pub(crate) fn priorities(&self) -> Vec<u8> {
        let groups = self.0.lock();
        let resident = groups.values().filter(|group| group.used.load(Ordering::Relaxed) > 0);
        let mut priorities: Vec<u8> = resident.map(|group| group.priority()).collect();
        priorities.sort_unstable();
        priorities.dedup();
        priorities
    }
}

/// A directory's part of a group's quota: as its capacity is to all.
pub(crate) fn quota_share(quota: Option<ByteSize>, capacity: u64, all: u64) -> u64 {
    quota.map_or(u64::MAX, |quota| (u128::from(quota.0) * u128::from(capacity) / u128::from(all.max(1))) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_quota_add_up_to_it() {
        let share = |capacity| quota_share(Some(ByteSize(1 << 40)), capacity, 400);
        assert_eq!((share(100), share(300)), (1 << 38, 3 << 38));
        assert_eq!(share(100) + share(300), 1 << 40);
        assert_eq!(quota_share(None, 100, 400), u64::MAX);
        assert_eq!(quota_share(Some(ByteSize(7)), 0, 0), 0);
    }
}
