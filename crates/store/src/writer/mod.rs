//! A directory's writer: the one thread that changes what lies on it.
//!
//! Always true: bytes are written first, then their records, then they become readable and `done` is called. Since no
//! other thread writes, punches or unlinks here, nothing of that can overlap.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forebay_model::{ContentId, PAGE, PageIndex, block_count, is_small, page_count, page_len};

use crate::admission::Gate;
use crate::compact::{self, COMPACT_MIN};
use crate::device;
use crate::directory::Directory;
use crate::error::NotKept;
use crate::evict::{FULL_REST, KnownSpace};
use crate::evictor::Evictor;
use crate::index::SmallPlace;
use crate::large::{Extent, Large};
use crate::log::{Found, Log};
use crate::metrics::Counters;
use crate::options::BootId;
use crate::pack::{Kind, Pack};
use crate::queue::{Answer, Fill, Kept, Order, Taken};
use crate::record::Record;
use crate::recover::{self, Recovered};
use crate::recovery::Recovery;
use crate::shared::Shared;
use crate::victim::Among;
use crate::writeback::{Failed, Target, Writeback};

use holes::Holes;
use rewrite::Moved;

mod holes;
mod large;
mod put;
mod rewrite;
mod small;
mod tier;

/// Orders taken at once: their records are written together.
const BATCH: usize = 64;
/// And no more once their fills have so many bytes: they become readable together.
const BATCH_BYTES: u64 = 8 << 20;
/// With no order for so long the log's time is set: more than a tick of any kernel's clock.
const QUIET: Duration = Duration::from_millis(20);
/// With no order for so long after that all is sent to the disk: one that refuses it is noticed although nothing more is written.
const IDLE: Duration = Duration::from_millis(500);
/// How long the end may wait for bytes on their way to the disk.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// Packs of different groups that are written at once; the one that was written least recently is closed for another.
const MAX_OPEN_PACKS: usize = 64;
/// Names tried for a new file. Another has it only if an index was lost.
const MAX_NAME_TRIES: usize = 1000;

/// The writer of one directory.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) log: Log,
    pub(crate) evictor: Evictor,
    pub(crate) open_packs: Vec<OpenPack>,
    pub(crate) next_pack: u32,
    /// Records were lost for want of room: the log no longer says all that is true, and is to be rewritten.
    pub(crate) log_is_incomplete: bool,
    /// The log does not say that what it holds is unverified: nothing is appended until it is rewritten.
    pub(crate) log_is_stale: bool,
    /// The length of the log at which rewriting it is considered.
    pub(crate) compact_at: u64,
    pub(crate) batch: Batch,
    /// Room on the file system, if it was asked for lately.
    pub(crate) space: Option<KnownSpace>,
    pub(crate) writeback: Writeback,
    /// Holes that are to be punched once nobody reads there.
    pub(crate) holes: Holes,
    admission: Gate,
    /// Packs that were found empty are gone.
    found_is_clean: bool,
    /// The directory is down, and its contents are out of the index.
    pub(crate) is_purged: bool,
}

/// A pack that is being written.
#[derive(Debug)]
pub(crate) struct OpenPack {
    pub(crate) pack: Arc<Pack>,
    file: Arc<OwnedFd>,
    kind: Kind,
}

/// What was written and is not readable yet.
#[derive(Default)]
pub(crate) struct Batch {
    records: Vec<u8>,
    pending: Vec<Pending>,
    pages: HashSet<(ContentId, PageIndex)>,
}

struct Pending {
    what: What,
    bytes: u64,
    /// None: nobody asked for it.
    done: Option<Answer>,
}

enum What {
    Small(ContentId, SmallPlace, Arc<Pack>),
    /// A small object that lay elsewhere.
    Moved(ContentId, Moved),
    Page(Arc<Large>, Arc<Extent>, PageIndex),
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

/// How far a writer that has nothing to do has come with what it does then.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    None,
    /// The log's time is set.
    Stamped,
    /// All is on its way to the disk.
    Written,
}

impl Rest {
    /// How long to wait for orders before the next step. None: there is no other.
    const fn patience(self) -> Option<Duration> {
        match self {
            Self::None => Some(QUIET),
            Self::Stamped => Some(IDLE),
            Self::Written => None,
        }
    }
}

/// Reads the directory's log, then works until the queue is closed. A panic ends this directory, not the store.
pub(crate) fn run(shared: &Arc<Shared>, directory: &Arc<Directory>, found: Found) {
    let work = || {
        let recovered = recover::recover(shared, directory, found);
        recovered.map(|recovered| Writer::new(shared, directory, recovered).work_on())
    };
    // What the writer held is dropped on the way: every callback is called.
    let outcome = catch_unwind(AssertUnwindSafe(work));
    if outcome.is_err() {
        directory.take_out(&io::Error::other("its writer panicked"));
    }
    if !matches!(outcome, Ok(Some(()))) {
        recover::end(shared, directory, &Recovery::default());
        directory.queue.abandon();
        purge(shared, directory);
        directory.unlock();
        directory.queue.end();
    }
}

impl Writer {
    fn new(shared: &Arc<Shared>, directory: &Arc<Directory>, of: Recovered) -> Self {
        let woken = Arc::clone(directory);
        Self {
            shared: Arc::clone(shared),
            directory: Arc::clone(directory),
            log: of.log,
            evictor: of.evictor,
            open_packs: Vec::new(),
            next_pack: of.next_pack,
            log_is_incomplete: of.log_is_incomplete,
            log_is_stale: of.log_is_stale,
            compact_at: COMPACT_MIN,
            batch: Batch::default(),
            space: None,
            writeback: Writeback::new(shared.fills, move || woken.queue.wake()),
            holes: Holes::default(),
            admission: Gate::new(shared.admission, Instant::now()),
            found_is_clean: false,
            is_purged: false,
        }
    }

    fn work_on(mut self) {
        if self.log_is_stale {
            compact::if_due(&mut self);
        }
        let mut rest = Rest::Written;
        loop {
            match self.directory.queue.take(BATCH, BATCH_BYTES, rest.patience()) {
                Taken::Orders(orders) => {
                    if !orders.is_empty() {
                        rest = Rest::None;
                    }
                    self.work(orders);
                }
                Taken::Nothing => rest = self.rest(rest),
                Taken::End(orders) => {
                    for order in orders {
                        if let Order::Keep(_, done) = order {
                            self.refuse(done, NotKept::Closed);
                        }
                    }
                    break;
                }
            }
        }
        self.finish();
    }

    /// The next of what is done while there is nothing else to do.
    fn rest(&mut self, so_far: Rest) -> Rest {
        if so_far == Rest::None {
            self.stamp();
            return Rest::Stamped;
        }
        self.writeback.begin_all();
        Rest::Written
    }

    /// Makes the log younger than what was written: files and log that were changed in one tick of the kernel's clock are of one age,
    /// and what is not older than the log is not believed after a crash.
    fn stamp(&self) {
        if !self.directory.is_down()
            && !self.log_is_stale
            && !self.log_is_incomplete
            && let Err(error) = self.log.end()
        {
            tracing::debug!(directory = %self.directory.root.path().display(), %error, "the log's time was not set");
        }
    }

    /// Marks the log as closed in order, and lets the directory go.
    fn finish(&mut self) {
        if !self.directory.is_down()
            && let Err(failed) = self.writeback.settle(Instant::now() + SETTLE_TIME)
        {
            self.writeback_failed(&failed);
        }
        self.flush();
        if !self.directory.is_down() {
            compact::at_the_end(self);
        }
        if !self.directory.is_down() && !self.log_is_incomplete {
            self.record(&Record::Closed);
            self.flush();
            if let Err(error) = self.log.sync().and_then(|()| self.log.end()) {
                tracing::warn!(directory = %self.directory.root.path().display(), %error, "index log not synced");
            }
        }
        // Before anybody is told that it has ended: the time of closing counts this too.
        self.writeback.end();
        self.directory.unlock();
        self.directory.queue.end();
    }

    /// Drops packs that were found at the start and in which nothing lives.
    fn drop_empty(&mut self) {
        self.found_is_clean = true;
        for pack in self.shared.index.packs_of(self.directory.index) {
            if pack.objects.load(Ordering::Relaxed) == 0 {
                self.drop_pack(&pack);
            }
        }
        self.flush();
    }

    fn work(&mut self, orders: Vec<Order>) {
        if self.log_is_stale && !self.directory.is_down() && !self.directory.is_without_room() {
            compact::if_due(self);
            if self.log_is_stale {
                // The room that the log needs may be the cache's own.
                let _ = self.evict_one(Among::All(None));
            }
        }
        // What another directory had first may be found here after all, until its log is read too.
        if !self.found_is_clean && self.shared.recoveries.get().recovering == 0 {
            self.drop_empty();
        }
        if let Some(failed) = self.writeback.failed()
            && !self.directory.is_down()
        {
            self.writeback_failed(&failed);
        }
        for order in orders {
            match order {
                Order::Keep(fill, done) => {
                    let bytes = fill_bytes(&fill);
                    self.keep(&fill, done);
                    // Its bytes are in the file now, and no longer here.
                    drop(fill);
                    self.directory.queue.release(bytes);
                }
                Order::DropSmall(id, place) => self.drop_small(id, place),
                Order::DropPack(pack) => self.drop_pack(&pack),
                Order::DropLarge(large) => self.drop_large(&large),
                Order::DropExtent(large, extent) => {
                    self.flush();
                    self.evict_extent(&large, extent);
                }
                Order::Forget(id) => self.forget(id),
                Order::Promote(id, place, pack) => self.promote(id, place, &pack),
                Order::Demote(pack) => self.demote(&pack),
                Order::Adopt(adoption) => self.adopt(adoption),
                #[cfg(test)]
                Order::Panic => panic!("on purpose"),
            }
        }
        self.flush();
        self.punch_holes();
        self.shared.index.sweep();
        if !self.directory.is_down() {
            compact::if_due(self);
        } else if !self.is_purged {
            self.purge();
        }
    }

    /// Takes what lies on the directory, which is down, out of the index: it can be kept elsewhere from now on.
    fn purge(&mut self) {
        self.is_purged = true;
        self.open_packs.clear();
        self.writeback.clear();
        self.evictor = Evictor::new(self.shared.eviction);
        self.holes.clear();
        purge(&self.shared, &self.directory);
    }

    /// Says that a small object is gone, unless it was kept anew meanwhile.
    fn drop_small(&mut self, id: ContentId, place: SmallPlace) {
        self.flush();
        let pack = self.shared.index.pack(place.pack);
        if let Some(pack) = &pack {
            self.shared.index.remove_small(id, place, pack);
        }
        self.record(&Record::SmallGone { id });
        if let Some((pack, now)) = self.shared.index.small(id)
            && pack.directory == self.directory.index
        {
            // It was kept anew: a log names the place that it names first.
            let (offset, len, verified) = (now.offset, now.len(), now.is_verified());
            self.record(&Record::Small { id, pack: pack.number, offset, len, verified });
        }
        if let Some(pack) = pack {
            self.free_entry(&pack, place);
        }
    }

    /// Lets go of a content that became known after it was to be forgotten.
    fn forget(&mut self, id: ContentId) {
        if let Some((pack, place)) = self.shared.index.small(id)
            && pack.directory == self.directory.index
        {
            self.drop_small(id, place);
        }
        if let Some(large) = self.shared.index.large(id)
            && large.directory == self.directory.index
        {
            self.drop_large(&large);
        }
    }

    /// The disk did not take what the kernel had taken: nothing of this directory is believed until it is checked.
    fn writeback_failed(&mut self, failed: &Failed) {
        match &failed.target {
            Target::Pack(pack) => self.drop_pack(pack),
            Target::Large(large) => self.drop_large(large),
        }
        self.record(&Record::Boot(BootId::NONE));
        self.flush();
        self.directory.take_out(&failed.error);
    }

    fn keep(&mut self, fill: &Fill, done: Answer) {
        if self.directory.is_down() {
            return self.refuse(done, NotKept::Failed);
        }
        if self.log_is_stale {
            // Nothing could be said of what is written now: it would only take room.
            return self.refuse(done, NotKept::Full);
        }
        // The same page twice in one batch: the second must find the first readable.
        if !self.batch.pages.insert((fill.id, fill.page)) {
            self.flush();
        }
        let bytes = page_len(fill.size, fill.page);
        match if is_small(fill.size) { self.keep_small(fill) } else { self.keep_page(fill) } {
            Ok(Some(what)) => self.batch.pending.push(Pending { what, bytes, done: Some(done) }),
            Ok(None) => done.call(Kept::Yes),
            Err(reason) => self.refuse(done, reason),
        }
    }

    /// Whether no record waits to be written: those that wait are encoded for this very log.
    pub(crate) fn has_no_records(&self) -> bool {
        self.batch.records.is_empty()
    }

    /// Adds a record to the batch.
    pub(crate) fn record(&mut self, record: &Record) {
        self.log.encode(record, &mut self.batch.records);
    }

    /// Writes the batch's records, and makes what they speak of readable. False: the records could not be written.
    pub(crate) fn flush(&mut self) -> bool {
        let batch = std::mem::take(&mut self.batch);
        if batch.records.is_empty() {
            return true;
        }
        let written = if self.log.is_gone() {
            Err(io::Error::new(io::ErrorKind::NotFound, "its index log was removed"))
        } else if self.log_is_stale {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            self.log.append(&batch.records)
        };
        if let Err(error) = &written
            && !device::is_full(error)
        {
            self.directory.take_out(error);
        }
        let reason = match &written {
            Ok(()) => None,
            Err(error) if device::is_full(error) => {
                self.log_is_incomplete = true;
                if !self.log_is_stale {
                    self.directory.rest_without_room(FULL_REST);
                }
                Some(NotKept::Full)
            }
            Err(_) => Some(NotKept::Failed),
        };
        for pending in batch.pending {
            match reason {
                None => self.publish(pending),
                Some(reason) => {
                    if let What::Moved(id, moved) = &pending.what {
                        self.not_moved(*id, moved);
                    }
                    if let Some(done) = pending.done {
                        self.refuse(done, reason);
                    }
                }
            }
        }
        reason.is_none()
    }

    fn publish(&self, pending: Pending) {
        match &pending.what {
            What::Small(id, place, pack) => {
                self.shared.index.insert_small(*id, *place, pack);
            }
            What::Page(large, extent, page) => large.publish(extent, *page),
            What::Moved(id, moved) => return self.publish_moved(*id, moved, pending.bytes),
        }
        if let Some(done) = pending.done {
            Counters::add(&self.shared.counters.pages_kept, 1);
            Counters::add(&self.shared.counters.bytes_kept, pending.bytes);
            done.call(Kept::Yes);
        }
    }

    /// Whether a page that is not here may be kept at all.
    fn admit(&mut self, fill: &Fill) -> Result<(), NotKept> {
        let (bytes, is_full) = (fill_bytes(fill), self.directory.full.load(Ordering::Relaxed));
        self.admission.admit((fill.id, fill.page), bytes, is_full, Instant::now())
    }

    fn refuse(&self, done: Answer, reason: NotKept) {
        self.shared.counters.not_kept(reason);
        done.call(Kept::No(reason));
    }
}

/// Bytes that a fill holds in memory.
pub(crate) fn fill_bytes(fill: &Fill) -> u64 {
    page_len(fill.size, fill.page)
}

/// Whether a fill is what it says.
pub(crate) fn is_valid(fill: &Fill) -> bool {
    let len = page_len(fill.size, fill.page);
    let bytes: u64 = fill.chunks.iter().map(|chunk| chunk.len() as u64).sum();
    fill.size.div_ceil(PAGE) <= u64::from(u32::MAX)
        && fill.page.0 < page_count(fill.size)
        && bytes == len
        && fill.sums.len() == block_count(len)
}

/// Takes all that lies on a directory out of the index.
fn purge(shared: &Shared, directory: &Directory) {
    for pack in shared.index.packs_of(directory.index) {
        shared.index.remove_pack(&pack);
        pack.close();
    }
    for large in shared.index.larges_of(directory.index) {
        shared.index.remove_large(&large);
        large.close();
    }
    directory.used.store(0, Ordering::Relaxed);
    shared.index.sweep();
}
