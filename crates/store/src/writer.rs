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

use crate::compact;
use crate::device;
use crate::directory::Directory;
use crate::error::NotKept;
use crate::evict::{FULL_REST, KnownSpace};
use crate::eviction::{Policy, Probation, Unit};
use crate::files::FileSlot;
use crate::index::SmallPlace;
use crate::large::{self, Extent, Large, bit};
use crate::log::Log;
use crate::metrics::Counters;
use crate::options::BootId;
use crate::pack::{self, Pack};
use crate::queue::{Answer, Fill, Kept, Order, Taken};
use crate::record::Record;
use crate::shared::Shared;
use crate::writeback::{Failed, Target, Writeback};

/// Orders taken at once: their records are written together.
const BATCH: usize = 64;
/// And no more once their fills have so many bytes: they become readable together.
const BATCH_BYTES: u64 = 8 << 20;
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
    pub(crate) policy: Box<dyn Policy>,
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
    /// The directory is down, and its contents are out of the index.
    pub(crate) is_purged: bool,
}

/// A pack that is being written.
#[derive(Debug)]
pub(crate) struct OpenPack {
    pub(crate) pack: Arc<Pack>,
    file: Arc<OwnedFd>,
    len: u64,
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
    done: Answer,
}

enum What {
    Small(ContentId, SmallPlace, Arc<Pack>),
    Page(Arc<Large>, Arc<Extent>, PageIndex),
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl Writer {
    /// Works until the queue is closed. A panic ends this directory, not the store.
    pub(crate) fn run(self) {
        let (shared, directory) = (Arc::clone(&self.shared), Arc::clone(&self.directory));
        // What the writer held is dropped on the way: every callback is called.
        if catch_unwind(AssertUnwindSafe(|| self.work_on())).is_err() {
            directory.take_out(&io::Error::other("its writer panicked"));
            directory.queue.abandon();
            purge(&shared, &directory);
            directory.unlock();
            directory.queue.end();
        }
    }

    fn work_on(mut self) {
        loop {
            match self.directory.queue.take(BATCH, BATCH_BYTES) {
                Taken::Orders(orders) => self.work(orders),
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

    /// Marks the log as closed in order, and lets the directory go.
    fn finish(&mut self) {
        if !self.directory.is_down()
            && let Err(failed) = self.writeback.settle(Instant::now() + SETTLE_TIME)
        {
            self.writeback_failed(&failed);
        }
        if !self.directory.is_down() {
            self.record(&Record::Closed);
            self.flush();
            if let Err(error) = self.log.sync() {
                tracing::warn!(directory = %self.directory.root.path().display(), %error, "index log not synced");
            }
        }
        self.directory.unlock();
        self.directory.queue.end();
    }

    fn work(&mut self, orders: Vec<Order>) {
        if self.log_is_stale && !self.directory.is_down() && !self.directory.is_without_room() {
            compact::if_due(self);
            if self.log_is_stale {
                // The room that the log needs may be the cache's own.
                self.evict_one(None);
            }
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
                #[cfg(test)]
                Order::Panic => panic!("on purpose"),
            }
        }
        self.flush();
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
        self.policy = Box::new(Probation::new());
        purge(&self.shared, &self.directory);
    }

    /// Says that a small object is gone, unless it was kept anew meanwhile.
    fn drop_small(&mut self, id: ContentId, place: SmallPlace) {
        self.flush();
        if let Some(pack) = self.shared.index.pack(place.pack) {
            self.shared.index.remove_small(id, place, &pack);
        }
        if self.shared.index.small(id).is_none_or(|(pack, _)| pack.directory != self.directory.index) {
            self.record(&Record::SmallGone { id });
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
            Ok(Some(what)) => self.batch.pending.push(Pending { what, bytes, done }),
            Ok(None) => done.call(Kept::Yes),
            Err(reason) => self.refuse(done, reason),
        }
    }

    /// Writes a small object. None: it is here already.
    fn keep_small(&mut self, fill: &Fill) -> Result<Option<What>, NotKept> {
        if self.shared.index.small(fill.id).is_some() {
            return Ok(None);
        }
        let len = fill.size;
        let total = pack::entry_len(len);
        if !self.make_room(total, None) {
            return Err(NotKept::Full);
        }
        let header = pack::entry_header(fill.id, fill.group.0, len as u32, &fill.sums);
        let at = self.open_pack(fill.group.0, total)?;
        let open = &self.open_packs[at];
        let parts = || std::iter::once(&header[..]).chain(fill.chunks.iter().map(|chunk| &chunk[..]));
        let (file, offset) = (Arc::clone(&open.file), open.len);
        let target = Target::Pack(Arc::clone(&open.pack));
        self.write(&file, parts, (offset, total), &target, None)?;
        // Evicting for room does not touch an open pack: it stands where it stood.
        let clock = self.directory.clock();
        let open = &mut self.open_packs[at];
        open.len += total;
        open.pack.unit.bytes.fetch_add(total, Ordering::Relaxed);
        open.pack.unit.touch(clock);
        self.directory.add_used(total);
        let pack = Arc::clone(&open.pack);
        let (number, offset) = (pack.number, offset as u32);
        let place = SmallPlace::new(pack.slot, offset, len as u32, true);
        self.record(&Record::Small { id: fill.id, pack: number, offset, len: len as u32, verified: true });
        Ok(Some(What::Small(fill.id, place, pack)))
    }

    /// The place in `open_packs` of a pack of `group` that has room for an entry.
    fn open_pack(&mut self, group: u64, entry: u64) -> Result<usize, NotKept> {
        if let Some(at) = self.open_packs.iter().position(|open| open.pack.group == group) {
            if self.open_packs[at].len + entry <= self.directory.pack_size.max(entry) {
                // The last is the one written last.
                let open = self.open_packs.remove(at);
                self.open_packs.push(open);
                return Ok(self.open_packs.len() - 1);
            }
            self.open_packs.remove(at);
        }
        if self.open_packs.len() >= MAX_OPEN_PACKS {
            self.open_packs.remove(0);
        }
        let number = &mut self.next_pack;
        let file = create(&self.directory, || {
            *number = number.checked_add(1).ok_or(io::ErrorKind::StorageFull)?;
            Ok(pack::name(*number))
        });
        let file = file.map_err(|error| self.failed(&error))?;
        let slot = self.shared.index.new_slot();
        let file = FileSlot::holding(file, &self.shared.files);
        let pack = Pack::new(&self.directory, slot, self.next_pack, group, file);
        self.policy.insert(Arc::clone(&pack.unit), self.directory.full.load(Ordering::Relaxed));
        let file = pack.open(&self.directory.root, &self.shared.files).map_err(|error| self.failed(&error))?;
        self.record(&Record::Pack { pack: pack.number, group });
        self.shared.index.insert_pack(Arc::clone(&pack));
        self.open_packs.push(OpenPack { pack, file, len: 0 });
        Ok(self.open_packs.len() - 1)
    }

    /// Writes a page of a large content. None: it is here already.
    fn keep_page(&mut self, fill: &Fill) -> Result<Option<What>, NotKept> {
        let (page, bytes) = (fill.page, page_len(fill.size, fill.page));
        let known = self.shared.index.large(fill.id);
        if let Some(large) = &known {
            if large.size != fill.size {
                return Err(NotKept::Invalid);
            }
            if large.directory != self.directory.index {
                return Err(NotKept::Elsewhere);
            }
            if let Some(extent) = large.extent(page.extent()) {
                if extent.is_resident(page) {
                    return Ok(None);
                }
                if extent.written.load(Ordering::Relaxed) & bit(page) != 0 {
                    // Damaged, or its record could not be written: never written again in place.
                    self.flush();
                    self.evict_extent(large, page.extent());
                }
            }
        }
        let protect = known.and_then(|large| large.extent(page.extent())).map(|extent| Arc::clone(&extent.unit));
        if !self.make_room(bytes, protect.as_ref()) {
            return Err(NotKept::Full);
        }
        // Making room may have taken the content away, and another directory may have it since.
        let large = match self.shared.index.large(fill.id) {
            Some(large) if large.size != fill.size => return Err(NotKept::Invalid),
            Some(large) if large.directory != self.directory.index => return Err(NotKept::Elsewhere),
            Some(large) => large,
            None => self.new_large(fill)?,
        };
        let outcome = self.write_page(fill, &large);
        if outcome.is_err() && large.extents.read().is_empty() {
            self.drop_large(&large);
        }
        outcome.map(|extent| Some(What::Page(large, extent, page)))
    }

    fn new_large(&mut self, fill: &Fill) -> Result<Arc<Large>, NotKept> {
        let mut generation = 0;
        let file = create(&self.directory, || {
            generation = self.shared.next_generation.fetch_add(1, Ordering::Relaxed);
            Ok(large::name(fill.id, generation))
        });
        let file = FileSlot::holding(file.map_err(|error| self.failed(&error))?, &self.shared.files);
        let what = (fill.id, fill.size, fill.group.0);
        let large = Arc::new(Large::new(what, self.directory.index, generation, file));
        if self.shared.index.insert_large(&large).is_err() {
            // Another directory's writer was first; an unlinked file is found by no index.
            let _ = self.directory.root.unlink(&large.name());
            return Err(NotKept::Elsewhere);
        }
        self.record(&Record::Large { id: fill.id, size: fill.size, group: fill.group.0, generation });
        Ok(large)
    }

    fn write_page(&mut self, fill: &Fill, large: &Arc<Large>) -> Result<Arc<Extent>, NotKept> {
        let (page, bytes) = (fill.page, page_len(fill.size, fill.page));
        let file = large.open(&self.directory.root, &self.shared.files).map_err(|error| self.failed(&error))?;
        let clock = self.directory.clock();
        let known = large.extent(page.extent()).map(|extent| Arc::clone(&extent.unit));
        let parts = || fill.chunks.iter().map(|chunk| &chunk[..]);
        let target = Target::Large(Arc::clone(large));
        self.write(&file, parts, (page.start(), bytes), &target, known.as_ref())?;
        if large.gone.load(Ordering::Acquire) {
            // Something was evicted for the write, and it was this file.
            return Err(NotKept::Full);
        }
        let extent = large.extent(page.extent()).unwrap_or_else(|| {
            let extent = Arc::new(Extent::new(&self.directory, large, page.extent()));
            self.policy.insert(Arc::clone(&extent.unit), self.directory.full.load(Ordering::Relaxed));
            large.extents.write().insert(page.extent().0, Arc::clone(&extent));
            extent
        });
        extent.written.fetch_or(bit(page), Ordering::Relaxed);
        extent.unit.bytes.fetch_add(bytes, Ordering::Relaxed);
        extent.unit.touch(clock);
        self.directory.add_used(bytes);
        for (known, sum) in extent.sums(page).iter().zip(&fill.sums) {
            known.store(sum.0, Ordering::Relaxed);
        }
        let sums = fill.sums.iter().map(|sum| sum.0).collect();
        let (id, number) = (fill.id, page.extent().0);
        self.record(&Record::Pages { id, extent: number, resident: bit(page), verified: bit(page), sums });
        Ok(extent)
    }

    /// Writes bytes; if the file system has no room, once more after something was evicted.
    fn write<'a, I: Iterator<Item = &'a [u8]>>(
        &mut self,
        file: &Arc<OwnedFd>,
        parts: impl Fn() -> I,
        (offset, len): (u64, u64),
        target: &Target,
        protect: Option<&Arc<Unit>>,
    ) -> Result<(), NotKept> {
        let mut outcome = device::write_all_at(file, parts(), offset);
        if outcome.as_ref().is_err_and(device::is_full) && self.evict_one(protect).is_some() {
            outcome = device::write_all_at(file, parts(), offset);
        }
        outcome.map_err(|error| self.failed(&error))?;
        if let Some(space) = &mut self.space {
            space.written += len;
        }
        if let Err(failed) = self.writeback.wrote(target, file, offset, len) {
            self.writeback_failed(&failed);
            return Err(NotKept::Failed);
        }
        Ok(())
    }

    /// What an error means for the fill and for the directory.
    fn failed(&mut self, error: &io::Error) -> NotKept {
        if device::is_full(error) {
            self.space = None;
            self.directory.rest_without_room(FULL_REST);
            return NotKept::Full;
        }
        // A file that is missing alone is found by its readers; out of descriptors passes.
        let passes = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM));
        let missing = error.kind() == io::ErrorKind::NotFound && !self.directory.root.is_gone();
        if !passes && !missing {
            self.directory.take_out(error);
        }
        NotKept::Failed
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
                Some(reason) => self.refuse(pending.done, reason),
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
        }
        Counters::add(&self.shared.counters.pages_kept, 1);
        Counters::add(&self.shared.counters.bytes_kept, pending.bytes);
        pending.done.call(Kept::Yes);
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

/// A new file, under the first free of the names that `next_name` gives.
fn create(directory: &Directory, mut next_name: impl FnMut() -> io::Result<String>) -> io::Result<OwnedFd> {
    let mut last = io::ErrorKind::AlreadyExists.into();
    for _ in 0..MAX_NAME_TRIES {
        let name = next_name()?;
        match directory.root.create(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                for folder in [folder.split('/').next().unwrap_or(""), folder] {
                    directory.root.make_directory(folder)?;
                }
                return directory.root.create(&name);
            }
            outcome => return outcome,
        }
    }
    Err(last)
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
