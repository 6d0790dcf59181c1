//! The least recently used unit goes. It is here to be compared with: an epoch over more than the cache holds leaves it
//! nothing that the next epoch reads soon.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Moment, Policy, Unit};

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Lru {
    /// In order of arrival: of two that were used at the same moment the older goes.
    units: Vec<Arc<Unit>>,
}

impl Policy for Lru {
    fn insert(&mut self, unit: Arc<Unit>, _: bool) {
        self.units.push(unit);
    }

    fn remove(&mut self, unit: &Arc<Unit>) {
        self.units.retain(|known| !Arc::ptr_eq(known, unit));
    }

    fn victim(&mut self, _: Moment, may: &dyn Fn(&Unit) -> bool) -> Option<Arc<Unit>> {
        let candidates = self.units.iter().filter(|unit| may(unit));
        candidates.min_by_key(|unit| unit.touched.load(Ordering::Relaxed)).cloned()
    }
}
