//! Eviction without a disk: the policies of the store, as they are, over a sequence of accesses.

mod cache;
mod optimum;
mod pattern;

use std::collections::HashMap;

use forebay_model::{ContentId, PAGE, PageIndex, page_len};

use crate::eviction::Eviction;

use cache::Cache;
pub use optimum::optimum;
pub use pattern::Pattern;

/// One read of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The content.
    pub id: ContentId,
    /// Its size in bytes.
    pub size: u64,
    /// Its group.
    pub group: u64,
    /// The first byte read.
    pub offset: u64,
    /// Bytes read.
    pub len: u64,
}

/// What came of a sequence of accesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Accesses.
    pub accesses: u64,
    /// Accesses that found all their pages.
    pub hits: u64,
    /// Bytes of the pages accessed.
    pub bytes: u64,
    /// Of those, bytes that were there.
    pub hit_bytes: u64,
    /// Bytes written because they were absent.
    pub filled_bytes: u64,
    /// Bytes written again, so that what is read often, or soon, outlives its pack.
    pub rewritten_bytes: u64,
}

/// A page of a content; a small object is its only page.
pub(crate) type Piece = (ContentId, PageIndex);

impl Outcome {
    /// Part of the accesses that hit.
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / self.accesses.max(1) as f64
    }

    /// Part of the bytes that hit.
    pub fn byte_hit_rate(&self) -> f64 {
        self.hit_bytes as f64 / self.bytes.max(1) as f64
    }

    /// Adds an access of which each piece has a length and was here or not.
    pub(crate) fn add(&mut self, pieces: &[(u64, bool)]) {
        self.accesses += 1;
        self.hits += u64::from(pieces.iter().all(|(_, here)| *here));
        for (len, here) in pieces {
            self.bytes += len;
            self.hit_bytes += if *here { *len } else { 0 };
        }
    }
}

/// What the policy makes of `accesses` in a cache of `quota` bytes that starts empty.
pub fn simulate(accesses: &[Access], quota: u64, eviction: Eviction) -> Outcome {
    run(accesses, Cache::new(quota, eviction, false))
}

/// The same with the default policy and a plan that knows all of `accesses` beforehand.
pub fn simulate_planned(accesses: &[Access], quota: u64) -> Outcome {
    run(accesses, Cache::new(quota, Eviction::default(), true))
}

fn run(accesses: &[Access], mut cache: Cache) -> Outcome {
    let all: Vec<Piece> = accesses.iter().flat_map(pieces_of).map(|(piece, _)| piece).collect();
    let next = next_uses(&all);
    let mut outcome = Outcome::default();
    let (mut pieces, mut at) = (Vec::new(), 0);
    for access in accesses {
        pieces.clear();
        pieces.extend(pieces_of(access).map(|(piece, len)| {
            cache.plan(piece, next[at]);
            at += 1;
            let here = cache.read(piece, len);
            if !here && cache.keep(access, piece, len) {
                outcome.filled_bytes += len;
            }
            (len, here)
        }));
        outcome.add(&pieces);
    }
    outcome.rewritten_bytes = cache.rewritten_bytes();
    outcome
}

/// For each of `pieces`, in order: at which place of the order it is used next.
pub(crate) fn next_uses(pieces: &[Piece]) -> Vec<u64> {
    let mut next = vec![u64::MAX; pieces.len()];
    let mut seen: HashMap<Piece, u64> = HashMap::new();
    for (at, piece) in pieces.iter().enumerate().rev() {
        next[at] = seen.insert(*piece, at as u64).unwrap_or(u64::MAX);
    }
    next
}

/// The pieces of an access and their lengths. A range beyond the end is cut.
pub(crate) fn pieces_of(access: &Access) -> impl Iterator<Item = (Piece, u64)> {
    let Access { id, size, offset, len, .. } = *access;
    let end = offset.saturating_add(len).min(size);
    let pages = offset / PAGE..if offset < end { end.div_ceil(PAGE) } else { 0 };
    pages.map(move |page| {
        let page = PageIndex(page as u32);
        ((id, page), page_len(size, page))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CACHE: u64 = 256 << 20;

    fn rate(pattern: Pattern, eviction: Eviction) -> f64 {
        simulate(&pattern.accesses(CACHE, 7), CACHE, eviction).hit_rate()
    }

    #[test]
    fn shuffled_epochs_over_twice_the_cache_are_near_the_optimum_and_hardly_rewrite() {
        let accesses = Pattern::ShuffledEpochs.accesses(CACHE, 7);
        // The first epoch finds nothing whatever is done.
        let epoch = accesses.len() / Pattern::EPOCHS;
        let outcome = simulate(&accesses, CACHE, Eviction::default());
        let warm = outcome.hits as f64 / (accesses.len() - epoch) as f64;
        assert!(warm >= 0.49, "{warm}");
        assert!(outcome.rewritten_bytes * 100 <= outcome.filled_bytes, "{outcome:?}");
    }

    #[test]
    fn the_default_is_within_two_hundredths_of_the_best_of_the_others_on_zipf() {
        for pattern in [Pattern::Zipf60, Pattern::Zipf80, Pattern::Zipf100] {
            let others = Eviction::ALL[1..].iter().map(|eviction| rate(pattern, *eviction));
            let best = others.fold(0.0, f64::max);
            let own = rate(pattern, Eviction::default());
            assert!(own >= 0.98 * best, "{}: {own} against {best}", pattern.name());
        }
    }

    #[test]
    fn with_a_plan_hits_are_near_the_optimum_and_little_is_written_again() {
        for pattern in [Pattern::ShuffledEpochs, Pattern::TwoJobs, Pattern::Replacement, Pattern::Mix, Pattern::ModelLoading] {
            let accesses = pattern.accesses(CACHE, 7);
            let (outcome, best) = (simulate_planned(&accesses, CACHE), optimum(&accesses, CACHE));
            let (name, part) = (pattern.name(), outcome.hits as f64 / best.hits as f64);
            assert!(part >= 0.97, "{name}: {part} of the optimum");
            assert!(outcome.rewritten_bytes * 20 <= outcome.filled_bytes, "{name}: {outcome:?}");
        }
    }

    #[test]
    fn no_policy_beats_the_optimum_of_equal_sizes() {
        for pattern in [Pattern::ShuffledEpochs, Pattern::Zipf80, Pattern::TwoJobs, Pattern::Replacement] {
            let accesses = pattern.accesses(CACHE, 3);
            let best = optimum(&accesses, CACHE);
            for eviction in Eviction::ALL {
                let outcome = simulate(&accesses, CACHE, eviction);
                assert!(outcome.hits <= best.hits, "{} {}", pattern.name(), eviction.name());
            }
        }
    }
}
