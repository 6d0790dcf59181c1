//! The default policy: what fills an empty cache stays, new data is tried in a small part of it, idle data goes first.
//!
//! Why it resists scans. LRU throws out, on an epoch over a data set twice the cache, each byte just before it is read
//! again. This policy leaves most of the cache alone as long as it is in use at all, so nearly the best rate
//! (cache / data) is had at any order of reading, and nothing is ever copied. New data is written into the rest, first in,
//! first out: a tenth for a group that has nothing settled, about one pack for one that has. What is read again
//! there, at least half of it, is promoted.
//!
//! What is idle goes first, and its successor is as good as what fills an empty cache. A data set that is in use has some
//! unit read all the time: a group of which nothing was touched while the misses came to a tenth of the cache is idle, so
//! a new job's data soon takes the place of an old one's. A single unit of a group in use may be touched once an epoch: it
//! is idle after four caches of misses (an epoch over a data set five times the cache, in the same order).
//!
//! Victims among the nine tenths are the least recently used of a sample, as Redis does it: no list to keep in order.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Moment, Policy, Unit};

/// The part of the quota in which new data is tried: 1 / this, of a group that has nothing settled yet,
const PROBATION: u64 = 10;
/// and of groups that have: what they keep is as good as what they would try.
const PROBATION_SETTLED: u64 = 128;
/// A group is idle when this part of the quota was missed since anything of it was touched: 1 / this.
const GROUP_IDLE: u64 = 10;
/// A unit is idle when so many times the quota were missed since it was touched.
const UNIT_IDLE: u64 = 4;
/// Units compared for one victim.
const SAMPLE: usize = 32;
/// Units whose size is looked at to know the size of all on probation.
const MEASURED: usize = 64;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Probation {
    settled: Vec<Arc<Unit>>,
    /// By the unit's address: it is held here, so no other has the same.
    place: HashMap<usize, usize>,
    /// Settled units of each group, by the address of its clock, which they hold.
    settled_of: HashMap<usize, usize>,
    tried: VecDeque<Arc<Unit>>,
    /// The last victim was idle: what takes its place need not be tried.
    displaced_idle: bool,
    random: u64,
}

impl Probation {
    pub(crate) fn new() -> Self {
        Self {
            settled: Vec::new(),
            place: HashMap::new(),
            settled_of: HashMap::new(),
            tried: VecDeque::new(),
            displaced_idle: false,
            // Any odd number: only the choice of samples hangs on it.
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn settle(&mut self, unit: Arc<Unit>) {
        self.place.insert(Arc::as_ptr(&unit).addr(), self.settled.len());
        *self.settled_of.entry(group(&unit)).or_default() += 1;
        self.settled.push(unit);
    }

    /// The best to go of a sample of the settled units that may: an idle one, then the least recently used.
    fn worst_settled(&mut self, now: Moment, may: &dyn Fn(&Unit) -> bool) -> Option<(bool, Arc<Unit>)> {
        let all = self.settled.len();
        let mut worst: Option<((bool, u64), &Arc<Unit>)> = None;
        for n in 0..SAMPLE.min(all) {
            // Few units: all of them.
            let at = if all <= SAMPLE { n } else { next(&mut self.random) as usize % all };
            let unit = &self.settled[at];
            // The idle before what is in use, then by age: the least goes.
            let rank = (!is_idle(unit, now), unit.touched.load(Ordering::Relaxed));
            if worst.as_ref().is_none_or(|(least, _)| rank < *least) && may(unit) {
                worst = Some((rank, unit));
            }
        }
        worst.map(|((in_use, _), unit)| (!in_use, Arc::clone(unit)))
    }

    /// The first of those on probation that may go and did not earn to stay; promotes those before it that did.
    fn first_tried(&mut self, may: &dyn Fn(&Unit) -> bool, quota: u64) -> Option<Arc<Unit>> {
        for _ in 0..self.tried.len() {
            if !self.is_probation_full(quota) {
                return None;
            }
            let unit = self.tried.pop_front()?;
            let bytes = unit.bytes.load(Ordering::Relaxed);
            if bytes > 0 && unit.hit_bytes.swap(0, Ordering::Relaxed) >= bytes.div_ceil(2) {
                self.settle(unit);
            } else if may(&unit) {
                self.tried.push_front(Arc::clone(&unit));
                return Some(unit);
            } else {
                self.tried.push_back(unit);
            }
        }
        None
    }

    /// Whether more than its part is on probation; by the mean of the first units, for all are of about one size.
    fn is_probation_full(&self, quota: u64) -> bool {
        let measured = self.tried.len().min(MEASURED);
        let bytes: u64 = self.tried.iter().take(measured).map(|unit| unit.bytes.load(Ordering::Relaxed)).sum();
        let is_new = self.tried.iter().any(|unit| !self.settled_of.contains_key(&group(unit)));
        let part = if is_new { PROBATION } else { PROBATION_SETTLED };
        measured > 0 && bytes / measured as u64 * self.tried.len() as u64 >= quota / part
    }
}

impl Policy for Probation {
    fn insert(&mut self, unit: Arc<Unit>, full: bool) {
        if !full || std::mem::take(&mut self.displaced_idle) {
            self.settle(unit);
        } else {
            self.tried.push_back(unit);
        }
    }

    fn remove(&mut self, unit: &Arc<Unit>) {
        if let Some(at) = self.place.remove(&Arc::as_ptr(unit).addr()) {
            self.settled.swap_remove(at);
            if let Entry::Occupied(mut count) = self.settled_of.entry(group(unit)) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
            if let Some(moved) = self.settled.get(at) {
                self.place.insert(Arc::as_ptr(moved).addr(), at);
            }
        } else if let Some(at) = self.tried.iter().position(|tried| Arc::ptr_eq(tried, unit)) {
            self.tried.remove(at);
        }
    }

    fn victim(&mut self, now: Moment, may: &dyn Fn(&Unit) -> bool) -> Option<Arc<Unit>> {
        let worst = self.worst_settled(now, may);
        self.displaced_idle = worst.as_ref().is_some_and(|(idle, _)| *idle);
        let worst = worst.map(|(_, unit)| unit);
        if self.displaced_idle {
            return worst;
        }
        let tried = self.first_tried(may, now.quota);
        tried.or(worst).or_else(|| self.tried.iter().find(|unit| may(unit)).cloned())
    }

    fn idle(&mut self, now: Moment, may: &dyn Fn(&Unit) -> bool) -> Option<Arc<Unit>> {
        let (is_idle, unit) = self.worst_settled(now, may)?;
        self.displaced_idle = is_idle;
        is_idle.then_some(unit)
    }

    fn spares_hot(&self) -> bool {
        !self.displaced_idle
    }
}

fn is_idle(unit: &Unit, now: Moment) -> bool {
    let since = |touched: &AtomicU64| now.clock.saturating_sub(touched.load(Ordering::Relaxed));
    since(&unit.group.touched) > now.quota / GROUP_IDLE || since(&unit.touched) > now.quota.saturating_mul(UNIT_IDLE)
}

/// What names a unit's group.
fn group(unit: &Unit) -> usize {
    Arc::as_ptr(&unit.group).addr()
}

/// Marsaglia's xorshift64.
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Weak;

    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;

    use super::super::Owner;
    use super::*;
    use crate::group::Groups;

    /// A cache of `quota` objects of one byte, in units of `per_unit` objects filled in order of arrival.
    struct Cache {
        policy: Probation,
        groups: Groups,
        quota: u64,
        per_unit: u64,
        used: u64,
        clock: u64,
        open: Option<Arc<Unit>>,
        units: HashMap<*const Unit, Vec<u64>>,
        at: HashMap<u64, Arc<Unit>>,
    }

    impl Cache {
        fn new(quota: u64, per_unit: u64) -> Self {
            Self {
                policy: Probation::new(),
                groups: Groups::default(),
                quota,
                per_unit,
                used: 0,
                clock: 0,
                open: None,
                units: HashMap::new(),
                at: HashMap::new(),
            }
        }

        /// Reads an object; true if it was here.
        fn read(&mut self, object: u64) -> bool {
            if let Some(unit) = self.at.get(&object) {
                unit.hit(1, self.clock);
                return true;
            }
            self.clock += 1;
            let full = self.used >= self.quota;
            while self.used >= self.quota {
                let now = Moment { clock: self.clock, quota: self.quota };
                let open = self.open.as_ref().map(Arc::as_ptr);
                let Some(victim) = self.policy.victim(now, &|unit| Some(std::ptr::from_ref(unit)) != open) else {
                    return false;
                };
                self.policy.remove(&victim);
                for gone in self.units.remove(&Arc::as_ptr(&victim)).unwrap_or_default() {
                    self.at.remove(&gone);
                    self.used -= 1;
                }
            }
            let unit = match &self.open {
                Some(unit) if (self.units[&Arc::as_ptr(unit)].len() as u64) < self.per_unit => Arc::clone(unit),
                _ => {
                    // Data sets are far apart, and each is a group.
                    let unit = Unit::new(Owner::Pack(Weak::new()), self.clock, self.groups.get(object / 50_000));
                    self.policy.insert(Arc::clone(&unit), full);
                    self.units.insert(Arc::as_ptr(&unit), Vec::new());
                    self.open = Some(Arc::clone(&unit));
                    unit
                }
            };
            unit.bytes.fetch_add(1, Ordering::Relaxed);
            unit.touch(self.clock);
            self.units.entry(Arc::as_ptr(&unit)).or_default().push(object);
            self.at.insert(object, unit);
            self.used += 1;
            false
        }

        /// Hit rate of one epoch over `data`, shuffled or not.
        fn epoch(&mut self, data: std::ops::Range<u64>, random: Option<&mut StdRng>) -> f64 {
            let mut order: Vec<u64> = data.collect();
            if let Some(random) = random {
                order.shuffle(random);
            }
            order.iter().filter(|object| self.read(**object)).count() as f64 / order.len() as f64
        }
    }

    #[test]
    fn shuffled_epochs_over_twice_the_cache_hit() {
        for per_unit in [1, 100] {
            let mut random = StdRng::seed_from_u64(1);
            let mut cache = Cache::new(12_800, per_unit);
            cache.epoch(0..25_600, Some(&mut random));
            let rates: Vec<f64> = (0..10).map(|_| cache.epoch(0..25_600, Some(&mut random))).collect();
            let mean = rates.iter().sum::<f64>() / rates.len() as f64;
            assert!(mean >= 0.49, "units of {per_unit}: {mean} {rates:?}");
        }
    }

    #[test]
    fn sequential_epochs_over_twice_the_cache_hit() {
        for per_unit in [1, 100] {
            let mut cache = Cache::new(12_800, per_unit);
            cache.epoch(0..25_600, None);
            let rate = (0..10).map(|_| cache.epoch(0..25_600, None)).sum::<f64>() / 10.0;
            assert!(rate >= 0.49, "units of {per_unit}: {rate}");
        }
    }

    #[test]
    fn data_of_the_same_group_that_nobody_reads_goes_in_the_end() {
        let mut random = StdRng::seed_from_u64(3);
        let mut cache = Cache::new(12_800, 100);
        cache.epoch(0..12_800, Some(&mut random));
        for _ in 0..8 {
            cache.epoch(20_000..30_000, Some(&mut random));
        }
        assert!(cache.epoch(20_000..30_000, Some(&mut random)) > 0.95);
    }

    #[test]
    fn a_new_jobs_data_takes_the_place_of_idle_data() {
        for (per_unit, epochs) in [(100, 2), (1, 2)] {
            let mut random = StdRng::seed_from_u64(2);
            let mut cache = Cache::new(12_800, per_unit);
            cache.epoch(0..12_800, Some(&mut random));
            for _ in 0..epochs {
                cache.epoch(50_000..60_000, Some(&mut random));
            }
            let rate = cache.epoch(50_000..60_000, Some(&mut random));
            assert!(rate > 0.95, "units of {per_unit}: {rate}");
        }
    }

    #[test]
    fn a_small_new_set_is_kept_at_once() {
        let mut cache = Cache::new(12_800, 100);
        cache.epoch(0..12_800, None);
        cache.epoch(50_000..50_900, None);
        assert!(cache.epoch(50_000..50_900, None) > 0.95);
    }
}
