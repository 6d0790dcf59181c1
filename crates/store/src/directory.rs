//! One directory of a store: its room, its health, its queue.
//!
//! Always true: a directory that is down is neither read nor written any more until the store is opened again. Being full
//! is no failure.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay_model::Capacity;
use parking_lot::Mutex;

use crate::class::{Class, Classes};
use crate::device::{self, Root};
use crate::error::StoreError;
use crate::eviction::{Owner, Unit};
use crate::group::Groups;
use crate::large::{LARGE, Large};
use crate::lease;
use crate::log::{Found, LOG, Log, Opened};
use crate::options::{BootId, DirectoryOptions, Reserve, share};
use crate::pack::{self, PACKS, Pack};
use crate::past_cache::PastCache;
use crate::queue::Queue;

/// The file whose lock keeps two stores apart.
pub(crate) const LOCK: &str = "lock";
/// Reads that may fail with an error of the device before the whole directory is taken out. One bad sector is no reason.
const MAX_READ_ERRORS: u32 = 8;
/// In this time the count of failed reads halves.
const READ_ERRORS_HALVE: Duration = Duration::from_secs(60);

/// One directory.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) index: usize,
    pub(crate) class: Class,
    pub(crate) root: Root,
    pub(crate) past_cache: PastCache,
    /// This start of the machine at this place: a copy of the directory does not prove what the original did.
    pub(crate) boot: BootId,
    /// Whether the kernel's leases can be relied on here, so that holes may be punched.
    pub(crate) may_punch: bool,
    has_holes: AtomicBool,
    /// When its log was last written before this process opened it. What was changed after that, somebody else changed.
    log_written_ns: i128,
    /// Bytes that the store may use here.
    pub(crate) quota: u64,
    /// Bytes of the file system to be left free.
    pub(crate) reserve: u64,
    /// The length at which packs are closed.
    pub(crate) pack_size: u64,
    pub(crate) queue: Queue,
    /// Bytes of packs and pages.
    pub(crate) used: AtomicU64,
    /// Bytes offered: the clock of eviction.
    pub(crate) offered: AtomicU64,
    /// Its groups.
    pub(crate) groups: Groups,
    /// Something had to be refused or evicted for want of room.
    pub(crate) full: AtomicBool,
    /// Room of its file system above the reserve, when it was last asked for; the most until it is.
    pub(crate) spare: AtomicU64,
    down: AtomicBool,
    /// Its log is still being read.
    recovering: AtomicBool,
    opened: Instant,
    /// Until this many milliseconds after `opened` the file system counts as without room.
    no_room_until_ms: AtomicU64,
    /// Until then nothing is promoted to it.
    no_promotion_until_ms: AtomicU64,
    read_errors: Mutex<ReadErrors>,
    lock: OwnedFd,
}

/// What packs and extents are made for: a directory, or the picture of one that is not open.
pub(crate) trait Holder {
    /// Its number in the index.
    fn number(&self) -> usize;

    /// What eviction is to know of a pack or extent of `group` that is begun now.
    fn new_unit(&self, owner: Owner, group: u64) -> Arc<Unit>;
}

/// Reads that failed lately.
#[derive(Debug)]
struct ReadErrors {
    count: u32,
    since: Instant,
}

impl Directory {
    /// Opens and locks `path`.
    pub(crate) fn open(
        index: usize,
        of: &DirectoryOptions,
        reserve: Reserve,
        queue_bytes: u64,
        boot: BootId,
        classes: &mut Classes,
    ) -> Result<Self, StoreError> {
        let (path, capacity) = (&*of.path, of.capacity);
        let fail = |error: io::Error| StoreError::Directory { directory: path.to_owned(), error };
        let root = Root::open(path).map_err(fail)?;
        let lock = root.open_or_create(LOCK).map_err(fail)?;
        if !device::lock(&lock).map_err(fail)? {
            return Err(StoreError::InUse { directory: path.to_owned(), pid: locked_by(&lock) });
        }
        device::truncate(&lock, 0).map_err(fail)?;
        let pid = format!("{}\n", std::process::id());
        // Only a message needs it: a full disk must not keep the store from opening.
        let _ = device::write_all_at(&lock, [pid.as_bytes()], 0);
        root.make_directory(PACKS).map_err(fail)?;
        root.make_directory(LARGE).map_err(fail)?;
        let (dev, ino) = root.place().map_err(fail)?;
        let may_punch = lease::is_judge_true(&root);
        if !may_punch {
            tracing::info!(directory = %path.display(), "no reliable leases here: files are removed whole");
        }
        let has_holes = lease::can_punch(&root);
        let log_written_ns = root.written_ns(LOG).unwrap_or(0);
        let total = root.space().map_err(fail)?.total;
        let quota = match capacity {
            Capacity::Bytes(bytes) => bytes.0,
            Capacity::Percent(percent) => share(total, percent),
        };
        Ok(Self {
            index,
            class: of.class.unwrap_or_else(|| classes.of(&root)),
            root,
            past_cache: PastCache::new(),
            boot: boot.at(dev, ino),
            may_punch,
            has_holes: has_holes.into(),
            log_written_ns,
            quota,
            reserve: reserve.bytes(total),
            pack_size: pack::pack_size(quota),
            queue: Queue::new(queue_bytes),
            used: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            groups: Groups::default(),
            full: AtomicBool::new(false),
            spare: AtomicU64::new(u64::MAX),
            down: AtomicBool::new(false),
            recovering: AtomicBool::new(true),
            opened: Instant::now(),
            no_room_until_ms: AtomicU64::new(0),
            no_promotion_until_ms: AtomicU64::new(0),
            read_errors: Mutex::new(ReadErrors { count: 0, since: Instant::now() }),
            lock,
        })
    }

    /// Its log, whose records are still to be read.
    pub(crate) fn open_log(&self) -> Result<Found, StoreError> {
        let directory = || self.root.path().to_owned();
        match Log::open(&self.root) {
            Ok(Opened::Found(found)) => Ok(found),
            Ok(Opened::Newer(version)) => Err(StoreError::Newer { directory: directory(), version }),
            Err(error) => Err(StoreError::Directory { directory: directory(), error }),
        }
    }

    /// Whether it was taken out.
    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    /// Whether its log is still being read: what lies here is not all known.
    pub(crate) fn is_recovering(&self) -> bool {
        self.recovering.load(Ordering::Acquire)
    }

    /// Its log was read, or never will be. False if that was said before.
    pub(crate) fn end_recovery(&self) -> bool {
        self.recovering.swap(false, Ordering::AcqRel)
    }

    /// Takes it out.
    pub(crate) fn take_out(&self, error: &io::Error) {
        if !self.down.swap(true, Ordering::AcqRel) {
            let path = self.root.path().display();
            tracing::warn!(directory = %path, %error, "cache directory failed and is taken out until restart");
            // The writer takes its contents out of the index.
            self.queue.wake();
        }
    }

    /// Looks, if nobody has, whether a pack that was found at the start is as it was. False: it is not.
    pub(crate) fn prove_pack(&self, pack: &Pack) -> bool {
        pack.prove(&self.root, self.log_written_ns)
    }

    /// The same of a large content.
    pub(crate) fn prove_large(&self, large: &Large) -> bool {
        large.prove(&self.root, self.log_written_ns)
    }

    /// Whether its file system makes holes in files, as far as is known.
    pub(crate) fn has_holes(&self) -> bool {
        self.has_holes.load(Ordering::Relaxed)
    }

    /// It does not.
    pub(crate) fn cannot_punch(&self) {
        self.has_holes.store(false, Ordering::Relaxed);
    }

    /// Whether its file system had no room a moment ago, though something was evicted.
    pub(crate) fn is_without_room(&self) -> bool {
        self.now_ms() < self.no_room_until_ms.load(Ordering::Relaxed)
    }

    /// Its file system has no room: it is left alone for `time`.
    pub(crate) fn rest_without_room(&self, time: Duration) {
        self.full.store(true, Ordering::Relaxed);
        self.no_room_until_ms.store(self.now_ms() + time.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether `bytes` more fit without anything going for them, those that wait to be written counted.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let used = self.used.load(Ordering::Relaxed) + self.queue.bytes();
        !self.is_without_room() && used.saturating_add(bytes) <= self.quota
    }

    /// Whether something can be promoted to it now.
    pub(crate) fn takes_promotions(&self) -> bool {
        !self.is_down() && self.now_ms() >= self.no_promotion_until_ms.load(Ordering::Relaxed)
    }

    /// It has no room for what is promoted: it is not asked again for `time`.
    pub(crate) fn rest_from_promotions(&self, time: Duration) {
        self.no_promotion_until_ms.store(self.now_ms() + time.as_millis() as u64, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.opened.elapsed().as_millis() as u64
    }

    /// A read of a file failed: one of many, or the directory's end.
    pub(crate) fn read_failed(&self, error: &io::Error) {
        if self.root.is_gone() || self.read_errors.lock().add(Instant::now()) >= MAX_READ_ERRORS {
            self.take_out(error);
        }
    }

    /// A file that should be here is not: it alone, or the directory.
    pub(crate) fn file_missing(&self) {
        if self.root.is_gone() {
            self.take_out(&io::Error::new(io::ErrorKind::NotFound, "the directory was removed"));
        }
    }

    pub(crate) fn clock(&self) -> u64 {
        self.offered.load(Ordering::Relaxed)
    }

    /// So many bytes more of `unit` are here.
    pub(crate) fn add_used(&self, unit: &Unit, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        unit.group.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// `unit` is gone.
    pub(crate) fn sub_used(&self, unit: &Unit) {
        self.give_back(unit, unit.bytes.load(Ordering::Relaxed));
    }

    /// So many bytes of `unit` are gone.
    pub(crate) fn sub_bytes(&self, unit: &Unit, bytes: u64) {
        unit.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.give_back(unit, bytes);
    }

    fn give_back(&self, unit: &Unit, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        unit.group.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Lets another process have it.
    pub(crate) fn unlock(&self) {
        device::unlock(&self.lock);
    }
}

impl Holder for Directory {
    fn number(&self) -> usize {
        self.index
    }

    fn new_unit(&self, owner: Owner, group: u64) -> Arc<Unit> {
        Unit::new(owner, self.clock(), self.groups.get(group))
    }
}

impl ReadErrors {
    /// Counts one more; how many there were lately.
    fn add(&mut self, now: Instant) -> u32 {
        let halvings = now.saturating_duration_since(self.since).as_secs() / READ_ERRORS_HALVE.as_secs();
        if halvings > 0 {
            self.count = self.count.checked_shr(halvings.min(32) as u32).unwrap_or(0);
            self.since = now;
        }
        self.count += 1;
        self.count
    }
}

/// The process that holds the lock, as it wrote itself into it; `unknown` if it did not get to it.
pub(crate) fn locked_by(lock: &OwnedFd) -> String {
    let mut pid = [0; 16];
    let read = rustix::io::pread(lock, &mut pid[..], 0).unwrap_or(0);
    let pid = String::from_utf8_lossy(&pid[..read]).trim().to_owned();
    if pid.is_empty() { "unknown".to_owned() } else { pid }
}

/// The directory for a new content of `bytes`: of the fastest class that has room, else of the slowest. None if all are down.
pub(crate) fn choose(directories: &[Arc<Directory>], id: u128, bytes: u64) -> Option<&Arc<Directory>> {
    let mut slowest = None;
    for class in Class::ALL {
        if let Some(best) = choose_of(directories, class, id) {
            if best.has_room(bytes) {
                return Some(best);
            }
            slowest = Some(best);
        }
    }
    slowest
}

/// The directory of that class for a content: by capacity, the same one for all pages of a content (weighted rendezvous),
/// unless its file system has no room just now.
pub(crate) fn choose_of(directories: &[Arc<Directory>], class: Class, id: u128) -> Option<&Arc<Directory>> {
    let score = |directory: &Directory| {
        let hash = mix(id ^ (directory.index as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        // Uniform in (0, 1]; -ln(u) / weight is least with probability proportional to the weight.
        let uniform = ((hash >> 11) + 1) as f64 / (1u64 << 53) as f64;
        -uniform.ln() / directory.quota.max(1) as f64
    };
    let up = directories.iter().filter(|directory| directory.class == class && !directory.is_down());
    let rank = |directory: &Directory| (directory.is_without_room(), score(directory));
    up.min_by(|a, b| {
        let ((a_full, a), (b_full, b)) = (rank(a), rank(b));
        a_full.cmp(&b_full).then(a.total_cmp(&b))
    })
}

/// The finalizer of MurmurHash3 over both halves.
fn mix(number: u128) -> u64 {
    let mut hash = (number >> 64) as u64 ^ (number as u64).rotate_left(32);
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(factor);
    }
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_reads_are_forgotten_in_time() {
        let start = Instant::now();
        let mut errors = ReadErrors { count: 0, since: start };
        let counts: Vec<u32> = (1..30).map(|n| errors.add(start + n * READ_ERRORS_HALVE)).collect();
        assert!(counts.iter().all(|count| *count < MAX_READ_ERRORS), "{counts:?}");
        assert!((0..MAX_READ_ERRORS).map(|_| errors.add(start)).any(|count| count >= MAX_READ_ERRORS));
    }
}
