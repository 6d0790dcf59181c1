//! The dead ranges of a pack's file: entries of objects that are gone, and how much of their room can be given back.
//!
//! Always true: ranges neither overlap nor touch. Only whole blocks of the file system inside a range can be given back; a
//! block that two dead neighbours share is given back with the second. Bounded by the entries of one pack.

use std::collections::BTreeMap;
use std::ops::Range;

/// Room is given back by blocks of this size. A file system with larger ones gives less back than is counted.
const HOLE: u64 = 4096;

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Dead(BTreeMap<u64, u64>);

impl Dead {
    /// Adds an entry's range: the whole blocks that are dead with it and were not before. One that is dead already adds none.
    pub(crate) fn add(&mut self, entry: Range<u64>) -> Range<u64> {
        if self.0.range(..=entry.start).next_back().is_some_and(|(_, until)| *until >= entry.end) {
            return entry.start..entry.start;
        }
        let (mut start, mut end) = (entry.start, entry.end);
        let before = self.0.range(..start).next_back().filter(|(_, until)| **until == start).map(|(at, _)| *at);
        start = before.unwrap_or(start);
        let after = self.0.remove(&end);
        end = after.unwrap_or(end);
        self.0.insert(start, end);
        // What is whole without the entry lies before and behind.
        let new = inner(start..end);
        let before = inner(start..entry.start);
        let after = inner(entry.end..end);
        let from = if before.is_empty() { new.start } else { before.end };
        let until = if after.is_empty() { new.end } else { after.start };
        from..until.max(from)
    }

    /// The end of the dead range that begins at `at`.
    pub(crate) fn end_of(&self, at: u64) -> Option<u64> {
        self.0.get(&at).copied()
    }
}

/// The whole blocks inside a range; empty if there are none.
fn inner(range: Range<u64>) -> Range<u64> {
    let start = range.start.next_multiple_of(HOLE);
    start..(range.end / HOLE * HOLE).max(start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_shared_block_comes_with_the_second_neighbour() {
        let mut dead = Dead::default();
        assert_eq!(dead.add(0..5000), 0..4096);
        assert_eq!(dead.add(9000..20_000), 12_288..16_384);
        assert_eq!(dead.add(5000..9000), 4096..12_288);
        assert!(dead.add(5000..9000).is_empty(), "a second time");
        assert_eq!((dead.end_of(0), dead.end_of(5000)), (Some(20_000), None));
    }

    proptest! {
        #[test]
        fn in_any_order_all_whole_blocks_come_back_once(
            lens in proptest::collection::vec(1u64..9000, 1..40), order in any::<[u8; 40]>(),
        ) {
            let mut at = 0;
            let mut entries: Vec<Range<u64>> = lens.iter().map(|len| { at += len; at - len..at }).collect();
            let mut dead = Dead::default();
            let mut freed: Vec<Range<u64>> = Vec::new();
            for pick in order {
                if entries.is_empty() { break }
                let entry = entries.swap_remove(pick as usize % entries.len());
                freed.push(dead.add(entry));
            }
            freed.extend(entries.into_iter().map(|entry| dead.add(entry)));
            freed.retain(|hole| !hole.is_empty());
            freed.sort_by_key(|hole| hole.start);
            let mut end = 0;
            for hole in freed {
                prop_assert_eq!(hole.start, end);
                end = hole.end;
            }
            prop_assert_eq!(end, at / HOLE * HOLE);
            prop_assert_eq!(dead.end_of(0), Some(at));
        }
    }
}
