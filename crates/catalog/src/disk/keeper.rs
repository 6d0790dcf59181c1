//! The one thread that writes the database: batches of what waits, deletion in steps, and room for what is new.
//!
//! No commit waits for the disk itself: after a crash of the process the kernel has what was committed; after one of the
//! machine the database is thrown away (`open.rs`).

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use heed::{MdbError, RwTxn};

use super::queue::{Batch, Seen};
use super::{Disk, Table};
use crate::CatalogError;
use crate::record::{self, PathKey, Record};

/// How long the first of a batch waits for others.
const LINGER: Duration = Duration::from_millis(50);
/// A batch of so many bytes waits for no others.
const BATCH_BYTES: usize = 1 << 20;
/// Blocks of a listing that are deleted at once: a few milliseconds.
const DEAD_STEP: usize = 512;
/// Of the file's size, what may be in use before listings are evicted; the rest is room for a commit's copies and for gaps.
const USED_PERCENT: u64 = 80;
/// Listings that are looked at to find the least recently used, and how many of them go.
const EVICT_SAMPLE: usize = 1_024;
const EVICT_PART: usize = 4;
/// Paths seen one by one that are deleted at once.
const EVICT_SEEN: usize = 4_096;
/// Of what may be in use, what paths seen one by one may take.
const SEEN_PERCENT: u64 = 25;
/// What one of them takes, about: key, value and place in the tree.
const SEEN_BYTES: u64 = 128;

/// The thread. It ends when this is closed or dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    disk: Arc<Disk>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(super) fn start(disk: Arc<Disk>) -> Result<Self, CatalogError> {
        let shared = disk.clone();
        let work = move || run(&shared);
        let thread = std::thread::Builder::new().name("catalog".to_owned()).spawn(work).map_err(CatalogError::new)?;
        Ok(Self { disk, thread: Some(thread) })
    }

    /// Ends the thread after it wrote what waits.
    pub(crate) fn stop(&mut self) {
        self.disk.queue.lock().is_closed = true;
        self.disk.work.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the catalog's thread panicked");
        }
        self.disk.written.notify_all();
    }

    /// Forgets what waits, as a crash would.
    #[cfg(test)]
    pub(crate) fn kill(&mut self) {
        {
            let mut queue = self.disk.queue.lock();
            let lost = std::mem::take(&mut queue.next);
            queue.dead.clear();
            queue.is_closed = true;
            drop(queue);
            drop(lost);
        }
        self.stop();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(disk: &Disk) {
    let mut evict = Evict::default();
    loop {
        let (batch, dead, is_closed) = {
            let mut queue = disk.queue.lock();
            while queue.next.is_empty() && queue.flush <= queue.done && queue.next_dead().is_none() && !queue.is_closed
            {
                disk.work.wait(&mut queue);
            }
            let is_idle = queue.next_dead().is_none();
            if queue.next.bytes < BATCH_BYTES && queue.flush <= queue.done && !queue.is_closed && is_idle {
                let wait = std::time::Instant::now() + LINGER;
                while queue.next.bytes < BATCH_BYTES && queue.flush <= queue.done && !queue.is_closed {
                    if disk.work.wait_until(&mut queue, wait).timed_out() {
                        break;
                    }
                }
            }
            queue.ticket += 1;
            let mut batch = std::mem::take(&mut queue.next);
            queue.writing = Arc::new(std::mem::take(&mut batch.seen));
            (batch, queue.next_dead(), queue.is_closed)
        };
        let seen = disk.queue.lock().writing.clone();
        write(disk, &batch, &seen, &mut evict);
        let is_gone = dead.is_some_and(|id| disk.delete_step(id));
        evict.make_room(disk);
        let mut queue = disk.queue.lock();
        if is_gone {
            queue.dead.retain(|id| Some(*id) != dead);
        }
        queue.done = queue.ticket;
        queue.writing = Arc::default();
        disk.written.notify_all();
        if is_closed && queue.next.is_empty() {
            return;
        }
    }
}

/// Writes a batch; where there is no room for it, makes some. What cannot be written is dropped: it is a cache.
fn write(disk: &Disk, batch: &Batch, seen: &HashMap<PathKey, Seen>, evict: &mut Evict) {
    let mut tries = 0;
    loop {
        match disk.commit(batch, seen) {
            Ok(()) => break,
            Err(heed::Error::Mdb(MdbError::MapFull)) if tries < 8 => {
                tries += 1;
                evict.free(disk);
            }
            Err(error) => {
                disk.metrics.not_kept.inc();
                // A disk that is full would say so with every batch.
                if !std::mem::replace(&mut evict.is_failing, true) {
                    tracing::warn!(%error, "the catalog cannot be written");
                }
                batch.chunks.iter().for_each(|chunk| chunk.generation.lose());
                batch.whole.iter().for_each(|generation| generation.lose());
                // Without the new the old would be told again after a restart.
                if disk.commit_changes(batch, seen).is_err() {
                    disk.distrust();
                }
                return;
            }
        }
    }
    if std::mem::take(&mut evict.is_failing) {
        tracing::info!("the catalog can be written again");
    }
    for chunk in &batch.chunks {
        chunk.generation.is_written(chunk);
    }
    batch.whole.iter().for_each(|generation| generation.set_committed());
}

impl Disk {
    fn commit(&self, batch: &Batch, seen: &HashMap<PathKey, Seen>) -> heed::Result<()> {
        if batch.is_empty() && seen.is_empty() {
            return Ok(());
        }
        let mut txn = self.env.write_txn()?;
        self.write_chunks(&mut txn, batch)?;
        self.write_changes(&mut txn, batch, seen)?;
        txn.commit()
    }

    /// The same without blocks.
    fn commit_changes(&self, batch: &Batch, seen: &HashMap<PathKey, Seen>) -> heed::Result<()> {
        let mut txn = self.env.write_txn()?;
        self.write_changes(&mut txn, batch, seen)?;
        txn.commit()
    }

    fn write_chunks(&self, txn: &mut RwTxn<'_>, batch: &Batch) -> heed::Result<()> {
        let table = self.table;
        let mut touched = HashMap::new();
        for chunk in &batch.chunks {
            let generation = &chunk.generation;
            for (after, block) in &chunk.blocks {
                table.put(txn, &crate::block::key(generation.id, after), block)?;
            }
            let coverage = touched.entry(generation.id).or_insert_with(|| (generation, generation.written_coverage()));
            coverage.1.add(&chunk.after, chunk.to.as_deref());
        }
        // A listing's record says what it covers together with the blocks that do; that it is whole comes after, as an op.
        for (generation, coverage) in touched.into_values() {
            let key = record::filling_key(&generation.directory, generation.id);
            table.put(txn, &key, &generation.record(coverage).value(&key))?;
        }
        Ok(())
    }

    fn write_changes(&self, txn: &mut RwTxn<'_>, batch: &Batch, seen: &HashMap<PathKey, Seen>) -> heed::Result<()> {
        let table = self.table;
        for (key, value) in &batch.ops {
            match value {
                Some(value) => table.put(txn, key, value)?,
                None => drop(table.delete(txn, key)?),
            }
        }
        for (path, seen) in seen {
            let key = record::entry_key(path);
            table.put(txn, &key, &seen.value(&key))?;
        }
        self.put_meta(txn)
    }

    /// Deletes some of the listing `id`. True: nothing is left of it.
    fn delete_step(&self, id: u64) -> bool {
        let step = || -> heed::Result<bool> {
            let mut txn = self.env.write_txn()?;
            let mut deleted = 0;
            for kind in [b'B', b'N'] {
                let prefix = [[kind].as_slice(), &id.to_be_bytes()].concat();
                deleted += delete_first(self.table, &mut txn, &prefix, DEAD_STEP - deleted)?;
            }
            let is_gone = deleted < DEAD_STEP;
            if is_gone {
                self.table.delete(&mut txn, &record::dead_key(id))?;
            }
            txn.commit()?;
            Ok(is_gone)
        };
        // What cannot be deleted now stands in the database as to be deleted: the next start tries again.
        step().inspect_err(|error| tracing::warn!(%error, "an old listing cannot be deleted")).unwrap_or(true)
    }
}

/// Deletes at most `max` keys that start with `prefix`.
fn delete_first(table: Table, txn: &mut RwTxn<'_>, prefix: &[u8], max: usize) -> heed::Result<usize> {
    let keys: Vec<Vec<u8>> = table
        .prefix_iter(txn, prefix)?
        .take(max)
        .map(|found| found.map(|(key, _)| key.to_vec()))
        .collect::<heed::Result<_>>()?;
    for key in &keys {
        table.delete(txn, key)?;
    }
    Ok(keys.len())
}

/// Where to look for keys of `kind`: after the last that was looked at, then from the first.
fn after_or_at(last: &[u8], kind: u8) -> Vec<Vec<u8>> {
    let first = vec![kind];
    if last.is_empty() { vec![first] } else { vec![last.to_vec(), first] }
}

/// Makes room: the least recently used of a sample of the listings goes, and of paths seen one by one any.
#[derive(Debug, Default)]
struct Evict {
    listings_from: Vec<u8>,
    seen_from: Vec<u8>,
    seen: u64,
    /// The last batch could not be written.
    is_failing: bool,
}

impl Evict {
    fn make_room(&mut self, disk: &Disk) {
        let limit = disk.size_max / 100 * USED_PERCENT;
        self.seen += disk.queue.lock().writing.len() as u64;
        // Counted from above: a path that is seen again is counted again.
        if self.seen * SEEN_BYTES > limit / 100 * SEEN_PERCENT {
            self.seen = self.free_seen(disk).unwrap_or(0);
        }
        if disk.used() > limit {
            self.free(disk);
        }
    }

    fn free(&mut self, disk: &Disk) {
        let is_under_way = disk.queue.lock().next_dead().is_some();
        if !is_under_way && !self.choose(disk).unwrap_or(false) {
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
    fn choose(&mut self, disk: &Disk) -> heed::Result<bool> {
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
        let gone = sample.len().div_ceil(EVICT_PART);
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

    /// Deletes some of what was seen of single paths: any, for their keys are in no order. Gives how many are left, about.
    fn free_seen(&mut self, disk: &Disk) -> heed::Result<u64> {
        let mut txn = disk.env.write_txn()?;
        let (mut deleted, limit) = (0, disk.size_max / 100 * USED_PERCENT / 100 * SEEN_PERCENT / SEEN_BYTES);
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
        txn.commit()?;
        Ok(limit.saturating_sub(deleted as u64))
    }
}
