//! What is let in at all, to spare flash: on a full directory only what was offered before, and no faster than a rate.
//!
//! Always true: it says nothing about what there is room for, and delays nobody. Takes at most 512 KiB a directory.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::mem;
use std::time::{Duration, Instant};

use forebay_model::{ByteSize, ContentId, PageIndex};

use crate::error::NotKept;

/// What is let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// On a directory that is full a page is kept only when it is offered for the second time: what is read once in long is
    /// not written. Costs a second fetch of all else.
    pub second_touch: bool,
    /// The most bytes written a second, on each directory. None: as fast as it goes.
    pub write_rate_max: Option<ByteSize>,
}

/// The bits of one generation of the filter: 256 KiB.
const BITS: usize = 1 << 21;
/// Pages that a generation remembers: one of 20 that are new is then taken for known.
const PAGES: usize = BITS / 8;
/// Bits a page.
const HASHES: u64 = 4;
/// What was not written for this long may be written at once.
const BURST: Duration = Duration::from_secs(1);

/// The admission of one directory.
#[derive(Debug)]
pub(crate) struct Gate {
    rules: Admission,
    /// Made when it is first needed.
    seen: Option<Seen>,
    bucket: Option<Bucket>,
}

/// Pages that were offered lately: two Bloom filters, of which the older is forgotten when the newer is full.
#[derive(Debug)]
struct Seen {
    now: Box<[u64]>,
    before: Box<[u64]>,
    pages: usize,
}

/// Bytes that may be written.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    level: f64,
    at: Instant,
}

impl Gate {
    pub(crate) fn new(rules: Admission, now: Instant) -> Self {
        let bucket =
            |rate: ByteSize| Bucket { rate: rate.0 as f64, level: rate.0 as f64 * BURST.as_secs_f64(), at: now };
        Self { rules, seen: None, bucket: rules.write_rate_max.map(bucket) }
    }

    /// Whether a page of `bytes` may be kept; if so its bytes are counted.
    pub(crate) fn admit(
        &mut self,
        (id, page): (ContentId, PageIndex),
        bytes: u64,
        is_full: bool,
        now: Instant,
    ) -> Result<(), NotKept> {
        if self.rules.second_touch {
            let is_known = self.seen.get_or_insert_with(Seen::new).add(id, page);
            if is_full && !is_known {
                return Err(NotKept::FirstTouch);
            }
        }
        let may = self.bucket.as_mut().is_none_or(|bucket| bucket.take(bytes, now));
        if may { Ok(()) } else { Err(NotKept::WriteRate) }
    }
}

impl Seen {
    fn new() -> Self {
        let bits = || vec![0; BITS / 64].into_boxed_slice();
        Self { now: bits(), before: bits(), pages: 0 }
    }

    /// Remembers a page; whether it was known.
    fn add(&mut self, id: ContentId, page: PageIndex) -> bool {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((id.as_u128(), page.0));
        // Two hashes make as many as are wanted (Kirsch and Mitzenmacher).
        let (first, step) = (hash >> 32, hash & u64::from(u32::MAX));
        let places: [usize; HASHES as usize] =
            std::array::from_fn(|n| first.wrapping_add(step.wrapping_mul(n as u64)) as usize % BITS);
        let has = |bits: &[u64]| places.iter().all(|at| bits[at / 64] & 1 << (at % 64) != 0);
        let (is_now, was_before) = (has(&self.now), has(&self.before));
        if !is_now {
            if self.pages >= PAGES {
                mem::swap(&mut self.now, &mut self.before);
                self.now.fill(0);
                self.pages = 0;
            }
            places.iter().for_each(|at| self.now[at / 64] |= 1 << (at % 64));
            self.pages += 1;
        }
        is_now || was_before
    }
}

impl Bucket {
    /// Takes bytes, if any may be taken: the last of a burst may be larger than what is left, and is paid for afterwards.
    fn take(&mut self, bytes: u64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.rate).min(self.rate * BURST.as_secs_f64());
        self.at = now;
        let may = self.level > 0.0;
        if may {
            self.level -= bytes as f64;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u32) -> (ContentId, PageIndex) {
        (ContentId::from_u128(u128::from(number)), PageIndex(number % 7))
    }

    #[test]
    fn what_is_offered_twice_is_let_in_and_what_is_new_is_not() {
        let now = Instant::now();
        let mut gate = Gate::new(Admission { second_touch: true, ..Admission::default() }, now);
        assert_eq!(gate.admit(page(1), 10, false, now), Ok(()), "there is room");
        let refused = (2..100_000).filter(|number| gate.admit(page(*number), 10, true, now).is_err()).count();
        assert!(refused > 99_000, "{refused}");
        assert!((1..100_000).all(|number| gate.admit(page(number), 10, true, now).is_ok()));
    }

    #[test]
    fn what_was_offered_long_ago_is_new_again() {
        let mut seen = Seen::new();
        (0..3 * PAGES as u32).for_each(|number| _ = seen.add(page(number).0, page(number).1));
        let known = (0..1000).filter(|number| seen.add(page(*number).0, page(*number).1)).count();
        assert!(known < 100, "{known}");
    }

    #[test]
    fn bytes_keep_to_the_rate() {
        let begun = Instant::now();
        let mut gate = Gate::new(Admission { write_rate_max: Some(ByteSize(1000)), ..Admission::default() }, begun);
        let mut written = 0;
        for milli in 0..10_000 {
            let now = begun + Duration::from_millis(milli);
            written += if gate.admit(page(1), 300, false, now).is_ok() { 300 } else { 0 };
        }
        assert!((10_700..=11_600).contains(&written), "{written} bytes in ten seconds and a burst of one");
    }
}
