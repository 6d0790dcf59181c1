//! What a slice came to: a rate, and how long single answers took.

use std::time::Duration;

/// Answers that are kept of one reader: 1 MiB of them.
const ANSWERS_MAX: usize = 1 << 18;

/// What one reader did.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    /// Files, reads, stats or names.
    pub(super) done: u64,
    pub(super) bytes: u64,
    pub(super) took: Duration,
    /// Nanoseconds of each answer: from open to the first byte, or of one call.
    answers: Vec<u32>,
}

/// What the readers of a slice did together.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// Files, reads, stats or names a second.
    pub(super) rate: f64,
    pub(super) bytes_per_second: f64,
    pub(super) done: u64,
    answers: Vec<u32>,
}

impl Share {
    pub(super) fn answer(&mut self, took: Duration) {
        if self.answers.len() < ANSWERS_MAX {
            self.answers.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
        }
    }
}

impl Figures {
    pub(super) fn of(shares: Vec<Share>) -> Self {
        let mut figures = Self::default();
        for share in shares {
            let seconds = share.took.as_secs_f64().max(1e-9);
            figures.rate += share.done as f64 / seconds;
            figures.bytes_per_second += share.bytes as f64 / seconds;
            figures.done += share.done;
            figures.answers.extend(share.answers);
        }
        figures
    }

    /// Of several turns the one with the median rate, with the answers of all; none of no turns.
    pub(super) fn median(mut turns: Vec<Self>) -> Option<Self> {
        turns.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let mut median = turns.get(turns.len() / 2)?.clone();
        median.answers = turns.into_iter().flat_map(|turn| turn.answers).collect();
        median.answers.sort_unstable();
        Some(median)
    }

    /// The answer that `part` of all answers came within. Of a [`Self::median`]; none without answers.
    pub(super) fn percentile(&self, part: f64) -> Option<Duration> {
        let last = self.answers.len().checked_sub(1)?;
        let at = (self.answers.len() as f64 * part).ceil() as usize;
        Some(Duration::from_nanos(self.answers[at.saturating_sub(1).min(last)].into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(done: u64, answers: &[u64]) -> Figures {
        let mut share = Share { done, bytes: done * 10, took: Duration::from_secs(2), ..Share::default() };
        answers.iter().for_each(|nanos| share.answer(Duration::from_nanos(*nanos)));
        Figures::of(vec![share.clone(), share])
    }

    #[test]
    fn readers_add_up_and_the_median_turn_counts() {
        let median = Figures::median(vec![turn(100, &[5]), turn(10, &[1]), turn(20, &[3])]).expect("turns");
        assert_eq!((median.rate, median.bytes_per_second, median.done), (20.0, 200.0, 40));
        let at = |part| median.percentile(part).map(|took| took.as_nanos());
        assert_eq!((at(0.0), at(0.5), at(0.99), at(1.0)), (Some(1), Some(3), Some(5), Some(5)));
        assert!(Figures::median(Vec::new()).is_none());
        assert_eq!(Figures::default().percentile(0.5), None);
    }
}
