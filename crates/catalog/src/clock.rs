//! The catalog's own time: nanoseconds that go on over restarts, so that what was learnt keeps its age.
//!
//! Always true: time that passed is never less than what is counted. Within one boot of the machine its clock of uptime says
//! how long the catalog was away; over boots the wall clock does. A wall clock that was set back proves nothing: then so much
//! time is counted that nothing learnt before may be used.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay_model::bytes::Take;

/// What is counted when nobody knows how long the catalog was away: two years, more than any freshness allows. Hundreds of
/// such times fit in the clock.
const AGES: u64 = 2 * 365 * 86_400 * 1_000_000_000;
const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";

/// A moment by all clocks of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Nanoseconds since 1970.
    pub(crate) wall: u64,
    /// Nanoseconds since the machine started, with those that it slept.
    pub(crate) uptime: u64,
    /// Names the boot. Empty: not known.
    pub(crate) boot: [u8; 16],
}

/// The last moment that an earlier process wrote down, and the catalog's time then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) time: u64,
    pub(crate) moment: Moment,
}

/// Tells the catalog's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    base: u64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos);
        let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let uptime = (up.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(up.tv_nsec as u64);
        let text = std::fs::read_to_string(BOOT_ID_PATH).unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let boot = u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes();
        Self { wall, uptime, boot }
    }

    fn since(&self, earlier: &Self) -> u64 {
        if self.boot == earlier.boot && self.boot != [0; 16] {
            return self.uptime.saturating_sub(earlier.uptime);
        }
        self.wall.checked_sub(earlier.wall).unwrap_or(AGES)
    }
}

impl Clock {
    /// Goes on from what was saved. `now` was at `origin`, or after it.
    pub(crate) fn resume(saved: Option<&Saved>, now: &Moment, origin: Instant) -> Self {
        let base = saved.map_or(0, |saved| saved.time.saturating_add(now.since(&saved.moment)));
        // Never zero: moments before the start can be told too.
        Self { origin, base: base.max(1_000_000_000) }
    }

    /// The catalog's time at `instant`.
    pub(crate) fn at(&self, instant: Instant) -> u64 {
        match instant.checked_duration_since(self.origin) {
            Some(after) => self.base.saturating_add(nanos(after)),
            None => self.base.saturating_sub(nanos(self.origin - instant)),
        }
    }

    /// How long what was learnt at the catalog's time `when` may still be used, if it may be for `fresh` in all.
    pub(crate) fn left(&self, when: u64, fresh: Duration, now: Instant) -> Duration {
        Duration::from_nanos(when.saturating_add(nanos(fresh)).saturating_sub(self.at(now)))
    }

    pub(crate) fn save(&self) -> Saved {
        Saved { moment: Moment::now(), time: self.at(Instant::now()) }
    }
}

impl Saved {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        for field in [self.time, self.moment.wall, self.moment.uptime] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.moment.boot);
    }

    pub(crate) fn take(take: &mut Take<'_>) -> Option<Self> {
        let (time, wall, uptime) = (take.u64()?, take.u64()?, take.u64()?);
        let boot = take.bytes(16)?.try_into().ok()?;
        Some(Self { time, moment: Moment { wall, uptime, boot } })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall: u64, uptime: u64, boot: u8) -> Moment {
        Moment { wall: wall * 1_000_000_000, uptime: uptime * 1_000_000_000, boot: [boot; 16] }
    }

    fn check(before: Moment, after: &Moment, fresh_after_10_s: bool) {
        let saved = Saved { time: 1_000_000_000_000, moment: before };
        let clock = Clock::resume(Some(&saved), after, Instant::now());
        let left = clock.left(saved.time, Duration::from_secs(60), Instant::now());
        assert_eq!(!left.is_zero(), fresh_after_10_s, "{saved:?} {after:?}: {left:?}");
    }

    #[test]
    fn ages_go_on_over_restarts_and_a_clock_that_was_set_back_makes_things_stale() {
        check(moment(1000, 50, 1), &moment(1010, 60, 1), true);
        check(moment(1000, 50, 1), &moment(1100, 150, 1), false);
        // The wall clock was set, within one boot: it is not asked.
        check(moment(1000, 50, 1), &moment(1, 60, 1), true);
        check(moment(1000, 50, 1), &moment(1001, 150, 1), false);
        check(moment(1000, 50, 1), &moment(1010, 5, 2), true);
        check(moment(1000, 50, 1), &moment(1100, 5, 2), false);
        check(moment(1000, 50, 1), &moment(999, 5, 2), false);
        check(moment(1000, 50, 0), &moment(1010, 60, 0), true);
        check(moment(1000, 50, 0), &moment(999, 60, 0), false);
    }

    #[test]
    fn the_time_that_opening_takes_is_counted() {
        let before = moment(1000, 50, 1);
        let saved = Saved { time: 1_000_000_000_000, moment: before.clone() };
        let Some(origin) = Instant::now().checked_sub(Duration::from_secs(7)) else { return };
        let clock = Clock::resume(Some(&saved), &before, origin);
        assert!(clock.left(saved.time, Duration::from_secs(60), Instant::now()) <= Duration::from_secs(53));
    }

    #[test]
    fn a_moment_is_saved_whole() {
        let saved = Saved { time: 7, moment: Moment::now() };
        let mut out = Vec::new();
        saved.put(&mut out);
        assert_eq!(Saved::take(&mut Take(&out)), Some(saved));
        assert_eq!(Saved::take(&mut Take(&out[1..])), None);
    }
}
