//! The entries of packs, pack by pack and in the order in which they lie, from an index that goes by ids.
//!
//! Always true: no more than [`BATCH`] entries are held at a time, beside one pack's. Each batch takes one walk through the
//! index.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering;

use forebay_model::ContentId;

use super::{Flow, Offline, Shelved};
use crate::index::SmallPlace;

/// Entries gathered at a time, at 32 bytes each: 32 MiB. A pack of 64 MiB holds fewer than 1.4 million.
const BATCH: u64 = 1 << 20;

/// An entry that the index knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) id: ContentId,
    pub(super) place: SmallPlace,
    /// The pack's number in its batch.
    pack: u32,
}

impl Offline {
    /// Calls `each` with every pack and its entries.
    pub(super) fn for_each_pack(&self, each: &mut dyn FnMut(&Shelved, &[Entry]) -> Flow) -> Flow {
        let mut rest = &self.packs[..];
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(batch_len(rest.iter().map(objects)));
            let entries = self.gather(batch);
            let mut left = &entries[..];
            for (at, shelved) in (0..).zip(batch) {
                let (own, others) = left.split_at(left.partition_point(|entry| entry.pack <= at));
                each(shelved, own)?;
                left = others;
            }
            rest = after;
        }
        Flow::Continue(())
    }

    /// The entries of some packs, in order.
    fn gather(&self, packs: &[Shelved]) -> Vec<Entry> {
        let numbers: HashMap<u32, u32> = packs.iter().map(|shelved| shelved.pack.slot).zip(0..).collect();
        let mut entries = Vec::with_capacity(packs.iter().map(objects).sum::<u64>() as usize);
        let Ok(()) = self.index.for_each_small(|id, place| {
            entries.extend(numbers.get(&place.pack).map(|pack| Entry { id, place, pack: *pack }));
            Ok::<(), Infallible>(())
        });
        entries.sort_unstable_by_key(|entry| (entry.pack, entry.place.offset));
        entries
    }
}

fn objects(shelved: &Shelved) -> u64 {
    shelved.pack.objects.load(Ordering::Relaxed)
}

/// How many packs go into a batch, by their entries; at least one.
fn batch_len(entries: impl Iterator<Item = u64>) -> usize {
    let mut sum = 0;
    let fits = |count: &u64| {
        sum += count;
        sum <= BATCH
    };
    entries.take_while(fits).count().max(1)
}

const _: () = assert!(size_of::<Entry>() == 32, "what the size of a batch goes by");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_and_never_empty() {
        assert_eq!(batch_len([BATCH - 1, 1, 1].into_iter()), 2);
        assert_eq!(batch_len([2 * BATCH, 1].into_iter()), 1);
        assert_eq!(batch_len([0; 7].into_iter()), 7);
    }
}
