//! Room for what is new: which listings and paths are given up.

use std::ops::Bound;
use std::sync::atomic::Ordering;

use super::Disk;
use crate::record::{self, Record};

/// Of the file's size, what may be in use before listings are evicted; the rest is room for a commit's copies and for gaps.
const USED_PERCENT: u64 = 80;
/// Listings that are looked at to find the least recently used, and how many of them go.
const EVICT_SAMPLE: usize = 1_024;
const EVICT_PART: usize = 4;
/// Paths seen one by one that are deleted at once.
const EVICT_SEEN: usize = 4_096;
/// Of what may be in use, what paths seen one by one may take.
const SEEN_PERCENT: u64 = 25;
/// Of so many keys the number of all is reckoned.
const COUNTED: u64 = 256;
/// What one of them takes, about: key, value and place in the tree.
const SEEN_BYTES: u64 = 128;

/// Where to look for keys of `kind`: after the last that was looked at, then from the first.
fn after_or_at(last: &[u8], kind: u8) -> Vec<Vec<u8>> {
    let first = vec![kind];
    if last.is_empty() { vec![first] } else { vec![last.to_vec(), first] }
}

/// Makes room: the least recently used of a sample of the listings goes, and of paths seen one by one any.
#[derive(Debug, Default)]
pub(super) struct Evict {
    listings_from: Vec<u8>,
    seen_from: Vec<u8>,
    /// Paths written since they were counted.
    new_seen: usize,
    /// The last batch could not be written.
    pub(super) is_failing: bool,
}

impl Evict {
    pub(super) fn make_room(&mut self, disk: &Disk) {
        let limit = disk.size_max / 100 * USED_PERCENT;
        self.new_seen += disk.queue.lock().writing.len();
        if self.new_seen > EVICT_SEEN / 2 {
            self.new_seen = 0;
            let seen_max = limit / 100 * SEEN_PERCENT / SEEN_BYTES;
            if disk.seen_count().unwrap_or(0) > seen_max && self.free_seen(disk).is_err() {
                tracing::debug!("paths seen one by one could not be deleted");
            }
        }
        if disk.used() > limit {
            self.free(disk, 1);
        }
    }

    /// Gives up what was used least, but for so many listings.
    pub(super) fn free(&mut self, disk: &Disk, spared: usize) {
        let is_under_way = disk.queue.lock().next_dead().is_some();
        if !is_under_way && !self.choose(disk, spared).unwrap_or(false) {
            let _ = self.free_seen(disk);
        }
        // Some of it at once: the caller waits for room.
        for _ in 0..8 {
            let next = disk.queue.lock().next_dead();
            let Some(id) = next else { return };
            if disk.delete_step(id) {
                disk.queue.lock().dead.retain(|dead| *dead != id);
            }
        }
    }

    /// Gives up listings that were not used for longest. False: there is none.
    fn choose(&mut self, disk: &Disk, spared: usize) -> heed::Result<bool> {
        let mut sample: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut txn = disk.env.write_txn()?;
        for from in after_or_at(&self.listings_from, b'L') {
            let bounds = (Bound::Excluded(from.as_slice()), Bound::Excluded(b"M".as_slice()));
            for found in disk.table.range(&txn, &bounds)?.take(EVICT_SAMPLE - sample.len()) {
                let (key, value) = found?;
                sample.push((Record::read(key, value).map_or(0, |record| record.used), key.to_vec()));
            }
            if sample.len() == EVICT_SAMPLE {
                break;
            }
        }
        self.listings_from = sample.last().map(|(_, key)| key.clone()).unwrap_or_default();
        sample.sort_unstable();
        sample.dedup();
        let gone = sample.len().div_ceil(EVICT_PART).min(sample.len().saturating_sub(spared));
        let mut ids = Vec::new();
        for (_, key) in sample.into_iter().take(gone) {
            let Some(id) = record::id_of(&key) else { continue };
            disk.table.delete(&mut txn, &key)?;
            let dead = record::dead_key(id);
            disk.table.put(&mut txn, &dead, &record::seal(&dead, vec![0; 8]))?;
            ids.push(id);
        }
        txn.commit()?;
        disk.metrics.evicted.inc_by(ids.len() as u64);
        let any = !ids.is_empty();
        let mut queue = disk.queue.lock();
        for flags in ids.iter().filter_map(|id| queue.held.get(id)).flatten() {
            // Who holds it finds out when it looks.
            flags.is_lost.store(true, Ordering::Release);
        }
        queue.dead.extend(ids);
        Ok(any)
    }

    /// Deletes some of what was seen of single paths: any, for their keys are in no order.
    fn free_seen(&mut self, disk: &Disk) -> heed::Result<()> {
        let mut txn = disk.env.write_txn()?;
        let mut deleted = 0;
        for from in after_or_at(&self.seen_from, b'E') {
            let bounds = (Bound::Excluded(from.as_slice()), Bound::Excluded(b"F".as_slice()));
            let keys: Vec<Vec<u8>> = disk
                .table
                .range(&txn, &bounds)?
                .take(EVICT_SEEN - deleted)
                .map(|found| found.map(|(key, _)| key.to_vec()))
                .collect::<heed::Result<_>>()?;
            for key in &keys {
                disk.table.delete(&mut txn, key)?;
            }
            deleted += keys.len();
            self.seen_from = keys.last().cloned().unwrap_or_default();
            if deleted == EVICT_SEEN {
                break;
            }
        }
        txn.commit()
    }
}

impl Disk {
    /// How many paths are known one by one, about: their keys are hashes, so a few tell how dense all are.
    fn seen_count(&self) -> Option<u64> {
        let (mut keys, mut last) = (0, 0);
        self.read(|reading| {
            reading.scan(b"E", |key, _| {
                keys += 1;
                last = key.get(1..9).and_then(|head| head.try_into().ok()).map_or(0, u64::from_be_bytes);
                keys < COUNTED
            })
        })?;
        let part = u128::from(last) + 1;
        Some(if keys < COUNTED { keys } else { ((u128::from(keys) << 64) / part) as u64 })
    }
}
