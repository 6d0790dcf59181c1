//! The store: what others see of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_model::{ByteRange, Capacity, ContentId, PageIndex, page_len};
use parking_lot::{Condvar, Mutex, RwLock};
use prometheus_client::registry::Registry;

use crate::batch::BatchRead;
use crate::class::Classes;
use crate::directory::{self, Directory};
use crate::error::{NotKept, StoreError};
use crate::expire;
use crate::files::OpenFiles;
use crate::group::{Group, GroupRules, GroupStats, quota_share};
use crate::handout::{Descriptor, HandedOut, MAX_SHARE};
use crate::index::Index;
use crate::log::Found;
use crate::metrics::{DirectoryStats, StoreCollector, StoreStats};
use crate::options::{BootId, Scrub, StoreOptions, share};
use crate::queue::{Done, Fill, Kept, Order};
use crate::read::{Caching, FORGET_TRIES, Reach, ReadOutcome, Residency};
use crate::recovery::{Recoveries, Recovery};
use crate::scrub;
use crate::shared::Shared;
use crate::sweep;
use crate::writer::{self, is_valid};

/// How long writers may go on with what is queued when the store closes.
const DRAIN_TIME: Duration = Duration::from_secs(4);
/// How long closing takes at most.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// The pages that one node keeps on its directories. See the crate's example.
///
/// All calls but `read`, `read_batch`, `descriptor` and `close` answer from memory. A store that is dropped is closed.
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Store {
    /// Opens the store, and makes its directories if they do not exist. Waits until it is known what lies there; see
    /// [`Self::start`] for a store that serves meanwhile.
    ///
    /// # Errors
    /// [`StoreError::InUse`], or whatever keeps a directory from being used and has to be put right. Directories that fail
    /// otherwise are left out, unless there is no other.
    pub fn open(options: &StoreOptions) -> Result<(Self, Recovery), StoreError> {
        let store = Self::start(options)?;
        let recovery = store.shared.recoveries.wait(None);
        Ok((store, recovery))
    }

    /// Opens the store without waiting for what is known of its directories, which is read in the background, all
    /// directories at once. Meanwhile small objects that are known already are read, and checked each; all else counts as
    /// absent. What is to be kept waits in the queue until its directory is known, and is not kept twice. See
    /// [`Self::recovery`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn start(options: &StoreOptions) -> Result<Self, StoreError> {
        if options.directories.is_empty() {
            return Err(StoreError::Options("a store needs at least one directory".into()));
        }
        let boot = options.boot_id.map_or_else(BootId::of_kernel, Ok).map_err(StoreError::System)?;
        let (mut directories, mut logs) = (Vec::new(), Vec::<Found>::new());
        let (mut failed, mut classes) = (Vec::new(), Classes::default());
        for of in &options.directories {
            let (queue, reserve) = (options.write_queue.0, options.reserve);
            let opened = Directory::open(directories.len(), of, reserve, queue, boot, &mut classes)
                .and_then(|directory| Ok((directory.open_log()?, directory)));
            match opened {
                Ok((log, directory)) => {
                    directories.push(Arc::new(directory));
                    logs.push(log);
                }
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => failed.push((of, error)),
            }
        }
        if directories.is_empty()
            && let Some((_, error)) = failed.pop()
        {
            return Err(error);
        }
        for (_, error) in &failed {
            tracing::warn!(%error, "the store opens without one of its directories");
        }
        let quota = |capacity| if let Capacity::Bytes(bytes) = capacity { bytes.0 } else { 0 };
        let failed = failed.into_iter().map(|(of, _)| (of.path.clone(), quota(of.capacity))).collect();
        let capacity = directories.iter().map(|directory| directory.quota).sum();
        let has_tiers = directories.iter().any(|directory| directory.class != directories[0].class);
        let shared = Arc::new(Shared {
            recoveries: Recoveries::new(directories.len() as u64),
            directories,
            index: Index::new(),
            files: OpenFiles::new(options.max_open_files),
            handed_out: Arc::new(HandedOut::new(share(capacity, MAX_SHARE))),
            counters: Default::default(),
            fills: options.fills,
            eviction: options.eviction,
            admission: options.admission,
            has_tiers,
            plan: RwLock::default(),
            failed,
            next_generation: 1.into(),
            closed: false.into(),
            stop: Mutex::new(false),
            stopped: Condvar::new(),
        });
        let store = Self { shared, threads: Mutex::default() };
        store.spawn_all(logs, options.scrub)?;
        Ok(store)
    }

    fn spawn_all(&self, logs: Vec<Found>, scrub: Scrub) -> Result<(), StoreError> {
        let spawn = |name: String, work: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name).spawn(work).map_err(StoreError::System)?;
            self.threads.lock().push(thread);
            Ok(())
        };
        for (directory, log) in self.shared.directories.iter().zip(logs) {
            let name = format!("fb-store-{}", directory.index);
            let (shared, directory) = (Arc::clone(&self.shared), Arc::clone(directory));
            spawn(name, Box::new(move || writer::run(&shared, &directory, log)))?;
        }
        let shared = Arc::clone(&self.shared);
        let tidy = move || {
            sweep::run(&shared);
            expire::run(&shared);
        };
        spawn("fb-store-sweep".into(), Box::new(tidy))?;
        if scrub.period.is_zero() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        spawn("fb-store-scrub".into(), Box::new(move || scrub::run(&shared, scrub)))
    }

    /// What was found when the store was opened, as far as it is known now.
    pub fn recovery(&self) -> Recovery {
        self.shared.recoveries.get()
    }

    /// Waits until it is known what lies on the directories, at most so long. What was found by then.
    pub fn wait_recovered(&self, most: Duration) -> Recovery {
        self.shared.recoveries.wait(Some(Instant::now() + most))
    }

    /// How much of a content is here.
    pub fn residency(&self, id: ContentId, size: u64) -> Residency {
        self.shared.residency(id, size)
    }

    /// Whether a page is here.
    pub fn has_page(&self, id: ContentId, page: PageIndex) -> bool {
        self.shared.has_page(id, page)
    }

    /// Fills `buffer` with the bytes of `range`, which lies within the content and is as long as `buffer`, if all are
    /// here. Blocks on the disk.
    ///
    /// # Panics
    /// If `range` ends beyond `size`, or `buffer` has another length.
    pub fn read(&self, id: ContentId, size: u64, range: ByteRange, buffer: &mut [u8], caching: Caching) -> ReadOutcome {
        self.shared.read(id, size, range, buffer, caching)
    }

    /// As `read`, from the kernel's page cache and without waiting for anything: for a thread that must not block. None: it
    /// would have to wait, or this file system cannot tell.
    ///
    /// # Panics
    /// As `read`.
    pub fn read_cached(&self, id: ContentId, size: u64, range: ByteRange, buffer: &mut [u8]) -> Option<ReadOutcome> {
        self.shared.read_by(Reach::Memory, id, size, range, buffer)
    }

    /// All of a small object, if it is here, of at most [`LEND_MAX`](crate::LEND_MAX) bytes, in memory that goes back when its last reader lets
    /// go of it: with `Caching::Drop` one copy less than `read`. Blocks on the disk.
    pub fn lend(&self, id: ContentId, size: u64, caching: Caching) -> Option<Bytes> {
        self.shared.lend(id, size, caching)
    }

    /// Makes many reads, each as `read` does, in the order in which the bytes lie. Blocks on the disk.
    ///
    /// # Panics
    /// As `read`.
    pub fn read_batch(&self, reads: &mut [BatchRead<'_>], caching: Caching) {
        self.shared.read_batch(reads, caching);
    }

    /// Queues a page to be kept, and never waits. `done` is called once with what became of it, on the writer's thread
    /// (that of an empty content at once): it must not block.
    ///
    /// # Errors
    /// Why it is not even queued; `done` is then dropped uncalled.
    pub fn keep(&self, fill: Fill, done: Done) -> Result<(), NotKept> {
        let outcome = self.try_keep(fill, done);
        if let Err(reason) = outcome {
            self.shared.counters.not_kept(reason);
        }
        outcome
    }

    fn try_keep(&self, fill: Fill, done: Done) -> Result<(), NotKept> {
        if fill.size == 0 {
            // The empty content is always here.
            done(Kept::Yes);
            return Ok(());
        }
        if !is_valid(&fill) {
            return Err(NotKept::Invalid);
        }
        let known = self.shared.index.large(fill.id).map(|large| &self.shared.directories[large.directory]);
        let chosen = known.or_else(|| directory::choose(&self.shared.directories, fill.id.as_u128(), fill.size));
        let directory = chosen.filter(|directory| !directory.is_down()).ok_or(NotKept::Failed)?;
        let bytes = page_len(fill.size, fill.page);
        // Counted whether it is kept or not: it is what eviction goes by.
        directory.offered.fetch_add(bytes, Ordering::Relaxed);
        directory.queue.keep(fill, bytes, done)
    }

    /// A descriptor of a large content that is here as a whole and was verified since the machine started. None also
    /// when four fifths of the store are handed out. Opens a file.
    pub fn descriptor(&self, id: ContentId, size: u64) -> Option<Descriptor> {
        self.shared.descriptor(id, size)
    }

    /// Drops a content. Whoever has it open keeps its bytes.
    pub fn forget(&self, id: ContentId) {
        self.shared.forget(id);
    }

    /// What a group may take from now on, and how long it stays. It holds until the store closes: tell it after each start.
    pub fn set_group(&self, group: Group, rules: &GroupRules) {
        let all = self.shared.directories.iter().map(|directory| directory.quota).sum();
        for directory in &self.shared.directories {
            directory.groups.set(group.0, rules, quota_share(rules.quota, directory.quota, all));
        }
    }

    /// Drops all contents of a group, pinned or not. Whoever has one open keeps its bytes. Returns before it is done.
    pub fn forget_group(&self, group: Group) {
        // What is just being moved is found where it went.
        for _ in 0..FORGET_TRIES {
            if !self.forget_all_of(group) {
                break;
            }
        }
    }

    /// False: nothing was found.
    fn forget_all_of(&self, group: Group) -> bool {
        let index = &self.shared.index;
        let mut found = false;
        for directory in &self.shared.directories {
            for pack in index.packs_of(directory.index).into_iter().filter(|pack| pack.group == group.0) {
                found = true;
                if directory.queue.order(Order::DropPack(Arc::clone(&pack))) {
                    index.remove_pack(&pack);
                }
            }
            for large in index.larges_of(directory.index).into_iter().filter(|large| large.group == group.0) {
                found = true;
                if directory.queue.order(Order::DropLarge(Arc::clone(&large))) {
                    index.remove_large(&large);
                }
            }
        }
        found
    }

    /// What each group takes at this moment, in the order of their numbers.
    pub fn groups(&self) -> Vec<GroupStats> {
        let mut bytes = BTreeMap::new();
        for state in self.shared.directories.iter().flat_map(|directory| directory.groups.all()) {
            *bytes.entry(Group(state.group)).or_default() += state.used.load(Ordering::Relaxed);
        }
        bytes.into_iter().map(|(group, bytes_resident)| GroupStats { group, bytes_resident }).collect()
    }

    /// Figures at this moment.
    pub fn stats(&self) -> StoreStats {
        self.shared.stats()
    }

    /// Figures of each directory at this moment; those that could not be opened come last.
    pub fn directories(&self) -> Vec<DirectoryStats> {
        self.shared.directory_stats()
    }

    /// Adds the store's metrics to a registry, under the prefix `store`.
    pub fn register(&self, registry: &mut Registry) {
        let collector = StoreCollector(Arc::downgrade(&self.shared));
        registry.sub_registry_with_prefix("store").register_collector(Box::new(collector));
    }

    /// Writes what is queued, marks the directories as closed in order, and lets them go. Everything is absent from then
    /// on. Takes 5 s at most. Closing twice is fine.
    ///
    /// # Errors
    /// [`StoreError::Slow`] if a directory did not finish in time.
    pub fn close(&self) -> Result<(), StoreError> {
        let until = Instant::now() + CLOSE_TIME;
        self.shared.closed.store(true, Ordering::Release);
        *self.shared.stop.lock() = true;
        self.shared.stopped.notify_all();
        for directory in &self.shared.directories {
            directory.queue.close(DRAIN_TIME);
        }
        for directory in &self.shared.directories {
            if !directory.queue.wait_end(until) {
                return Err(StoreError::Slow { directory: directory.root.path().to_owned() });
            }
        }
        for thread in self.threads.lock().drain(..) {
            // The writers have ended, the sweeper ends at its next step. A panic was printed when it happened.
            let _ = thread.join();
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "store did not close in time");
        }
    }
}
