//! The database: one file of LMDB, written by one thread, read by all (docs/decisions/0011-catalog-on-disk.md).
//!
//! Always true: what is read was written whole, under that key, by this catalog (checksums in each value), or is not there.
//! Nothing waits for the disk: what is to be written waits in a bounded queue and can be read from it.

mod check;
mod evict;
mod keeper;
mod open;
mod queue;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use heed::types::Bytes;
use heed::{RoTxn, WithoutTls};
use parking_lot::{Condvar, Mutex};

pub(crate) use self::keeper::Keeper;
use self::queue::Queue;
pub(crate) use self::queue::{Chunk, Seen};
use crate::CatalogError;
use crate::block;
use crate::block::Block;
use crate::clock::Clock;
use crate::generation::{Flags, Generation};
use crate::metrics::Metrics;
use crate::record::{self, PathKey};

type Table = heed::Database<Bytes, Bytes>;
/// A reader's place in LMDB's table is its own while it reads, not its thread's for good: LMDB gives a thread's place back
/// when the thread ends, also at the moment at which another one unmaps the table, and a write to it then ends the process.
type Env = heed::Env<WithoutTls>;

/// Bytes that wait to be written, at most, before writers of listings have to wait: what the disk takes in some tenth of a
/// second. Of a small database a part of it, for what is written at once must find room.
const QUEUE_MAX: u64 = 8 << 20;
const QUEUE_PART: u64 = 32;
/// How long a writer waits for room before its listing is given up: a disk that hangs holds nobody for longer.
const ROOM_WAIT: Duration = Duration::from_secs(10);

/// How long it is waited for what is queued to be written: some seconds of a slow disk's work.
const FLUSH_WAIT: Duration = Duration::from_secs(20);

/// The database and what waits to be written to it.
#[derive(Debug)]
pub(crate) struct Disk {
    env: Env,
    table: Table,
    directory: PathBuf,
    /// The file's largest size.
    pub(crate) size_max: u64,
    pub(crate) clock: Clock,
    /// How often the catalog was started on this database, with this one.
    pub(crate) starts: u64,
    next_id: AtomicU64,
    queue: Mutex<Queue>,
    /// Something is to be written.
    work: Condvar,
    /// Something was written.
    written: Condvar,
    /// What is in the file is older than what was known.
    is_distrusted: AtomicBool,
    pub(crate) metrics: Metrics,
}

/// A consistent look at the database.
pub(crate) struct Reading<'a> {
    txn: RoTxn<'a, WithoutTls>,
    table: Table,
}

impl Disk {
    /// A new listing's id: no listing had it before.
    pub(crate) fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Looks into the database. None: that failed.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&Reading<'_>) -> heed::Result<R>) -> Option<R> {
        let looked = self.env.read_txn().and_then(|txn| look(&Reading { txn, table: self.table }));
        looked.inspect_err(|error| tracing::warn!(%error, "the catalog cannot be read")).ok()
    }

    /// Bytes of the file that are in use.
    pub(crate) fn used(&self) -> u64 {
        let Ok(Ok(stat)) = self.env.read_txn().map(|txn| self.table.stat(&txn)) else { return 0 };
        (stat.branch_pages + stat.leaf_pages + stat.overflow_pages) as u64 * u64::from(stat.page_size)
    }

    #[cfg(test)]
    pub(crate) fn places_of_readers(&self) -> usize {
        self.env.info().number_of_readers as usize
    }

    fn queue_max(&self) -> usize {
        (self.size_max / QUEUE_PART).min(QUEUE_MAX) as usize
    }

    /// Puts a key and its value; without a value, deletes it. Gives the batch that it is in, for [`Self::done`]. None: there is no room
    /// in the queue, and it was not done.
    pub(crate) fn put(&self, key: Vec<u8>, value: Option<Vec<u8>>) -> Option<u64> {
        let mut queue = self.queue.lock();
        let ticket = queue.ticket + 1;
        if queue.is_closed {
            return Some(ticket);
        }
        if queue.next.bytes > 2 * self.queue_max() {
            return None;
        }
        queue.next.op(key, value);
        self.work.notify_one();
        Some(ticket)
    }

    /// The last batch that is in the database, with all before it.
    pub(crate) fn done(&self) -> u64 {
        self.queue.lock().done
    }

    /// Puts what must not be missing after a restart, and is bounded by whoever puts it.
    pub(crate) fn put_always(&self, key: &[u8], value: Vec<u8>) {
        let mut queue = self.queue.lock();
        if !queue.is_closed {
            queue.next.op(key.to_vec(), Some(value));
        }
        self.work.notify_one();
    }

    /// What was seen of a path is to be kept. False: there is no room in the queue.
    pub(crate) fn put_seen(&self, path: PathKey, seen: Seen) -> bool {
        let mut queue = self.queue.lock();
        // A cache: what comes faster than it can be written is not kept on disk.
        let has_room = queue.next.bytes <= 2 * self.queue_max();
        if has_room && !queue.is_closed {
            queue.next.seen(path, seen);
        }
        self.work.notify_one();
        has_room
    }

    /// What is kept of a path.
    pub(crate) fn seen(&self, path: &PathKey) -> Option<Seen> {
        if let Some(seen) = self.queue.lock().seen(path) {
            return Some(seen);
        }
        let key = record::entry_key(path);
        self.read(|reading| Ok(reading.get(&key)?.and_then(|value| Seen::read(&key, value))))?
    }

    /// Queues blocks of a listing. Waits while too much waits already; where that lasts, the listing is lost.
    pub(crate) fn put_chunk(&self, chunk: Chunk) {
        let mut queue = self.queue.lock();
        let deadline = Instant::now() + ROOM_WAIT;
        while queue.next.bytes > self.queue_max() && !queue.is_closed {
            if self.written.wait_until(&mut queue, deadline).timed_out() {
                break;
            }
        }
        if queue.is_closed || queue.next.bytes > self.queue_max() {
            drop(queue);
            return chunk.generation.lose();
        }
        queue.next.chunk(chunk);
        self.work.notify_one();
    }

    /// The listing is whole: that replaces what `old` lists, and its record as one on its way. Once this is closed it stays one that
    /// is on its way: nobody would take the listing out of the queue any more, which it would hold open for ever.
    pub(crate) fn put_whole(&self, generation: &Arc<Generation>, old: &[(Vec<u8>, u64)]) {
        let mut queue = self.queue.lock();
        if queue.is_closed {
            return;
        }
        let filling = record::filling_key(&generation.directory, generation.id);
        queue.next.op(filling, None);
        for (key, id) in old {
            queue.next.op(key.clone(), None);
            queue.bury(*id);
        }
        let key = record::listing_key(&generation.directory, generation.id);
        let value = generation.whole_record().value(&key);
        queue.next.op(key, Some(value));
        queue.next.whole.push(generation.clone());
        self.work.notify_one();
    }

    /// Deletes the record `key` and, once nobody reads it, the listing `id`.
    pub(crate) fn bury(&self, key: Vec<u8>, id: u64) {
        let mut queue = self.queue.lock();
        if !queue.is_closed {
            queue.next.op(key, None);
            queue.bury(id);
        }
        self.work.notify_one();
    }

    /// Somebody holds the listing `id`: it is not deleted meanwhile, unless it is lost.
    pub(crate) fn hold(&self, id: u64, flags: Arc<Flags>) {
        self.queue.lock().held.entry(id).or_default().push(flags);
    }

    /// One who held the listing `id` does so no more.
    pub(crate) fn let_go(&self, id: u64, flags: &Arc<Flags>) {
        let mut queue = self.queue.lock();
        if let Some(holders) = queue.held.get_mut(&id) {
            holders.retain(|known| !Arc::ptr_eq(known, flags));
            if holders.is_empty() {
                queue.held.remove(&id);
                self.work.notify_one();
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn settle(&self) {
        self.flush();
        while self.queue.lock().next_dead().is_some() {
            self.flush();
        }
    }

    /// Waits until all that was queued before is in the database. False: the disk hangs.
    pub(crate) fn flush(&self) -> bool {
        let mut queue = self.queue.lock();
        let until = queue.ticket + 1;
        queue.flush = queue.flush.max(until);
        self.work.notify_one();
        let deadline = Instant::now() + FLUSH_WAIT;
        while queue.done < until && !queue.is_closed {
            if self.written.wait_until(&mut queue, deadline).timed_out() {
                return queue.done >= until;
            }
        }
        true
    }
}

impl Reading<'_> {
    pub(crate) fn get(&self, key: &[u8]) -> heed::Result<Option<&[u8]>> {
        self.table.get(&self.txn, key)
    }

    /// The block of listing `id` that says something of the places right after `place` (or of `place` itself, if `is_of`),
    /// and where it begins.
    pub(crate) fn block(&self, id: u64, place: &str, is_of: bool) -> heed::Result<Option<(&str, Block<'_>)>> {
        let key = block::key(id, place);
        let found = if is_of {
            self.table.get_lower_than(&self.txn, &key)?
        } else {
            self.table.get_lower_than_or_equal_to(&self.txn, &key)?
        };
        let Some((key, value)) = found.filter(|(found, _)| found.starts_with(&key[..9])) else { return Ok(None) };
        Ok(block::after(key).zip(Block::read(key, value)))
    }

    /// Calls `each` for every key that starts with `prefix`, in order, until it says that it has enough.
    pub(crate) fn scan(&self, prefix: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) -> heed::Result<()> {
        for found in self.table.prefix_iter(&self.txn, prefix)? {
            let (key, value) = found?;
            if !each(key, value) {
                break;
            }
        }
        Ok(())
    }
}

/// Opens the database in `directory`, anew if what is there cannot be trusted, and starts its writer.
pub(crate) fn start(directory: PathBuf, size_max: u64, metrics: Metrics) -> Result<(Arc<Disk>, Keeper), CatalogError> {
    let disk = Arc::new(open::open(directory, size_max, metrics)?);
    let keeper = Keeper::start(disk.clone())?;
    Ok((disk, keeper))
}
