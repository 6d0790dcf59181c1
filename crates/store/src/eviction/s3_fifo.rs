//! S3-FIFO (Yang et al., SOSP '23): a small queue for what is new, a tenth of all, and a main queue for what was read
//! there more than once; both first in, first out, and what the main queue saw read goes round again, three times at most.
//!
//! Without the ghost queue of the original: a pack never comes back under its name, so there is nothing to remember it by.
//! A read counts by its bytes: a unit was read once when as many bytes were read as it has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Moment, Policy, Unit};

/// The part of the units that the small queue has: 1 / this.
const SMALL: usize = 10;
/// Reads that are counted.
const MAX_READS: u64 = 3;

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct S3Fifo {
    small: VecDeque<Arc<Unit>>,
    main: VecDeque<Arc<Unit>>,
}

impl S3Fifo {
    /// The first of the small queue that was not read twice; the others before it are moved to the main queue.
    fn next_of_small(&mut self, may: &dyn Fn(&Unit) -> bool) -> Option<Arc<Unit>> {
        for _ in 0..self.small.len() {
            let unit = self.small.pop_front()?;
            if reads(&unit) > 1 {
                unit.hit_bytes.store(0, Ordering::Relaxed);
                self.main.push_back(unit);
            } else if may(&unit) {
                self.small.push_front(Arc::clone(&unit));
                return Some(unit);
            } else {
                self.small.push_back(unit);
            }
        }
        None
    }

    /// The first of the main queue whose reads are used up.
    fn next_of_main(&mut self, may: &dyn Fn(&Unit) -> bool) -> Option<Arc<Unit>> {
        for _ in 0..(MAX_READS as usize + 1) * self.main.len() {
            let unit = self.main.pop_front()?;
            let reads = reads(&unit);
            if reads == 0 && may(&unit) {
                self.main.push_front(Arc::clone(&unit));
                return Some(unit);
            }
            let left = reads.saturating_sub(1) * unit.bytes.load(Ordering::Relaxed);
            unit.hit_bytes.store(left, Ordering::Relaxed);
            self.main.push_back(unit);
        }
        None
    }
}

impl Policy for S3Fifo {
    fn insert(&mut self, unit: Arc<Unit>, _: bool) {
        self.small.push_back(unit);
    }

    fn remove(&mut self, unit: &Arc<Unit>) {
        for queue in [&mut self.small, &mut self.main] {
            queue.retain(|known| !Arc::ptr_eq(known, unit));
        }
    }

    fn victim(&mut self, _: Moment, may: &dyn Fn(&Unit) -> bool) -> Option<Arc<Unit>> {
        if self.small.len() * SMALL >= self.small.len() + self.main.len()
            && let Some(unit) = self.next_of_small(may)
        {
            return Some(unit);
        }
        self.next_of_main(may).or_else(|| self.next_of_small(may)).or_else(|| {
            let mut all = self.small.iter().chain(&self.main);
            all.find(|unit| may(unit)).cloned()
        })
    }
}

fn reads(unit: &Unit) -> u64 {
    let bytes = unit.bytes.load(Ordering::Relaxed).max(1);
    unit.hit_bytes.load(Ordering::Relaxed).div_ceil(bytes).min(MAX_READS)
}
