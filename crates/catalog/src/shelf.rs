//! The listings of directories: the whole one of each, and those on their way.
//!
//! Always true: a directory has one whole listing at most, the newest that was told most; a listing that was interrupted is
//! gone on with for a while, and then dropped.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use forebay_model::{Freshness, NsPath};
use parking_lot::{Mutex, MutexGuard};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Notify;

use crate::directory::SourceFacts;
use crate::disk::{Disk, Seen};
use crate::forgotten::{self, Forgotten};
use crate::generation::{Generation, NEWER_MAX, SEEN_MAX};
use crate::overlay::What;
use crate::record::{PathKey, Record, filling_key, id_of, listing_key, newer_key, path_key};

/// For how long after it stopped a listing may be gone on with. As long as a reader may go on in one.
pub(crate) const RESUME_MAX: Duration = Duration::from_secs(600);
/// Listings that were interrupted and are remembered, at most: with what is seen of their names meanwhile.
const INTERRUPTED_MAX: usize = 64;
/// Locks that keep what is learnt of one directory in order.
const ORDER_LOCKS: usize = 64;

/// Names seen anew after which a listing's weight is taken anew.
const WEIGHED_NAMES: usize = 64;
/// Listings that are remembered until what was seen of their names is in the database, before it is looked which are.
const RECENT_LOOKED: usize = 32;

/// The whole listing of a directory, or that the database has none.
#[derive(Clone, Debug)]
struct Shelved {
    generation: Option<Arc<Generation>>,
    /// As it was when it was put here: a cache whose weights change while they lie in it miscounts, and holds nothing any more.
    weight: u64,
}

#[derive(Clone, Debug)]
struct ShelvedWeight;

impl Weighter<NsPath, Shelved> for ShelvedWeight {
    fn weight(&self, _: &NsPath, shelved: &Shelved) -> u64 {
        shelved.weight
    }
}

/// A listing that somebody is making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComingIn {
    /// The directory.
    pub path: NsPath,
    /// Its names so far.
    pub names: u64,
    /// How long ago it began; before a restart, if it is gone on with.
    pub since: Duration,
}

/// All listings.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) disk: Arc<Disk>,
    pub(crate) forgotten: Forgotten,
    whole: Cache<NsPath, Shelved, ShelvedWeight>,
    /// Whole ones of which the database does not know yet, or not all that was seen of their names since.
    recent: Mutex<HashMap<NsPath, Arc<Generation>>>,
    /// Listings on their way and interrupted ones, the newest last.
    filling: Mutex<HashMap<NsPath, Vec<Arc<Generation>>>>,
    filling_count: AtomicUsize,
    /// Interrupted by the end of an earlier process, and not met since.
    left: Mutex<HashMap<PathKey, (u64, Record)>>,
    left_count: AtomicUsize,
    /// A listing has begun.
    pub(crate) begun: Notify,
    /// Held while something is learnt or forgotten of a directory, by the directory's hash.
    order: Box<[Mutex<()>]>,
}

impl Shelf {
    /// The listings that `disk` has; what a next question brings is newer than `now`.
    pub(crate) fn new(disk: Arc<Disk>, memory: u64, now: u64) -> Self {
        let cache = quick_cache::OptionsBuilder::new()
            .estimated_items_capacity(1_000)
            .weight_capacity(memory)
            .build()
            .expect("both required options are given");
        let whole = Cache::with_options(
            cache,
            ShelvedWeight,
            quick_cache::DefaultHashBuilder::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        );
        let left = Self::interrupted(&disk);
        let left_count = AtomicUsize::new(left.len());
        let forgotten = disk.read(|reading| Ok(Forgotten::read(reading.get(forgotten::KEY)?, now)));
        // Who cannot be read tells nothing either.
        let forgotten = forgotten.unwrap_or_default();
        Self {
            disk,
            forgotten,
            whole,
            recent: Mutex::default(),
            filling: Mutex::default(),
            filling_count: AtomicUsize::new(0),
            left: Mutex::new(left),
            left_count,
            begun: Notify::new(),
            order: (0..ORDER_LOCKS).map(|_| Mutex::new(())).collect(),
        }
    }

    /// Listings that an earlier process did not end. Those that cannot be gone on with are dropped.
    fn interrupted(disk: &Arc<Disk>) -> HashMap<PathKey, (u64, Record)> {
        let (mut left, mut gone) = (HashMap::new(), Vec::new());
        let now = disk.clock.at(Instant::now());
        disk.read(|reading| {
            reading.scan(b"F", |key, value| {
                let id = id_of(key).unwrap_or_default();
                let directory: Option<PathKey> = key.get(1..17).and_then(|key| key.try_into().ok());
                let until = |record: &Record| record.last.saturating_add(RESUME_MAX.as_nanos() as u64);
                let record = Record::read(key, value).filter(|record| !record.is_run && now < until(record));
                match directory.zip(record) {
                    Some((directory, record)) if left.len() < INTERRUPTED_MAX && !left.contains_key(&directory) => {
                        left.insert(directory, (id, record));
                    }
                    _ => gone.push((key.to_vec(), id)),
                }
                true
            })
        });
        gone.into_iter().for_each(|(key, id)| disk.bury(key, id));
        left
    }

    pub(crate) fn order_of(&self, directory: &NsPath) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        directory.hash(&mut hasher);
        self.order[hasher.finish() as usize % ORDER_LOCKS].lock()
    }

    /// The whole listing of `directory`.
    pub(crate) fn whole(&self, source: &Arc<SourceFacts>, directory: &NsPath, now: Instant) -> Option<Arc<Generation>> {
        if let Some(known) = self.known(source, directory) {
            if let Some(generation) = &known
                && generation.touch(self.disk.clock.at(now))
            {
                self.note_use(generation);
            }
            return known;
        }
        let _order = self.order_of(directory);
        self.whole_in_order(source, directory)
    }

    /// The same, while the directory's order is held.
    pub(crate) fn whole_in_order(&self, source: &Arc<SourceFacts>, directory: &NsPath) -> Option<Arc<Generation>> {
        if let Some(known) = self.known(source, directory) {
            return known;
        }
        let recent = self.recent.lock().get(directory).cloned();
        let found = recent.filter(|generation| is_of(generation, source) && !generation.is_lost());
        let found = found.or_else(|| self.load(source, directory));
        self.shelve(directory, found.clone());
        found
    }

    fn shelve(&self, directory: &NsPath, generation: Option<Arc<Generation>>) {
        let own = generation.as_ref().map_or(0, |generation| generation.weight());
        let weight = (directory.as_str().len() + 128) as u64 + own;
        self.whole.insert(directory.clone(), Shelved { generation, weight });
    }

    /// The whole listing as far as memory knows; none: it must be looked for.
    fn known(&self, source: &Arc<SourceFacts>, directory: &NsPath) -> Option<Option<Arc<Generation>>> {
        let known = self.whole.get(directory)?.generation;
        match &known {
            Some(generation) if !is_of(generation, source) || generation.is_lost() => None,
            _ => Some(known),
        }
    }

    fn load(&self, source: &Arc<SourceFacts>, directory: &NsPath) -> Option<Arc<Generation>> {
        let (_, id, record) =
            self.records(b'L', source, directory).into_iter().max_by_key(|(_, _, record)| record.at)?;
        let generation = Generation::load(&self.disk, source, directory, &record, id);
        (!generation.is_lost()).then_some(generation)
    }

    /// The database's records of listings of `directory`.
    fn records(&self, kind: u8, source: &SourceFacts, directory: &NsPath) -> Vec<(Vec<u8>, u64, Record)> {
        let prefix = [[kind].as_slice(), &path_key(source, directory)].concat();
        let mut records = Vec::new();
        self.disk.read(|reading| {
            reading.scan(&prefix, |key, value| {
                let record = Record::read(key, value).filter(|record| record.path == directory.as_str());
                match id_of(key).zip(record) {
                    Some((id, record)) => records.push((key.to_vec(), id, record)),
                    None => drop(self.disk.metrics.damaged.inc()),
                }
                true
            })
        });
        records
    }

    /// Whether it is the one whole listing of its directory, as far as memory knows.
    fn is_current(&self, generation: &Arc<Generation>) -> bool {
        let current = self.whole.get(&generation.path).and_then(|shelved| shelved.generation);
        current.is_some_and(|current| Arc::ptr_eq(&current, generation))
    }

    fn note_use(&self, generation: &Arc<Generation>) {
        let _order = self.order_of(&generation.path);
        if self.is_current(generation) && generation.is_committed() {
            let key = listing_key(&generation.directory, generation.id);
            let value = generation.whole_record().value(&key);
            self.disk.put(key, Some(value));
        }
    }

    /// Listings of `directory` that are on their way or interrupted, the newest first.
    pub(crate) fn filling(&self, source: &Arc<SourceFacts>, directory: &NsPath) -> Vec<Arc<Generation>> {
        if self.left_count.load(Ordering::Acquire) > 0 {
            self.meet(source, directory);
        }
        if self.filling_count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let filling = self.filling.lock();
        let all = filling.get(directory).into_iter().flatten().rev();
        all.filter(|generation| is_of(generation, source) && !generation.is_lost()).cloned().collect()
    }

    /// Takes up what an earlier process left of `directory`.
    fn meet(&self, source: &Arc<SourceFacts>, directory: &NsPath) {
        let mut left = self.left.lock();
        if let Some((id, record)) = left.remove(&path_key(source, directory)) {
            let generation = Generation::load(&self.disk, source, directory, &record, id);
            self.add_filling(&generation);
            self.left_count.store(left.len(), Ordering::Release);
        }
    }

    pub(crate) fn add_filling(&self, generation: &Arc<Generation>) {
        let mut filling = self.filling.lock();
        filling.entry(generation.path.clone()).or_default().push(generation.clone());
        self.filling_count.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether a listing was asked for before what it lists was forgotten: it is of use only to who was reading it then.
    pub(crate) fn is_outdated(&self, generation: &Generation) -> bool {
        generation.at < self.forgotten.of_listing(generation.path.as_str())
    }

    /// For how long a listing may be used.
    pub(crate) fn left(&self, generation: &Generation, source: &SourceFacts, now: Instant) -> Duration {
        if self.is_outdated(generation) {
            return Duration::ZERO;
        }
        self.disk.clock.left(generation.when, source.freshness.of_listings(), now)
    }

    /// Whole listings at hand that were asked for before so many observations, of the directory `path` or, with all, below it.
    pub(crate) fn count_whole(&self, path: &NsPath, is_tree: bool, at: u64) -> u64 {
        let is_covered = |rest: &str| is_tree || rest.is_empty();
        let all = self.whole.iter().filter(|(known, _)| known.below(path).is_some_and(is_covered));
        all.filter(|(_, listing)| listing.generation.as_ref().is_some_and(|listing| listing.at < at)).count() as u64
    }

    fn remove_filling(&self, generation: &Arc<Generation>) {
        let mut filling = self.filling.lock();
        let Some(all) = filling.get_mut(&generation.path) else { return };
        let before = all.len();
        all.retain(|known| !Arc::ptr_eq(known, generation));
        self.filling_count.fetch_sub(before - all.len(), Ordering::AcqRel);
        if all.is_empty() {
            filling.remove(&generation.path);
        }
    }

    /// Gives up a listing that is on its way.
    pub(crate) fn drop_filling(&self, generation: &Arc<Generation>) {
        generation.lose();
        self.remove_filling(generation);
        self.disk.bury(filling_key(&generation.directory, generation.id), generation.id);
    }

    /// A listing of `directory` that was interrupted and may be gone on with. It is running from now on.
    pub(crate) fn resume(&self, source: &Arc<SourceFacts>, directory: &NsPath) -> Option<Arc<Generation>> {
        self.drop_old();
        // Who checks at each opening wants names as they are now.
        if source.freshness == Freshness::Check {
            return None;
        }
        let is_of_use = |generation: &Arc<Generation>| !generation.is_running() && !self.is_outdated(generation);
        let found = self.filling(source, directory).into_iter().find(is_of_use)?;
        found.set_running(true);
        self.disk.metrics.resumed.inc();
        Some(found)
    }

    /// Drops interrupted listings that are too old, or too many.
    fn drop_old(&self) {
        let now = self.disk.clock.at(Instant::now());
        let mut stopped: Vec<_> = {
            let filling = self.filling.lock();
            filling.values().flatten().filter(|generation| !generation.is_running()).cloned().collect()
        };
        stopped.sort_by_key(|generation| std::cmp::Reverse(generation.last()));
        let is_old = |generation: &Generation| generation.last() + (RESUME_MAX.as_nanos() as u64) < now;
        for (nth, generation) in stopped.iter().enumerate() {
            if nth >= INTERRUPTED_MAX || generation.is_lost() || is_old(generation) || self.is_outdated(generation) {
                self.drop_filling(generation);
            }
        }
    }

    /// A listing has all names now. Gives whether it is held from now on; if it is not, whoever waits for it may still use it.
    pub(crate) fn finish(&self, generation: &Arc<Generation>, now: Instant) -> bool {
        let _order = self.order_of(&generation.path);
        let known = self.whole_in_order(&generation.source, &generation.path);
        let is_known_whole = {
            let mut overlay = generation.overlay.lock();
            let same = overlay.retain(|name, what| generation.differs(name, what));
            for name in same {
                // One that stays says what the listing says.
                self.disk.put(newer_key(generation.id, &name), None);
            }
            !overlay.has_overflowed() && overlay.len() <= NEWER_MAX
        };
        generation.set_whole();
        let gives_way = |known: Arc<Generation>| {
            // One that tells more is not replaced while it may be used.
            let left = self.left(&known, &known.source, now);
            let tells_more = known.is_told() && !generation.is_told() && !left.is_zero();
            known.at < generation.at && !tells_more
        };
        let is_of_use = !generation.is_lost() && !self.is_outdated(generation);
        let is_held = is_known_whole && known.is_none_or(gives_way) && is_of_use;
        if !is_held {
            self.remove_filling(generation);
            self.disk.bury(filling_key(&generation.directory, generation.id), generation.id);
            return false;
        }
        let mut old: Vec<(Vec<u8>, u64)> = self
            .records(b'L', &generation.source, &generation.path)
            .into_iter()
            .map(|(key, id, _)| (key, id))
            .collect();
        let before = self.recent.lock().get(&generation.path).cloned();
        if let Some(before) = before.filter(|before| before.id != generation.id) {
            let key = listing_key(&before.directory, before.id);
            if !old.iter().any(|(known, _)| *known == key) {
                old.push((key, before.id));
            }
        }
        self.disk.put_whole(generation, &old);
        self.remember(generation);
        self.shelve(&generation.path, Some(generation.clone()));
        self.remove_filling(generation);
        let others = self.filling(&generation.source, &generation.path);
        others
            .iter()
            .filter(|other| !other.is_running() && other.at < generation.at)
            .for_each(|other| self.drop_filling(other));
        true
    }

    /// Keeps a whole listing in memory as long as the database lacks something of it.
    fn remember(&self, generation: &Arc<Generation>) {
        let mut recent = self.recent.lock();
        if recent.len() >= RECENT_LOOKED {
            let done = self.disk.done();
            recent.retain(|_, generation| !generation.is_committed() || generation.overlaid() > done);
        }
        recent.insert(generation.path.clone(), generation.clone());
    }

    /// Puts what is newly known of `name` over older listings of its directory, whose order is held.
    pub(crate) fn overlay(
        &self,
        source: &Arc<SourceFacts>,
        directory: &NsPath,
        name: &str,
        at: u64,
        when: u64,
        what: &What,
    ) {
        let put = |generation: &Arc<Generation>, max: usize| {
            let fits = generation.overlay.lock().put(name, at, what, max);
            let key = newer_key(generation.id, name);
            let seen = Seen { what: what.clone(), at, when };
            // A listing that would be without it after a restart is not to be used.
            match self.disk.put(key.clone(), Some(seen.value(&key))) {
                Some(ticket) => generation.set_overlaid(ticket),
                None => generation.lose(),
            }
            fits && !generation.is_lost()
        };
        for generation in self.filling(source, directory).iter().filter(|generation| generation.at < at) {
            put(generation, SEEN_MAX);
        }
        let Some(generation) = self.whole_in_order(source, directory).filter(|generation| generation.at < at) else {
            return;
        };
        let known = generation.overlay.lock().get(name).map(|known| known != what);
        let is_of_use = known.unwrap_or_else(|| generation.differs(name, what));
        if !is_of_use {
            return;
        }
        if !put(&generation, NEWER_MAX) {
            return self.drop_whole(&generation);
        }
        self.remember(&generation);
        if generation.overlay.lock().len().is_multiple_of(WEIGHED_NAMES) {
            self.shelve(directory, Some(generation));
        }
    }

    /// Drops a whole listing: it is not to be used any more.
    pub(crate) fn drop_whole(&self, generation: &Arc<Generation>) {
        generation.lose();
        let mut recent = self.recent.lock();
        let known = recent.get(&generation.path).cloned();
        let known = known.or_else(|| self.whole.get(&generation.path).and_then(|shelved| shelved.generation));
        // Another may have taken its place.
        if known.is_none_or(|known| known.id == generation.id) {
            recent.remove(&generation.path);
            self.shelve(&generation.path, None);
        }
        drop(recent);
        self.disk.bury(listing_key(&generation.directory, generation.id), generation.id);
    }

    /// The listings that somebody is making, largest first.
    pub(crate) fn coming_in(&self, now: Instant) -> Vec<ComingIn> {
        let now = self.disk.clock.at(now);
        let told = |generation: &Arc<Generation>| ComingIn {
            path: generation.path.clone(),
            names: generation.names.load(Ordering::Relaxed),
            since: Duration::from_nanos(now.saturating_sub(generation.when)),
        };
        let filling = self.filling.lock();
        let running = filling.values().flatten().filter(|generation| generation.is_running());
        let mut all: Vec<ComingIn> = running.map(told).collect();
        drop(filling);
        all.sort_by_key(|listing| std::cmp::Reverse(listing.names));
        all
    }

    #[cfg(test)]
    pub(crate) fn has_fillings(&self) -> bool {
        !self.filling.lock().is_empty()
    }
}

fn is_of(generation: &Generation, source: &Arc<SourceFacts>) -> bool {
    let of = &generation.source;
    let is_alike = || of.path == source.path && of.origin == source.origin;
    Arc::ptr_eq(of, source) || (is_alike() && of.prefix == source.prefix && of.teller == source.teller)
}
