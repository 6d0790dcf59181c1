//! Farthest next use: with a plan, what is read last goes first, and what is read later than all that is here is not kept.
//!
//! Belady's rule by samples: each time some candidates are drawn, and the farthest that were ever seen are remembered, as
//! Redis does it for LRU. So no order of all that is here is kept, which would cost tens of bytes an object. A candidate that
//! is remembered is asked for its next use again each time, for it may have been read, or be gone.

/// Candidates drawn for one victim.
const SAMPLE: usize = 32;
/// Of all that were drawn, so many of the farthest are remembered.
const POOL: usize = 64;

/// See the file's head. `K` names what can go.
#[derive(Debug)]
pub(crate) struct Planned<K> {
    pool: Vec<K>,
}

/// What is to be done for a newcomer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice<K> {
    /// It takes the place of this.
    Evict(K),
    /// All that was looked at is read before it.
    Refuse,
    /// The plan knows of nothing here.
    Nothing,
}

impl<K> Default for Planned<K> {
    fn default() -> Self {
        Self { pool: Vec::new() }
    }
}

impl<K: PartialEq> Planned<K> {
    /// Chooses for a newcomer that is read next at `newcomer`. `draw` gives some candidate; `next_use` says when it is read
    /// next, nothing if it is gone, may not go, or is in no plan.
    pub(crate) fn choose(
        &mut self,
        newcomer: u64,
        mut draw: impl FnMut() -> Option<K>,
        next_use: impl Fn(&K) -> Option<u64>,
    ) -> Choice<K> {
        let known = self.pool.drain(..).filter_map(|candidate| Some((next_use(&candidate)?, candidate)));
        let mut ranked: Vec<(u64, K)> = known.collect();
        for _ in 0..SAMPLE {
            if let Some(candidate) = draw()
                && ranked.iter().all(|(_, known)| *known != candidate)
                && let Some(next) = next_use(&candidate)
            {
                ranked.push((next, candidate));
            }
        }
        ranked.sort_by_key(|(next, _)| *next);
        let Some((farthest, candidate)) = ranked.pop() else { return Choice::Nothing };
        let choice = if farthest > newcomer {
            Choice::Evict(candidate)
        } else {
            ranked.push((farthest, candidate));
            Choice::Refuse
        };
        self.pool.extend(ranked.into_iter().rev().take(POOL).map(|(_, candidate)| candidate));
        choice
    }
}

/// Of objects of a pack of `len` bytes, each with its next use and its length, those that are read soonest, and before the
/// newcomer is: no more than half a pack, for that much is written again.
pub(crate) fn soonest<K>(mut objects: Vec<(u64, u64, K)>, newcomer: u64, len: u64) -> Vec<K> {
    objects.sort_by_key(|(next, ..)| *next);
    let mut bytes = 0;
    let kept = objects.into_iter().take_while(|(next, entry, _)| {
        bytes += entry;
        *next < newcomer && bytes <= len / 2
    });
    kept.map(|(.., object)| object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_farthest_goes_unless_the_newcomer_is_farther() {
        let mut planned = Planned::default();
        let mut at = 0;
        let mut draw = || {
            at += 1;
            Some(at % 10)
        };
        let next_use = |candidate: &u64| (*candidate != 9).then_some(*candidate * 10);
        assert_eq!(planned.choose(50, &mut draw, next_use), Choice::Evict(8), "9 is in no plan");
        assert_eq!(planned.choose(90, &mut draw, next_use), Choice::Refuse);
        // What was refused for is still remembered, and what it says now counts.
        assert_eq!(planned.choose(65, || None, |candidate| (*candidate == 7).then_some(70)), Choice::Evict(7));
        assert_eq!(planned.choose(0, || None, |_| None), Choice::Nothing);
    }

    #[test]
    fn what_is_read_soonest_outlives_a_pack_up_to_half_of_it() {
        let objects = || vec![(9, 10, 'd'), (1, 10, 'a'), (5, 10, 'c'), (2, 10, 'b'), (u64::MAX, 10, 'e')];
        assert_eq!(soonest(objects(), 100, 60), ['a', 'b', 'c']);
        assert_eq!(soonest(objects(), 5, 60), ['a', 'b'], "the newcomer comes before");
        assert_eq!(soonest(objects(), 100, 25), ['a']);
        assert!(soonest(objects(), u64::MAX, 0).is_empty());
    }
}
