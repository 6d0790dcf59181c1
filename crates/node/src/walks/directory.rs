//! What is remembered of a directory whose files are being read: when its names are fetched from the catalog, and how much
//! of what was fetched ahead in it was used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::source::Source;

/// Files that may be fetched in a directory before any was used, over those of the window that is growing.
const FREE: u64 = 32;
/// For how long a directory fetches nothing ahead after too little was used.
const REST: Duration = Duration::from_secs(60);
/// For how long after its origin failed.
const REST_OF_FAILED: Duration = Duration::from_secs(1);
/// An account of so many files is halved, so that what is long ago does not pay for today.
const ACCOUNT_MAX: u64 = 4_096;
/// Reads outside of all known stretches for each look into the catalog, at most.
const DUE_MAX: u32 = 128;
/// Reads in no order after which another order is looked for, and so many times that for the next look: it takes all names.
const ASTRAY: u32 = 8;
const ASTRAY_AGAIN: u32 = 64;

/// A directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) id: u64,
    pub(super) source: Arc<Source>,
    /// Its prefix of keys: empty, or ending in `/`.
    pub(super) prefix: Box<str>,
    /// When it was last used, in reads.
    pub(super) used_at: u64,
    /// Reads of files whose place is not known, since the last look into the catalog; and at how many the next is due.
    outside: u32,
    due: u32,
    pub(super) is_loading: bool,
    /// The same for reads in no order.
    astray: u32,
    astray_due: u32,
    /// Files fetched ahead, and those of them that were read.
    fetched: u64,
    used: u64,
    resting: Option<Instant>,
}

/// The directory of `key`, as a prefix of keys.
pub(crate) fn of(key: &str) -> &str {
    &key[..key.rfind('/').map_or(0, |slash| slash + 1)]
}

impl Directory {
    pub(super) fn new(id: u64, source: &Arc<Source>, prefix: &str) -> Self {
        let (source, prefix) = (source.clone(), prefix.into());
        let (used_at, outside, due, is_loading) = (0, 0, 1, false);
        let (astray, astray_due) = (0, ASTRAY);
        Self {
            id,
            source,
            prefix,
            used_at,
            outside,
            due,
            is_loading,
            astray,
            astray_due,
            fetched: 0,
            used: 0,
            resting: None,
        }
    }

    /// A file was read whose place is not known. Whether to look for it; each look that leads to no walk puts the next off.
    pub(super) fn is_due(&mut self) -> bool {
        self.outside += 1;
        if self.is_loading || self.outside < self.due {
            return false;
        }
        (self.outside, self.due) = (0, (self.due * 2).min(DUE_MAX));
        true
    }

    /// A file was read that stands in no known order. Whether to look for another one.
    pub(super) fn is_astray(&mut self) -> bool {
        self.astray += 1;
        if self.is_loading || self.astray < self.astray_due {
            return false;
        }
        (self.astray, self.astray_due) = (0, self.astray_due.saturating_mul(ASTRAY_AGAIN));
        true
    }

    /// A walk was found in it.
    pub(super) fn has_walk(&mut self) {
        (self.due, self.astray, self.astray_due) = (1, 0, ASTRAY);
    }

    pub(super) fn fetched(&mut self) {
        self.fetched += 1;
        if self.fetched > ACCOUNT_MAX {
            (self.fetched, self.used) = (self.fetched / 2, self.used / 2);
        }
    }

    pub(super) fn used(&mut self) {
        self.used += 1;
    }

    /// A file did not come, which is no matter of use: it has changed, or its origin fails.
    pub(super) fn failed(&mut self, has_changed: bool, now: Instant) {
        self.fetched = self.fetched.saturating_sub(1);
        if !has_changed {
            self.resting = self.resting.max(Some(now + REST_OF_FAILED));
        }
    }

    /// Whether a walk with `unread` files in its window may fetch more: at least half of all that was fetched besides must have
    /// been used.
    pub(super) fn allows(&mut self, unread: usize, now: Instant) -> bool {
        match self.resting {
            Some(until) if now < until => return false,
            Some(_) => (self.fetched, self.used, self.resting) = (0, 0, None),
            None => {}
        }
        let in_vain = self.fetched.saturating_sub(self.used).saturating_sub(unread as u64);
        if in_vain > FREE + self.used {
            self.resting = Some(now + REST);
            return false;
        }
        true
    }
}
