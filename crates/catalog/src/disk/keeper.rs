//! The one thread that writes the database: batches of what waits, deletion in steps, and room for what is new.
//!
//! No commit waits for the disk itself: after a crash of the process the kernel has what was committed; after one of the
//! machine the database is thrown away (`open.rs`).

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use heed::{MdbError, RwTxn};

use super::evict::Evict;
use super::queue::{Batch, Seen};
use super::{Disk, Table};
use crate::CatalogError;
use crate::record::{self, PathKey};

/// How long the first of a batch waits for others.
const LINGER: Duration = Duration::from_millis(50);
/// A batch of so many bytes waits for no others.
const BATCH_BYTES: usize = 1 << 20;
/// Blocks of a listing that are deleted at once: a few milliseconds.
const DEAD_STEP: usize = 512;

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
                evict.free(disk, 0);
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
            coverage.1.add(&chunk.after, chunk.to.as_deref(), chunk.names);
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
    pub(super) fn delete_step(&self, id: u64) -> bool {
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
