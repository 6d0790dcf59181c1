//! The last reads, and the order that they show.

use std::collections::VecDeque;
use std::sync::Arc;

/// Reads that are remembered, of all directories together: as many readers may take turns, and a shuffle of a thousand files
/// hits upon four in a row, so near to each other, once in 200,000 reads.
const READS_MAX: usize = 32;
/// The widest stride that is looked for: ranks that read every n-th file.
pub(super) const STRIDE_MAX: u64 = 64;
/// Files in a row from which a reader is believed to go on so.
pub(super) const ORDERLY: u32 = 4;
/// Files with a stride from which it is: there are many strides.
const STRIDING: u64 = 5;

/// A file's place: of which stretch, and the how many-th file of the directory's order, counted from wherever that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) stretch: u64,
    pub(super) at: u64,
}

/// The orders that a directory's files are looked for in: that of its listing, and that of the inodes' numbers, in which
/// `cp -r` reads.
pub(super) const ORDERS: usize = 2;

/// Where a read file stands in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) place: Place,
    /// Files that were read one after the other in this order, up to this one.
    pub(super) run: u32,
}

/// Where it stands in each order in which its place is known.
pub(super) type Steps = [Option<Step>; ORDERS];

#[derive(Debug)]
struct Read {
    source: Arc<str>,
    key: Arc<str>,
    steps: Steps,
}

/// The last reads.
#[derive(Debug, Default)]
pub(super) struct Recent {
    reads: VecDeque<Read>,
}

impl Recent {
    /// Takes note of a read.
    pub(super) fn note(&mut self, source: &Arc<str>, key: &Arc<str>, steps: Steps) {
        if self.reads.len() >= READS_MAX {
            self.reads.pop_front();
        }
        self.reads.push_back(Read { source: source.clone(), key: key.clone(), steps });
    }

    /// Whether a file of this directory was read.
    pub(super) fn has(&self, source: &str, directory: &str) -> bool {
        self.reads.iter().any(|read| is_in(read, source, directory))
    }

    /// Finds the places of files of this directory in an order. Gives the last one that was read.
    pub(super) fn find_places(
        &mut self,
        (source, directory): (&str, &str),
        order: usize,
        place_of: impl Fn(&str) -> Option<Place>,
        is_first: impl Fn(Place) -> bool,
    ) -> Option<Step> {
        let mut last = None;
        for nth in 0..self.reads.len() {
            let read = &self.reads[nth];
            if read.steps[order].is_some() || !is_in(read, source, directory) {
                continue;
            }
            let Some(place) = place_of(&read.key) else { continue };
            let step = Step { place, run: self.run_before(nth, place, is_first(place)) };
            self.reads[nth].steps[order] = Some(step);
            last = Some(step);
        }
        last
    }

    /// Files that were read in a row up to `place`, that one counted. The first of a directory counts as three: who begins there
    /// and goes on with the second is believed.
    pub(super) fn run(&self, place: Place, is_first: bool) -> u32 {
        self.run_before(self.reads.len(), place, is_first)
    }

    fn run_before(&self, end: usize, place: Place, is_first: bool) -> u32 {
        if is_first {
            return ORDERLY - 1;
        }
        let Some(before) = place.at.checked_sub(1) else { return 1 };
        let before = Place { at: before, ..place };
        let steps = self.reads.iter().take(end).rev().flat_map(|read| read.steps.iter().flatten());
        steps.into_iter().find(|step| step.place == before).map_or(1, |step| step.run.saturating_add(1))
    }

    /// The stride with which `place` ends as many reads as show one.
    pub(super) fn stride(&self, place: Place) -> Option<u64> {
        let at = |nth: usize| {
            let steps = self.reads[nth].steps.iter().flatten();
            steps.map(|step| step.place).find(|known| known.stretch == place.stretch).map(|known| known.at)
        };
        let last_before = |end: usize, wanted: u64| (0..end).rev().find(|nth| at(*nth) == Some(wanted));
        (0..self.reads.len()).rev().find_map(|nth| {
            let stride = place.at.checked_sub(at(nth)?).filter(|stride| (2..=STRIDE_MAX).contains(stride))?;
            let mut others = 2..STRIDING;
            others.try_fold(nth, |before, steps| last_before(before, place.at.checked_sub(steps * stride)?))?;
            Some(stride)
        })
    }
}

fn is_in(read: &Read, source: &str, directory: &str) -> bool {
    *read.source == *source && super::directory::of(&read.key) == directory
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(recent: &mut Recent, at: u64) -> (u32, Option<u64>) {
        let place = Place { stretch: 1, at };
        let found = (recent.run(place, at == 0), recent.stride(place));
        recent.note(&"/s".into(), &format!("d/{at:04}").into(), [Some(Step { place, run: found.0 }), None]);
        found
    }

    fn check(ats: &[u64], run: u32, stride: Option<u64>) {
        let mut recent = Recent::default();
        let last = ats.iter().map(|at| note(&mut recent, *at)).last();
        assert_eq!(last, Some((run, stride)), "{ats:?}");
    }

    #[test]
    fn orders_are_found_in_reads_that_take_turns() {
        check(&[5, 6, 7], 3, None);
        check(&[0, 1], 4, None);
        check(&[5, 6], 2, None);
        check(&[5, 100, 6, 101, 7], 3, None);
        check(&[2, 1, 3, 5, 4], 3, None);
        check(&[4, 8, 12, 16, 20], 1, Some(4));
        check(&[4, 104, 8, 108, 12, 112, 16, 116, 20], 1, Some(4));
        check(&[4, 8, 12, 16], 1, None);
        check(&[8, 4, 12, 16, 20], 1, None);
        check(&[7, 6, 5], 1, None);
        check(&[0, 65, 130, 195, 260], 1, None);
    }

    #[test]
    fn places_that_are_found_later_count_in_the_order_of_reading() {
        let mut recent = Recent::default();
        for key in ["d/0000", "e/0001", "d/0001"] {
            recent.note(&"/s".into(), &key.into(), [None; ORDERS]);
        }
        assert!(recent.has("/s", "d/") && !recent.has("/s", "f/") && !recent.has("/t", "d/"));
        let place_of = |key: &str| Some(Place { stretch: 1, at: key[2..].parse().ok()? });
        let last = recent.find_places(("/s", "d/"), 0, place_of, |place| place.at == 0);
        assert_eq!(last, Some(Step { place: Place { stretch: 1, at: 1 }, run: 4 }));
    }
}
