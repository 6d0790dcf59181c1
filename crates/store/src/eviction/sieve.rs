//! SIEVE (Zhang et al., NSDI '24): a queue in order of arrival and a hand that goes from the oldest to the newest. What
//! was read since the hand last passed stays where it is; the first that was not goes.
//!
//! A unit here is a pack or an extent: one read of any of its bytes counts as a read of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Moment, Policy, Unit};

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Sieve {
    /// The oldest first.
    queue: VecDeque<Arc<Unit>>,
    /// Where the hand stands.
    hand: usize,
}

impl Policy for Sieve {
    fn insert(&mut self, unit: Arc<Unit>, _: bool) {
        self.queue.push_back(unit);
    }

    fn remove(&mut self, unit: &Arc<Unit>) {
        if let Some(at) = self.queue.iter().position(|known| Arc::ptr_eq(known, unit)) {
            self.queue.remove(at);
            self.hand -= usize::from(at < self.hand);
        }
    }

    fn victim(&mut self, _: Moment, may: &dyn Fn(&Unit) -> bool) -> Option<Arc<Unit>> {
        // Twice around: the first may do no more than forget who was read.
        for _ in 0..2 * self.queue.len() {
            if self.hand >= self.queue.len() {
                self.hand = 0;
            }
            let unit = &self.queue[self.hand];
            if may(unit) && unit.hit_bytes.swap(0, Ordering::Relaxed) == 0 {
                return Some(Arc::clone(unit));
            }
            self.hand += 1;
        }
        // Those that may go are read all the time: the oldest of them.
        self.queue.iter().find(|unit| may(unit)).cloned()
    }
}
