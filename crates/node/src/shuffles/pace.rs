//! How many requests at once an origin is sent that nobody waits for.

use std::time::Duration;

/// Requests at once, at first.
const FIRST: f64 = 4.0;
/// Answers that take longer on average than so many times what they take when few are sent at once: they wait for each other.
const SLOW: u32 = 2;
/// A file takes longer by as much again for each so many bytes.
const BYTES: f64 = 131_072.0;
/// What is quicker than this comes from near by: twice that is no delay.
const NEAR: Duration = Duration::from_millis(1);
/// After so many answers it is found out anew what they take when few are sent at once: an origin may become slower, and one's own
/// queue would pass for that.
const LOOK: u32 = 1_024;
const LOOKED_AT: u32 = 16;
const FEW: f64 = 2.0;
/// Each answer is so much of the average.
const SHARE: u32 = 16;

/// How many at once, by how long they take: more for as long as that makes them no slower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    width: f64,
    /// What an answer takes when few are sent at once, on average over those looked at; and now.
    alone: Duration,
    now: Duration,
    /// They were not slow yet.
    is_starting: bool,
    answers: u32,
    /// Answers to come until it is known what they take.
    looking: u32,
}

impl Default for Pace {
    fn default() -> Self {
        let (alone, now) = (Duration::ZERO, Duration::ZERO);
        Self { width: FIRST, alone, now, is_starting: true, answers: 0, looking: LOOKED_AT }
    }
}

impl Pace {
    /// Requests at once.
    pub(super) fn width(&self) -> usize {
        if self.looking > 0 && self.answers > LOOKED_AT { self.width.min(FEW) as usize } else { self.width as usize }
    }

    /// An answer of so many bytes took that long; so many requests at once are allowed.
    pub(super) fn took(&mut self, bytes: u64, took: Duration, most: usize) {
        let took = took.div_f64(1.0 + bytes as f64 / BYTES);
        self.answers = self.answers.wrapping_add(1);
        if self.looking > 0 {
            self.looking -= 1;
            if self.looking < LOOKED_AT {
                self.alone += took / LOOKED_AT;
            }
            if self.looking == 0 {
                self.alone = self.alone.max(NEAR);
                self.now = self.alone;
            }
            return;
        }
        self.now = self.now - self.now / SHARE + took / SHARE;
        let is_slow = self.now > self.alone * SLOW;
        if self.is_starting && is_slow {
            // It was noticed late.
            self.is_starting = false;
            self.width /= 1.5;
        }
        // By one in the time of one answer each; twice as many in that time at the start.
        let step = if self.is_starting { 1.0 } else { 1.0 / self.width };
        self.set(self.width + if is_slow { -step } else { step }, most);
        if self.answers.is_multiple_of(LOOK) {
            // Those that are under way were many at once.
            (self.looking, self.alone) = (self.width as u32 + LOOKED_AT, Duration::ZERO);
        }
    }

    /// The origin failed.
    pub(super) fn failed(&mut self) {
        self.is_starting = false;
        self.set(self.width / 2.0, usize::MAX);
    }

    fn set(&mut self, width: f64, most: usize) {
        self.width = width.clamp(1.0, most.max(1) as f64);
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    /// So many answers of an origin that gives so many a second, and each after `latency`. The widths.
    fn settle(pace: &mut Pace, answers: usize, rate: f64, mut latency: impl FnMut() -> Duration) -> Vec<usize> {
        let answer = |_| {
            let queue = Duration::from_secs_f64(pace.width() as f64 / rate);
            pace.took(100_000, latency().max(queue) + Duration::from_millis(2), 48);
            pace.width()
        };
        (0..answers).map(answer).collect()
    }

    #[test]
    fn an_origin_is_sent_as_many_as_it_answers_without_delay() {
        let (far, near) = (|| Duration::from_millis(20), || Duration::from_millis(2));
        let mut pace = Pace::default();
        let widths = settle(&mut pace, 100, 1_000.0, far);
        assert!(widths[60] >= 30, "{}: it begins quickly", widths[60]);
        let widths = settle(&mut pace, 20_000, 1_000.0, far);
        assert!(widths.iter().all(|width| *width <= 46), "20 at once fill it, and 40 take twice as long");
        assert!(widths.iter().filter(|width| **width >= 30).count() >= 18_000);
        let widths = settle(&mut pace, 5_000, 1e9, far);
        assert!(widths[2_500..].iter().filter(|width| **width == 48).count() >= 2_300, "nothing slows that one down");
        let widths = settle(&mut pace, 5_000, 1_000.0, near);
        assert!(widths[3_000..].iter().all(|width| *width <= 10), "{:?}", &widths[4_990..]);
    }

    #[test]
    fn one_whose_answers_differ_is_not_taken_for_a_busy_one() {
        for seed in 0..8 {
            let mut random = StdRng::seed_from_u64(seed);
            // One of ten takes eight times as long, and the others one to three times.
            let uneven = || {
                let times = if random.random_bool(0.1) { 8.0 } else { random.random_range(1.0..3.0) };
                Duration::from_millis(10).mul_f64(times)
            };
            let widths = settle(&mut Pace::default(), 5_000, 1e9, uneven);
            let wide = widths.iter().filter(|width| **width >= 30).count();
            assert!(wide >= 3_500, "seed {seed}: {wide} of 5,000");
        }
    }

    #[test]
    fn one_that_fails_is_sent_fewer() {
        let mut pace = Pace::default();
        settle(&mut pace, 200, 1e9, || Duration::from_millis(20));
        (0..10).for_each(|_| pace.failed());
        assert_eq!(pace.width(), 1);
    }
}
