//! When to ask again: pure arithmetic over the number of failures and a random fraction.

use std::time::Duration;

/// Calls that fail in a row, without a byte of progress between them, before the caller is told. With the waits below
/// that is at most 21 s of waiting, about half of it on average.
pub(crate) const MAX_ATTEMPTS: u32 = 8;
/// The first wait is at most this long; each one after it twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How long to wait after `failures` failures in a row (at least 1). `fraction` is random in 0..1: full jitter, so that
/// many readers do not come back at once. What the origin asked for is kept to, up to the longest wait.
pub(crate) fn wait(failures: u32, fraction: f64, asked: Option<Duration>) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << (failures.max(1) - 1).min(16));
    let jittered = doubled.min(LONGEST_WAIT).mul_f64(fraction.clamp(0.0, 1.0));
    jittered.max(asked.unwrap_or_default().min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let longest = |failures| wait(failures, 1.0, None);
        assert_eq!(longest(1), Duration::from_millis(200));
        assert_eq!(longest(3), Duration::from_millis(800));
        assert_eq!(longest(1000), LONGEST_WAIT);
        assert_eq!(wait(5, 0.0, None), Duration::ZERO);
        assert_eq!(wait(1, 0.0, Some(Duration::from_secs(2))), Duration::from_secs(2));
        assert_eq!(wait(1, 0.0, Some(Duration::from_secs(900))), LONGEST_WAIT);
        let total: Duration = (1..MAX_ATTEMPTS).map(longest).sum();
        assert!(total <= Duration::from_secs(21), "{total:?}");
    }
}
