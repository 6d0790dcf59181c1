//! What is known of paths, and until when.
//!
//! Two kinds of knowledge: entries by path (what was looked up, and what is absent), and listings by directory. The newer
//! observation of a name wins. Both are on disk, within a bound; the entries used last are in memory too.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay_model::{ByteSize, ContentId, Entry, Found, Freshness, NAME_MAX, NsPath};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use quick_cache::sync::Cache;
use tokio::sync::futures::Notified;

use crate::directory::{Observed, SourceFacts};
use crate::disk::{self, Disk, Keeper, Seen};
use crate::forgotten;
use crate::generation::{Generation, Says};
use crate::known::{Known, KnownWeight, Told};
use crate::metrics::Metrics;
use crate::overlay::What;
use crate::page::ListingHeld;
use crate::record::{Record, path_key};
use crate::shelf::{ComingIn, RESUME_MAX, Shelf};
use crate::writer::ListingWriter;

/// For how long a reader that is in the middle of a listing may go on in it.
const CONTINUE_MAX: Duration = RESUME_MAX;
/// For how long names are a hint of what comes next, where nothing else may be held.
const HINT_MAX: Duration = Duration::from_secs(60);
/// Observations of one start of the catalog, more than it can make: those of the next are newer.
const STARTS_SHIFT: u32 = 40;

/// How large a catalog may grow, and where it lies.
#[derive(Clone, Debug)]
pub struct CatalogOptions {
    /// Its directory, which it has for itself.
    pub directory: PathBuf,
    /// Its largest size on disk.
    pub disk: ByteSize,
    /// Memory for entries and for what is at hand of listings. What is on disk is read through the page cache beside it.
    pub memory: ByteSize,
}

/// The catalog cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the catalog: {0}")]
pub struct CatalogError(String);

impl CatalogError {
    pub(crate) fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// What is known of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// It stands for this.
    Found(Found),
    /// It stands for nothing, for as long as stated.
    Absent(Duration),
    /// The origin must be asked.
    Unknown,
}

/// What it means that a listing does not have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The name stands for nothing, until the listing is too old: somebody has asked for the listing.
    Told,
    /// The origin is to be asked: the listing was made for the names that it has, and nobody has seen it.
    Open,
}

/// What memory had of what was forgotten; there may be more on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgot {
    /// Names that were known one by one.
    pub names: u64,
    /// Listings of whole directories.
    pub listings: u64,
}

/// Attributes and listings on disk, in bounded memory.
#[derive(Debug)]
pub struct Catalog {
    entries: Cache<NsPath, Known, KnownWeight>,
    shelf: Arc<Shelf>,
    disk: Arc<Disk>,
    keeper: Mutex<Keeper>,
    /// Counts observations, so that the newer of two is known even within one tick of the clock.
    clock: AtomicU64,
    /// Counts what was forgotten.
    epoch: AtomicU64,
}

/// What a listing says of a name.
enum Answer {
    This(Held),
    /// It said something, which may not be used, or that the name is to be asked for.
    Expired,
    /// It is not to be asked for that name: not covered, or nobody was told that it is absent.
    Silent,
    Open,
}

impl Catalog {
    /// Opens the catalog in its directory; begins anew where what is there cannot be trusted.
    ///
    /// # Errors
    /// The directory or the database cannot be made.
    pub fn open(options: &CatalogOptions) -> Result<Self, CatalogError> {
        let (disk, keeper) = disk::start(options.directory.clone(), options.disk.0, Metrics::default())?;
        // The rest is for what waits to be written, and for what LMDB holds of a commit.
        let entries = (options.memory.0 / 4).max(1 << 20);
        let listings = (options.memory.0 / 2).max(1 << 20);
        Ok(Self {
            entries: Cache::with_weighter((entries / 500) as usize, entries, KnownWeight),
            shelf: Arc::new(Shelf::new(disk.clone(), listings, disk.starts << STARTS_SHIFT)),
            clock: AtomicU64::new(disk.starts << STARTS_SHIFT),
            epoch: AtomicU64::new(0),
            keeper: Mutex::new(keeper),
            disk,
        })
    }

    /// Adds the catalog's counters to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.disk.metrics.register(registry);
    }

    /// Waits until what was learnt and forgotten so far is in the database. False: that takes too long.
    pub fn flush(&self) -> bool {
        self.disk.flush()
    }

    /// Writes what waits, so that the next start trusts it even if the machine stops. What is learnt later is not kept.
    pub fn close(&self) {
        self.keeper.lock().stop();
        self.disk.sync();
    }

    #[cfg(test)]
    pub(crate) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    #[cfg(test)]
    pub(crate) fn entries_weight(&self) -> u64 {
        self.entries.weight()
    }

    /// Waits until what can be deleted is.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        self.disk.settle();
    }

    /// Places of the database's table of readers that were ever taken at once.
    #[cfg(test)]
    pub(crate) fn places_of_readers(&self) -> usize {
        self.disk.places_of_readers()
    }

    /// Ends as a crash of the process would: what waits is lost, and nothing is synced.
    #[cfg(test)]
    pub(crate) fn crash(self) {
        self.keeper.lock().kill();
    }

    /// Bytes of the database that are in use.
    pub fn disk_used(&self) -> u64 {
        self.disk.used()
    }

    /// The most bytes that the database may take.
    pub fn disk_max(&self) -> u64 {
        self.disk.size_max
    }

    /// The listings that somebody is making, largest first.
    pub fn coming_in(&self) -> Vec<ComingIn> {
        self.shelf.coming_in(Instant::now())
    }

    /// A moment before the origin is asked: what comes back is as old as this.
    pub fn begin(&self) -> Asked {
        Asked { at: self.clock.fetch_add(1, Ordering::Relaxed), when: Instant::now() }
    }

    /// Begins a listing of `directory`, or goes on with one that was interrupted.
    pub fn begin_listing(&self, source: &Arc<SourceFacts>, directory: &NsPath, absence: Absence) -> ListingWriter {
        self.write_listing(source, directory, absence, |shelf| shelf.resume(source, directory))
    }

    /// Begins a listing of `directory` from its first name, for whoever cannot list from the middle.
    pub fn begin_listing_anew(&self, source: &Arc<SourceFacts>, directory: &NsPath, absence: Absence) -> ListingWriter {
        self.write_listing(source, directory, absence, |_| None)
    }

    fn write_listing(
        &self,
        source: &Arc<SourceFacts>,
        directory: &NsPath,
        absence: Absence,
        resume: impl FnOnce(&Shelf) -> Option<Arc<Generation>>,
    ) -> ListingWriter {
        let order = self.shelf.order_of(directory);
        let generation = resume(&self.shelf).unwrap_or_else(|| {
            let asked = self.begin();
            let when = self.disk.clock.at(asked.when);
            let record = Record { at: asked.at, when, last: when, used: when, ..Record::default() };
            let generation = Generation::new(&self.disk, source, directory, &record, self.disk.new_id());
            generation.set_running(true);
            self.shelf.add_filling(&generation);
            generation
        });
        let before = self.shelf.whole_in_order(source, directory);
        let cuts = before.map_or_else(Vec::new, |before| before.coverage().cuts());
        let writer = ListingWriter::new(self.shelf.clone(), generation, cuts, absence);
        drop(order);
        // Not before it can be found: who is woken and does not find it is not woken again.
        self.shelf.begun.notify_waiters();
        writer
    }

    /// Changes whenever something is forgotten: a question asked at an older epoch may bring what was forgotten.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// An epoch that no question was asked at before.
    pub fn new_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// What is known of `path`, which lies in `source` and is not its root.
    pub fn lookup(&self, source: &Arc<SourceFacts>, path: &NsPath, now: Instant) -> Held {
        let forgotten = self.shelf.forgotten.of_name(path.as_str());
        let mut own = self.entries.get(path).filter(|own| own.at >= forgotten);
        let parent = path.parent().zip(path.name());
        let mut contradicted_at = 0;
        let mut open_at = 0;
        // A name that is too long stands in no listing.
        if let Some((parent, name)) = parent.as_ref().filter(|(_, name)| name.len() <= NAME_MAX) {
            let mut listings = self.shelf.filling(source, parent);
            if let Some(whole) = self.shelf.whole(source, parent, now) {
                listings.push(whole);
                listings.sort_by_key(|listing| std::cmp::Reverse(listing.at));
            }
            for listing in listings {
                if listing.at < forgotten || own.as_ref().is_some_and(|own| own.at >= listing.at) {
                    continue;
                }
                match self.ask(&listing, source, name, now) {
                    Answer::This(held) => {
                        self.disk.metrics.listing_hits.inc();
                        return held;
                    }
                    Answer::Expired => contradicted_at = listing.at.max(contradicted_at),
                    // One that tells no absence contradicts none.
                    Answer::Open => open_at = listing.at.max(open_at),
                    Answer::Silent => {}
                }
            }
        }
        if own.is_none() {
            own = self.on_disk(source, path).filter(|own| own.at >= forgotten);
        }
        let is_answered_by_own = own
            .as_ref()
            .is_some_and(|own| own.at >= contradicted_at && (own.at >= open_at || own.what == Told::Absent));
        if is_answered_by_own && let Some(own) = &own {
            let held = self.tell(source, own, now);
            if held != Held::Unknown {
                self.disk.metrics.entry_hits.inc();
                return held;
            }
        }
        self.disk.metrics.misses.inc();
        Held::Unknown
    }

    fn ask(&self, listing: &Generation, source: &SourceFacts, name: &str, now: Instant) -> Answer {
        let newer = listing.overlay.lock().get(name).cloned();
        let (seen, when) = match newer {
            Some(What::Ask) => return Answer::Expired,
            Some(What::Seen(seen)) => (seen, listing.when),
            None => match listing.listed(name) {
                Says::Nothing if listing.is_whole() => {
                    self.disk.metrics.damaged.inc();
                    return Answer::Expired;
                }
                Says::Nothing => return Answer::Silent,
                Says::Unclear => return Answer::Expired,
                Says::Entry(seen, when) => (seen, when),
                Says::Absent(when) => (Observed::Absent, when),
            },
        };
        let fresh = match seen {
            Observed::File(_) => source.freshness.of_files(),
            Observed::Directory | Observed::Absent => source.freshness.of_listings(),
        };
        let left = self.disk.clock.left(when, fresh, now);
        if left.is_zero() {
            return Answer::Expired;
        }
        match listing.entry(name, seen) {
            Some(entry) => Answer::This(Held::Found(Found { entry, fresh_for: left })),
            None if !listing.is_told() => Answer::Open,
            None => Answer::This(Held::Absent(left)),
        }
    }

    fn tell(&self, source: &SourceFacts, own: &Known, now: Instant) -> Held {
        let fresh = match &own.what {
            Told::Entry(Entry::File(_)) => source.freshness.of_files(),
            Told::Entry(Entry::Directory(_)) | Told::Absent => source.freshness.of_listings(),
            Told::Ask => return Held::Unknown,
        };
        let left = self.disk.clock.left(own.when, fresh, now);
        match &own.what {
            _ if left.is_zero() => Held::Unknown,
            Told::Entry(entry) => Held::Found(Found { entry: entry.clone(), fresh_for: left }),
            _ => Held::Absent(left),
        }
    }

    /// What the database has of a path that memory has not.
    fn on_disk(&self, source: &Arc<SourceFacts>, path: &NsPath) -> Option<Known> {
        let Seen { what, at, when } = self.disk.seen(&path_key(source, path))?;
        let known = Known { what: Told::of(source, path, what), at, when };
        self.entries.insert(path.clone(), known.clone());
        Some(known)
    }

    /// Whether a listing of the directory `path` answers lookups of the names that it has.
    pub fn has_listing(&self, source: &Arc<SourceFacts>, path: &NsPath, now: Instant) -> bool {
        self.held(source, path, now).is_some_and(|held| !held.fresh_for.is_zero())
    }

    /// The listing of the directory `path`, if it may be shown.
    pub fn listing(&self, source: &Arc<SourceFacts>, path: &NsPath, now: Instant) -> Option<ListingHeld> {
        self.held(source, path, now).filter(|held| !held.fresh_for.is_zero() && held.generation.is_told())
    }

    /// What is known of the names of the directory `path`, to see which come after one: the listing that answers lookups, else
    /// one that is on its way. Names may be missing; of a source that is checked at each opening they are a hint.
    pub fn names(&self, source: &Arc<SourceFacts>, path: &NsPath, now: Instant) -> Option<ListingHeld> {
        let fresh = match source.freshness {
            Freshness::Check => HINT_MAX,
            Freshness::Immutable | Freshness::Ttl(_) => source.freshness.of_files(),
        };
        let whole = self.shelf.whole(source, path, now).into_iter();
        whole.chain(self.shelf.filling(source, path)).find_map(|generation| {
            let fresh_for = self.disk.clock.left(generation.when, fresh, now);
            (!fresh_for.is_zero()).then_some(ListingHeld { generation, fresh_for })
        })
    }

    /// The listing of the directory `path` for a reader that is in the middle of it: also one that may not be begun on
    /// any more.
    pub fn listing_to_continue(&self, source: &Arc<SourceFacts>, path: &NsPath, now: Instant) -> Option<ListingHeld> {
        let held = self.held(source, path, now).filter(|held| held.generation.is_told())?;
        let fresh = source.freshness.of_listings() + CONTINUE_MAX;
        (!self.disk.clock.left(held.generation.when, fresh, now).is_zero()).then_some(held)
    }

    /// A listing of the directory `path` that is on its way and was asked for, the newest: its names may be shown as they come. With `since`, one
    /// that was begun at that moment or later.
    pub fn filling(&self, source: &Arc<SourceFacts>, path: &NsPath, since: Option<&Asked>) -> Option<ListingHeld> {
        let all = self.shelf.filling(source, path);
        // Who began on the whole one goes on in no older one, though that may still be coming in.
        let whole = self.shelf.whole(source, path, Instant::now()).map_or(0, |whole| whole.at);
        let is_wanted = |g: &Arc<Generation>| {
            g.is_running() && g.is_told() && g.at > whole && since.is_none_or(|since| g.at >= since.at)
        };
        let generation = all.into_iter().find(is_wanted)?;
        let fresh_for = self.shelf.left(&generation, source, Instant::now());
        Some(ListingHeld { generation, fresh_for })
    }

    /// Whether it has to be asked first if the directory of a listing that could be shown is still there: something else was seen in its
    /// place since, or what it stands for was forgotten.
    pub fn is_in_doubt(&self, source: &Arc<SourceFacts>, path: &NsPath, now: Instant) -> bool {
        let shown = self.listing(source, path, now).or_else(|| self.filling(source, path, None));
        let Some(listing) = shown.map(|held| held.generation.at) else { return false };
        let forgotten = self.shelf.forgotten.of_name(path.as_str());
        let own = self.entries.get(path).or_else(|| self.on_disk(source, path)).filter(|own| own.at >= forgotten);
        match own.filter(|own| own.at > listing) {
            Some(own) => !matches!(own.what, Told::Entry(Entry::Directory(_))),
            None => listing < forgotten,
        }
    }

    /// Whether a listing is of no use to who begins on it: what it lists was forgotten after it was asked for.
    pub fn is_outdated(&self, held: &ListingHeld) -> bool {
        self.shelf.is_outdated(&held.generation)
    }

    /// Ends when, after this call, a listing of any directory has begun.
    pub fn begun(&self) -> Notified<'_> {
        self.shelf.begun.notified()
    }

    fn held(&self, source: &Arc<SourceFacts>, path: &NsPath, now: Instant) -> Option<ListingHeld> {
        let generation = self.shelf.whole(source, path, now)?;
        let fresh_for = self.shelf.left(&generation, source, now);
        Some(ListingHeld { generation, fresh_for })
    }

    /// Drops a listing that turned out to be of no use.
    pub fn drop_listing(&self, held: &ListingHeld) {
        let _order = self.shelf.order_of(&held.generation.path);
        if held.is_whole() {
            self.shelf.drop_whole(&held.generation);
        }
    }

    /// Takes what was seen under `path`, and returns it as it may be told.
    pub fn learn(&self, source: &Arc<SourceFacts>, path: &NsPath, asked: Asked, seen: Observed) -> Held {
        let now = Instant::now();
        let (at, when) = (asked.at, self.disk.clock.at(asked.when));
        let what = What::of(seen);
        let known = Known { what: Told::of(source, path, what.clone()), at, when };
        let _order = path.parent().map(|parent| self.shelf.order_of(&parent));
        // A slower answer to an older question does not replace a newer one, and is not held by whoever gets it.
        let before = self.entries.get(path).or_else(|| self.on_disk(source, path));
        let is_newest =
            before.is_none_or(|before| before.at <= at) && at >= self.shelf.forgotten.of_name(path.as_str());
        if is_newest {
            self.keep(source, path, known.clone(), &what);
        }
        match if is_newest { self.tell(source, &known, now) } else { Held::Unknown } {
            Held::Unknown => match known.what {
                Told::Entry(entry) => Held::Found(Found { entry, fresh_for: Duration::ZERO }),
                Told::Absent | Told::Ask => Held::Absent(Duration::ZERO),
            },
            held => held,
        }
    }

    fn keep(&self, source: &Arc<SourceFacts>, path: &NsPath, known: Known, what: &What) {
        let (at, when) = (known.at, known.when);
        if let Some((parent, name)) = path.parent().zip(path.name().filter(|name| name.len() <= NAME_MAX)) {
            self.shelf.overlay(source, &parent, name, at, when, what);
        }
        self.entries.insert(path.clone(), known);
        // What is asked for at each opening anyway is of no use after a restart.
        if source.freshness != Freshness::Check || *what == What::Ask {
            let is_kept = self.disk.put_seen(path_key(source, path), Seen { what: what.clone(), at, when });
            // What is on disk of it would be told again.
            if !is_kept && *what == What::Ask {
                self.mark(path, false, at);
            }
        }
    }

    fn mark(&self, path: &NsPath, is_tree: bool, at: u64) {
        self.shelf.forgotten.add(path.as_str(), is_tree, at, |value| self.disk.put_always(forgotten::KEY, value));
    }

    /// The object at `path` is not `content` any more: it is asked for anew at the next lookup, unless something else is
    /// known of it already.
    pub fn forget(&self, source: &Arc<SourceFacts>, path: &NsPath, content: ContentId) {
        if let Held::Found(Found { entry: Entry::File(file), .. }) = self.lookup(source, path, Instant::now())
            && file.content.id != content
        {
            return;
        }
        self.forget_name(source, path);
    }

    /// What `path` stands for may have changed: it is asked for anew at the next lookup, and before its directory is listed.
    pub fn forget_name(&self, source: &Arc<SourceFacts>, path: &NsPath) {
        let _order = path.parent().map(|parent| self.shelf.order_of(&parent));
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.disk.metrics.forgotten.inc();
        let asked = self.begin();
        let known = Known { what: Told::Ask, at: asked.at, when: self.disk.clock.at(asked.when) };
        self.keep(source, path, known, &What::Ask);
    }

    /// Forgets what is known of `path`, of its listing and of the names in it; with `is_tree`, of all below it. What is being asked
    /// now is not joined, and its answer not kept.
    pub fn forget_all(&self, path: &NsPath, is_tree: bool) -> Forgot {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.disk.metrics.forgotten.inc();
        let at = self.begin().at;
        self.mark(path, is_tree, at);
        let listings = self.shelf.count_whole(path, is_tree, at);
        let names = Cell::new(0);
        self.entries.retain(|known, entry| {
            let is_covered = known.below(path).is_some_and(|rest| is_tree || !rest.contains('/'));
            let stays = !is_covered || entry.at >= at;
            names.set(names.get() + u64::from(!stays));
            stays
        });
        Forgot { names: names.get(), listings }
    }

    /// What memory has of `path` and below it is forgotten, and what is being asked now is not joined: another source stands
    /// there. What is on disk is told of the source that it was learnt of, and of no other.
    pub fn forget_below(&self, path: &NsPath) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.disk.metrics.forgotten.inc();
        self.entries.retain(|known, _| known.below(path).is_none());
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        self.keeper.lock().stop();
    }
}

/// A moment before an origin was asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub(crate) at: u64,
    pub(crate) when: Instant,
}
