//! Requests to origins that nobody waits for: how many there may be.
//!
//! Always true: a quarter of an origin's requests stays free for those who wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::shuffles::Places;
use crate::source::Source;

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    /// Who reads in order.
    Files,
    /// Who reads in no order.
    Directories,
}

/// How many are under way, by source.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<Vec<(Weak<Source>, Arc<AtomicUsize>)>>);

/// A request to a source that nobody waits for yet. It has its place until it is dropped.
#[derive(Debug)]
pub(super) struct Lane(Arc<AtomicUsize>);

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lanes {
    /// A place among the requests to `source` that nobody waits for; none if it is busy.
    pub(super) fn take(&self, source: &Arc<Source>, what: Ahead) -> Option<Lane> {
        let lane = Lane(self.under_way(source));
        let before = lane.0.fetch_add(1, Ordering::Relaxed);
        (places(source, before, what).now > 0).then_some(lane)
    }

    /// How many places there are.
    pub(super) fn places(&self, source: &Arc<Source>, what: Ahead) -> Places {
        places(source, self.count(source), what)
    }

    /// How many are taken.
    pub(super) fn count(&self, source: &Arc<Source>) -> usize {
        self.under_way(source).load(Ordering::Relaxed)
    }

    fn under_way(&self, source: &Arc<Source>) -> Arc<AtomicUsize> {
        let mut lanes = self.0.lock();
        if let Some((_, known)) = lanes.iter().find(|(of, _)| of.as_ptr() == Arc::as_ptr(source)) {
            return known.clone();
        }
        lanes.retain(|(of, _)| of.strong_count() > 0);
        let new = Arc::default();
        lanes.push((Arc::downgrade(source), Arc::clone(&new)));
        new
    }
}

/// Never the last quarter: a reader that comes finds it free. For who reads in no order never more than half, so that who reads in
/// order keeps a window beside it.
fn places(source: &Source, under_way: usize, what: Ahead) -> Places {
    let turns = source.upstream.turns();
    let reserve = turns.max.div_ceil(4);
    let most = match what {
        Ahead::Files => turns.max - reserve,
        Ahead::Directories => (turns.max / 2).clamp(1, (turns.max - reserve).max(1)),
    };
    Places { now: most.saturating_sub(under_way).min(turns.free.saturating_sub(reserve)), most }
}
