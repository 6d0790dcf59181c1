//! What is known of paths, and until when.
//!
//! Two caches: entries by path (what was looked up, and what is absent), and listings by directory. The newer observation
//! of a name wins. Both are bounded by weight; an evicted entry is asked for again.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay_model::{ByteSize, CONTENT_MAX, ContentId, Entry, Found, ListedEntry, ListedPage, NsPath};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::directory::{DirectoryKey, Observed, SourceFacts};
use crate::listing::{Listing, ListingBuilder};
use crate::metrics::Metrics;

/// Names of one listing that were seen anew since it was made, at most. Beyond it the listing is dropped.
const NEWER_MAX: usize = 1_000;
/// Names of one directory that are seen while listings of it are on their way, at most: some 10 MiB. Beyond it none of those
/// listings is held.
const SEEN_MAX: usize = 65_536;
/// For how long a reader that is in the middle of a listing may go on in it.
const CONTINUE_MAX: Duration = Duration::from_secs(600);
/// Locks that keep what is learnt of one directory in order.
const ORDER_LOCKS: usize = 64;

/// How large a catalog may grow.
#[derive(Clone, Copy, Debug)]
pub struct CatalogOptions {
    /// Memory for entries and listings together. A quarter goes to entries.
    pub memory: ByteSize,
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

/// A listing that may be used.
#[derive(Debug)]
pub struct ListingHeld {
    listing: Arc<Dated>,
    /// For how long.
    pub fresh_for: Duration,
}

/// Attributes and listings in bounded memory.
#[derive(Debug)]
pub struct Catalog {
    entries: Cache<NsPath, Seen, SeenWeight>,
    listings: Cache<NsPath, Arc<Dated>, ListingWeight>,
    listing_max: u64,
    /// Counts observations, so that the newer of two is known even within one tick of the clock.
    clock: AtomicU64,
    /// Counts what was forgotten.
    epoch: AtomicU64,
    /// Directories whose listings are on their way, and what was seen of their names since the first was asked for.
    under_way: Arc<Mutex<HashMap<NsPath, UnderWay>>>,
    /// Held while something is learnt or forgotten of a directory, by the directory's hash.
    order: Box<[Mutex<()>]>,
    metrics: Metrics,
}

#[derive(Clone, Debug)]
struct Seen {
    what: What,
    at: u64,
    until: Instant,
}

/// What was seen of one name after the listing was made.
#[derive(Clone, Debug)]
struct Newer {
    name: Arc<str>,
    what: What,
    at: u64,
}

/// A directory of which listings are on their way.
#[derive(Debug, Default)]
struct UnderWay {
    listings: usize,
    /// What was seen of its names meanwhile, and when.
    seen: HashMap<Arc<str>, (What, u64)>,
    /// More was seen than is remembered: no listing that is on its way may be held.
    overflowed: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Entry(Entry),
    Absent,
    /// It changed: whatever older listings say of it is not to be used.
    Ask,
}

#[derive(Debug)]
struct Dated {
    listing: Listing,
    at: u64,
    files_until: Instant,
    until: Instant,
    absence: Absence,
    /// Names that were seen anew after the listing was made, in byte order.
    newer: Mutex<Vec<Newer>>,
}

#[derive(Clone, Debug)]
struct SeenWeight;
#[derive(Clone, Debug)]
struct ListingWeight;

impl Weighter<NsPath, Seen> for SeenWeight {
    fn weight(&self, path: &NsPath, seen: &Seen) -> u64 {
        let text = match &seen.what {
            What::Entry(Entry::File(file)) => size_of_val(&**file) + file.content.key.len() + 80,
            _ => 0,
        };
        (size_of::<Seen>() + path.as_str().len() + text + 64) as u64
    }
}

impl Weighter<NsPath, Arc<Dated>> for ListingWeight {
    fn weight(&self, path: &NsPath, dated: &Arc<Dated>) -> u64 {
        dated.listing.weight() + (path.as_str().len() + size_of::<Dated>() + 64) as u64
    }
}

impl Catalog {
    /// An empty catalog.
    pub fn new(options: CatalogOptions) -> Self {
        let entries = (options.memory.0 / 4).max(1 << 20);
        let listings = (options.memory.0 - options.memory.0 / 4).max(1 << 20);
        // Few shards: a listing must fit in one of them, and each gets an equal part of the weight.
        let listing_cache = quick_cache::OptionsBuilder::new()
            .estimated_items_capacity(1_000)
            .weight_capacity(listings)
            .shards(1)
            .build()
            .expect("both required options are given");
        Self {
            entries: Cache::with_weighter((entries / 500) as usize, entries, SeenWeight),
            listings: Cache::with_options(
                listing_cache,
                ListingWeight,
                quick_cache::DefaultHashBuilder::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            listing_max: listings / 4 * 3,
            clock: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            under_way: Arc::default(),
            order: (0..ORDER_LOCKS).map(|_| Mutex::new(())).collect(),
            metrics: Metrics::default(),
        }
    }

    /// Adds the catalog's counters to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// A moment before the origin is asked: what comes back is as old as this.
    pub fn begin(&self) -> Asked {
        Asked { at: self.clock.fetch_add(1, Ordering::Relaxed), when: Instant::now() }
    }

    /// A moment before a listing of `directory` is asked for: what is seen of its names until it is learnt stays above it.
    pub fn begin_listing(&self, directory: &NsPath) -> AskedListing {
        self.under_way.lock().entry(directory.clone()).or_default().listings += 1;
        AskedListing { asked: self.begin(), directory: directory.clone(), under_way: self.under_way.clone() }
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
    pub fn lookup(&self, path: &NsPath, now: Instant) -> Held {
        let own = self.entries.get(path);
        let listed = path.parent().and_then(|parent| self.listings.get(&parent));
        let mut is_answered_by_own = true;
        if let Some(dated) = &listed
            && own.as_ref().is_none_or(|own| own.at < dated.at)
        {
            if let Some(held) = dated.lookup(path, now) {
                self.metrics.listing_hits.inc();
                return held;
            }
            // One that tells no absence contradicts none.
            is_answered_by_own =
                dated.absence == Absence::Open && own.as_ref().is_some_and(|own| own.what == What::Absent);
        }
        if is_answered_by_own
            && let Some(own) = &own
            && own.until > now
        {
            let left = own.until - now;
            let held = match &own.what {
                What::Entry(entry) => Held::Found(Found { entry: entry.clone(), fresh_for: left }),
                What::Absent => Held::Absent(left),
                What::Ask => Held::Unknown,
            };
            if held != Held::Unknown {
                self.metrics.entry_hits.inc();
                return held;
            }
        }
        self.metrics.misses.inc();
        Held::Unknown
    }

    /// Whether a listing of the directory `path` answers lookups of the names that it has.
    pub fn has_listing(&self, path: &NsPath, now: Instant) -> bool {
        self.listings.get(path).is_some_and(|listing| listing.until > now)
    }

    /// The listing of the directory `path`, if it may be shown.
    pub fn listing(&self, path: &NsPath, now: Instant) -> Option<ListingHeld> {
        let listing = self.listings.get(path).filter(|listing| listing.absence == Absence::Told)?;
        (listing.until > now).then(|| ListingHeld { fresh_for: listing.until - now, listing })
    }

    /// The listing of the directory `path` for a reader that is in the middle of it: also one that may not be begun on
    /// any more.
    pub fn listing_to_continue(&self, path: &NsPath, now: Instant) -> Option<ListingHeld> {
        let listing = self.listings.get(path).filter(|listing| listing.absence == Absence::Told)?;
        let fresh_for = listing.until.saturating_duration_since(now);
        (listing.until + CONTINUE_MAX > now).then_some(ListingHeld { listing, fresh_for })
    }

    /// Takes what was seen under `path`, and returns it as it may be told.
    pub fn learn(&self, source: &SourceFacts, path: &NsPath, asked: Asked, seen: Observed) -> Held {
        let now = Instant::now();
        let (what, fresh) = match seen {
            // A larger object than there are page numbers is hidden, as in a listing.
            Observed::File(file) if file.size > CONTENT_MAX => (What::Absent, source.freshness.of_listings()),
            Observed::Absent => (What::Absent, source.freshness.of_listings()),
            Observed::Directory => (What::Entry(source.directory()), source.freshness.of_listings()),
            Observed::File(file) => {
                let key: Arc<str> = source.key(path).unwrap_or_default().into();
                (What::Entry(source.file(&source.path.as_str().into(), key, file)), source.freshness.of_files())
            }
        };
        let until = asked.when + fresh;
        let _order = self.order_of(path.parent().as_ref()).lock();
        // A slower answer to an older question does not replace a newer one, and is not held by whoever gets it.
        let is_newest = self.entries.get(path).is_none_or(|known| known.at <= asked.at);
        let left = if is_newest { until.saturating_duration_since(now) } else { Duration::ZERO };
        let held = match &what {
            What::Entry(entry) => Held::Found(Found { entry: entry.clone(), fresh_for: left }),
            _ => Held::Absent(left),
        };
        if is_newest {
            self.overlay(path, asked.at, &what);
            self.entries.insert(path.clone(), Seen { what, at: asked.at, until });
        }
        held
    }

    /// Starts a listing of `directory`.
    pub fn list(&self, directory: DirectoryKey) -> ListingBuilder {
        ListingBuilder::new(directory)
    }

    /// The most that one listing may weigh, in bytes.
    pub fn listing_max(&self) -> u64 {
        self.listing_max
    }

    /// Takes a whole listing, and returns it for use by whoever waits for it, even where it may not be used longer.
    pub fn learn_listing(&self, begun: &AskedListing, listing: Listing, absence: Absence) -> ListingHeld {
        let asked = begun.asked;
        let freshness = listing.source().freshness;
        let until = asked.when + freshness.of_listings();
        let files_until = asked.when + freshness.of_files();
        let path = listing.path().clone();
        let _order = self.order_of(Some(&path)).lock();
        let now = Instant::now();
        let known = self.listings.get(&path);
        let newer = begun.seen_meanwhile(&listing);
        let is_known_whole = newer.is_some();
        let newer = newer.unwrap_or_default();
        let dated = Arc::new(Dated { listing, at: asked.at, files_until, until, absence, newer: Mutex::new(newer) });
        let gives_way = |known: Arc<Dated>| {
            // One that tells more is not replaced while it may be used.
            let tells_more = known.absence == Absence::Told && absence == Absence::Open && known.until > now;
            known.at < asked.at && !tells_more
        };
        if is_known_whole && known.is_none_or(gives_way) {
            self.listings.insert(path, dated.clone());
        }
        ListingHeld { listing: dated, fresh_for: until.saturating_duration_since(now) }
    }

    /// The object at `path` is not `content` any more: it is asked for anew at the next lookup, unless something else is
    /// known of it already.
    pub fn forget(&self, path: &NsPath, content: ContentId) {
        if let Held::Found(Found { entry: Entry::File(file), .. }) = self.lookup(path, Instant::now())
            && file.content.id != content
        {
            return;
        }
        let _order = self.order_of(path.parent().as_ref()).lock();
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.metrics.forgotten.inc();
        let at = self.clock.fetch_add(1, Ordering::Relaxed);
        self.overlay(path, at, &What::Ask);
        let until = Instant::now() + Duration::from_secs(365 * 86_400);
        self.entries.insert(path.clone(), Seen { what: What::Ask, at, until });
    }

    /// All that is known of `path` and below it is forgotten, and what is being asked now is not held: another origin stands there.
    pub fn forget_below(&self, path: &NsPath) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.metrics.forgotten.inc();
        let is_below = |known: &NsPath| known.below(path).is_some();
        for (directory, under_way) in self.under_way.lock().iter_mut() {
            under_way.overflowed |= is_below(directory);
        }
        self.entries.retain(|known, _| !is_below(known));
        self.listings.retain(|known, _| !is_below(known));
    }

    fn order_of(&self, directory: Option<&NsPath>) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        directory.hash(&mut hasher);
        &self.order[hasher.finish() as usize % ORDER_LOCKS]
    }

    /// Puts what is newly known of `path` over an older listing of its directory.
    fn overlay(&self, path: &NsPath, at: u64, what: &What) {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else { return };
        if let Some(under_way) = self.under_way.lock().get_mut(&parent) {
            under_way.saw(name, at, what);
        }
        let Some(dated) = self.listings.get(&parent) else { return };
        let now = Instant::now();
        if dated.at >= at || (dated.until <= now && dated.files_until <= now) || !dated.differs(name, what) {
            return;
        }
        if !put(&mut dated.newer.lock(), name, at, what) {
            self.listings.remove(&parent);
        }
    }
}

/// Puts what was seen of `name` into `newer`, which is in byte order. False: there is no room.
fn put(newer: &mut Vec<Newer>, name: &str, at: u64, what: &What) -> bool {
    match newer.binary_search_by(|known| (*known.name).cmp(name)) {
        Ok(known) => (newer[known].what, newer[known].at) = (what.clone(), at),
        Err(_) if newer.len() >= NEWER_MAX => return false,
        Err(place) => newer.insert(place, Newer { name: name.into(), what: what.clone(), at }),
    }
    true
}

impl UnderWay {
    fn saw(&mut self, name: &str, at: u64, what: &What) {
        if let Some(seen) = self.seen.get_mut(name) {
            *seen = (what.clone(), at);
        } else if self.seen.len() < SEEN_MAX {
            self.seen.insert(name.into(), (what.clone(), at));
        } else {
            self.overflowed = true;
        }
    }
}

impl AskedListing {
    /// What was seen of the directory's names since that `listing` does not say, in byte order. None if that is not all, or
    /// more than a listing can have over it.
    fn seen_meanwhile(&self, listing: &Listing) -> Option<Vec<Newer>> {
        let under_way = self.under_way.lock();
        let Some(under_way) = under_way.get(&self.directory) else { return Some(Vec::new()) };
        let is_newer = |name: &str, what: &What, at: u64| at > self.asked.at && differs(listing, name, what);
        let newer = under_way.seen.iter().filter(|(name, (what, at))| is_newer(name, what, *at));
        let mut newer: Vec<_> =
            newer.map(|(name, (what, at))| Newer { name: name.clone(), what: what.clone(), at: *at }).collect();
        newer.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        (!under_way.overflowed && newer.len() <= NEWER_MAX).then_some(newer)
    }
}

impl Drop for AskedListing {
    fn drop(&mut self) {
        let mut all = self.under_way.lock();
        let Some(under_way) = all.get_mut(&self.directory) else { return };
        under_way.listings -= 1;
        if under_way.listings == 0 {
            all.remove(&self.directory);
        }
    }
}

/// A moment before an origin was asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    at: u64,
    when: Instant,
}

/// A moment before a listing was asked for. While it lives, what is seen of the directory's names is remembered.
#[derive(Debug)]
pub struct AskedListing {
    asked: Asked,
    directory: NsPath,
    under_way: Arc<Mutex<HashMap<NsPath, UnderWay>>>,
}

/// Whether `what` says something else of `name` than `listing`.
fn differs(listing: &Listing, name: &str, what: &What) -> bool {
    match (listing.get(name), what) {
        (Some(listed), What::Entry(entry)) => listed != *entry,
        (None, What::Absent) => false,
        _ => true,
    }
}

impl Dated {
    /// Whether `what` says something else of `name` than the listing with its overlay.
    fn differs(&self, name: &str, what: &What) -> bool {
        let newer = self.newer.lock();
        if let Ok(known) = newer.binary_search_by(|known| (*known.name).cmp(name)) {
            return newer[known].what != *what;
        }
        drop(newer);
        differs(&self.listing, name, what)
    }

    fn lookup(&self, path: &NsPath, now: Instant) -> Option<Held> {
        let name = path.name()?;
        let entry = {
            let newer = self.newer.lock();
            match newer.binary_search_by(|known| (*known.name).cmp(name)) {
                Ok(at) => match &newer[at].what {
                    What::Entry(entry) => Some(entry.clone()),
                    What::Absent => None,
                    What::Ask => return None,
                },
                Err(_) => {
                    drop(newer);
                    self.listing.get(name)
                }
            }
        };
        let until = match &entry {
            Some(Entry::File(_)) => self.files_until,
            _ => self.until,
        };
        let left = until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(match entry {
            Some(entry) => Held::Found(Found { entry, fresh_for: left }),
            None if name.len() > forebay_model::NAME_MAX || self.absence == Absence::Open => return None,
            None => Held::Absent(left),
        })
    }
}

impl ListingHeld {
    /// At most `limit` names after `after` (empty: from the first). Empty only if no name follows.
    pub fn page(&self, after: &str, limit: u32) -> ListedPage {
        let limit = limit.max(1);
        let (mut page, mut last) = self.part(after, limit);
        while page.entries.is_empty()
            && page.more
            && let Some(name) = last
        {
            // Every name of this part has gone since the listing was made.
            (page, last) = self.part(&name, limit);
        }
        page
    }

    /// One part of the listing under its overlay, and the last name of the listing in it.
    fn part(&self, after: &str, limit: u32) -> (ListedPage, Option<Arc<str>>) {
        let Dated { listing, newer, .. } = &*self.listing;
        let (positions, more) = listing.after(after, limit as usize);
        let mut fresh_for = self.fresh_for;
        let mut entries: Vec<ListedEntry> = listing.entries(positions).collect();
        let last = entries.last().filter(|_| more).map(|e| e.name.clone());
        let newer = newer.lock();
        if !newer.is_empty() {
            for Newer { name, what, .. } in newer.iter().filter(|newer| *newer.name > *after) {
                if last.as_ref().is_some_and(|last| name > last) {
                    break;
                }
                match (entries.binary_search_by(|e| e.name.cmp(name)), what) {
                    (Ok(at), What::Entry(entry)) => entries[at].entry = entry.clone(),
                    (Ok(at), What::Absent) => drop(entries.remove(at)),
                    (Err(at), What::Entry(entry)) => {
                        entries.insert(at, ListedEntry { name: name.clone(), entry: entry.clone() });
                    }
                    // What the listing says of it is not to be held: it is looked up.
                    (Ok(_), What::Ask) => fresh_for = Duration::ZERO,
                    (Err(_), What::Absent | What::Ask) => {}
                }
            }
        }
        (ListedPage { entries, more, hidden: listing.hidden(), fresh_for }, last)
    }

    /// Number of names in the listing as it was made.
    pub fn len(&self) -> usize {
        self.listing.listing.len()
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.listing.listing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use forebay_model::{Freshness, OriginId, TimestampNs, Version};

    use super::*;
    use crate::directory::ObservedFile;

    struct World {
        catalog: Catalog,
        source: Arc<SourceFacts>,
    }

    fn world(freshness: Freshness) -> World {
        let source = SourceFacts {
            path: "/ml".parse().expect("a path"),
            origin: OriginId { scheme: "s3".into(), endpoint: "".into(), bucket: "b".into() },
            prefix: "".into(),
            freshness,
            added: TimestampNs(7),
        };
        let options = CatalogOptions { memory: ByteSize(64 << 20) };
        World { catalog: Catalog::new(options), source: Arc::new(source) }
    }

    fn path(text: &str) -> NsPath {
        text.parse().expect("a path")
    }

    fn file(etag: &str) -> Observed {
        Observed::File(ObservedFile { size: 3, mtime: TimestampNs(1), version: Version::Etag(etag.into()) })
    }

    impl World {
        fn list(&self, names: &[(&str, &str)]) -> ListingHeld {
            let asked = self.catalog.begin_listing(&path("/ml/d"));
            let mut b = self.catalog.list(DirectoryKey { source: self.source.clone(), path: path("/ml/d") });
            for (name, etag) in names {
                b.push(&format!("d/{name}"), &file(etag)).expect("it fits");
            }
            self.catalog.learn_listing(&asked, b.finish(), Absence::Told)
        }

        fn learn(&self, at: &str, seen: Observed) -> Held {
            self.catalog.learn(&self.source, &path(at), self.catalog.begin(), seen)
        }

        fn etag(&self, at: &str) -> String {
            self.etag_at(at, Instant::now())
        }

        fn etag_at(&self, at: &str, now: Instant) -> String {
            match self.catalog.lookup(&path(at), now) {
                Held::Found(Found { entry: Entry::File(f), .. }) => match &f.content.version {
                    Version::Etag(etag) => etag.to_string(),
                    other => format!("{other:?}"),
                },
                Held::Found(_) => "directory".to_owned(),
                Held::Absent(_) => "absent".to_owned(),
                Held::Unknown => "unknown".to_owned(),
            }
        }

        fn forget(&self, at: &str) {
            match self.catalog.lookup(&path(at), Instant::now()) {
                Held::Found(Found { entry: Entry::File(f), .. }) => self.catalog.forget(&path(at), f.content.id),
                other => panic!("{at}: {other:?}"),
            }
        }

        fn listed(&self) -> Vec<String> {
            let held = self.catalog.listing(&path("/ml/d"), Instant::now()).expect("a listing");
            held.page("", 100)
                .entries
                .iter()
                .map(|e| format!("{}:{}", e.name, self.etag(&format!("/ml/d/{}", e.name))))
                .collect()
        }
    }

    #[test]
    fn a_listing_answers_lookups_of_its_names_and_of_absent_ones() {
        let w = world(Freshness::default());
        assert_eq!(w.etag("/ml/d/a"), "unknown");
        w.list(&[("a", "1"), ("b", "2")]);
        assert_eq!([w.etag("/ml/d/a"), w.etag("/ml/d/b"), w.etag("/ml/d/c")], ["1", "2", "absent"]);
    }

    #[test]
    fn the_newer_observation_wins_in_lookups_and_listings() {
        let w = world(Freshness::default());
        w.learn("/ml/d/a", file("0"));
        w.list(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(w.etag("/ml/d/a"), "1");
        w.learn("/ml/d/a", file("9"));
        w.learn("/ml/d/b", Observed::Absent);
        w.learn("/ml/d/bb", file("8"));
        assert_eq!(w.listed(), ["a:9", "bb:8", "c:3"]);
    }

    #[test]
    fn what_changed_is_not_answered_from_an_older_listing() {
        let w = world(Freshness::Immutable);
        w.list(&[("a", "1")]);
        w.forget("/ml/d/a");
        assert_eq!(w.etag("/ml/d/a"), "unknown");
        let held = w.catalog.listing(&path("/ml/d"), Instant::now()).expect("a listing");
        assert_eq!(held.page("", 10).fresh_for, Duration::ZERO, "the kernel must look the name up");
        w.learn("/ml/d/a", file("2"));
        assert_eq!((w.etag("/ml/d/a"), w.listed()), ("2".to_owned(), vec!["a:2".to_owned()]));
    }

    #[test]
    fn what_is_forgotten_while_a_listing_is_on_its_way_stays_forgotten() {
        let w = world(Freshness::Immutable);
        w.list(&[("a", "1"), ("b", "1")]);
        let asked = w.catalog.begin_listing(&path("/ml/d"));
        w.forget("/ml/d/a");
        let mut b = w.catalog.list(DirectoryKey { source: w.source.clone(), path: path("/ml/d") });
        for name in ["a", "b"] {
            b.push(&format!("d/{name}"), &file("1")).expect("it fits");
        }
        w.catalog.learn_listing(&asked, b.finish(), Absence::Told);
        assert_eq!([w.etag("/ml/d/a"), w.etag("/ml/d/b")], ["unknown", "1"]);
    }

    #[test]
    fn an_old_version_that_is_gone_does_not_take_the_new_one_with_it() {
        let w = world(Freshness::default());
        w.learn("/ml/d/a", file("2"));
        w.catalog.forget(&path("/ml/d/a"), ContentId::from_u128(1));
        assert_eq!(w.etag("/ml/d/a"), "2");
    }

    #[test]
    fn who_is_in_the_middle_of_a_listing_goes_on_in_it() {
        let w = world(Freshness::Check);
        w.list(&[("a", "1")]);
        assert!(w.catalog.listing(&path("/ml/d"), Instant::now()).is_none());
        let held = w.catalog.listing_to_continue(&path("/ml/d"), Instant::now()).expect("a listing");
        assert_eq!(held.fresh_for, Duration::ZERO);
    }

    #[test]
    fn a_slow_answer_to_an_older_question_is_not_kept() {
        let w = world(Freshness::default());
        let old = w.catalog.begin();
        w.learn("/ml/d/a", file("2"));
        w.catalog.learn(&w.source, &path("/ml/d/a"), old, file("1"));
        assert_eq!(w.etag("/ml/d/a"), "2");
    }

    #[test]
    fn a_listing_that_nobody_has_seen_tells_no_absence() {
        let w = world(Freshness::default());
        let mut b = w.catalog.list(DirectoryKey { source: w.source.clone(), path: path("/ml/d") });
        b.push("d/a", &file("1")).expect("it fits");
        w.catalog.learn_listing(&w.catalog.begin_listing(&path("/ml/d")), b.finish(), Absence::Open);
        assert_eq!([w.etag("/ml/d/a"), w.etag("/ml/d/b")], ["1", "unknown"]);
        w.learn("/ml/d/b", Observed::Absent);
        assert_eq!(w.etag("/ml/d/b"), "absent");
    }

    #[test]
    fn what_is_seen_while_the_first_listing_is_on_its_way_stays_above_it() {
        let w = world(Freshness::default());
        let asked = w.catalog.begin_listing(&path("/ml/d"));
        w.learn("/ml/d/a", file("2"));
        w.learn("/ml/d/new", file("1"));
        let mut b = w.catalog.list(DirectoryKey { source: w.source.clone(), path: path("/ml/d") });
        b.push("d/a", &file("1")).expect("it fits");
        let held = w.catalog.learn_listing(&asked, b.finish(), Absence::Told);
        let names: Vec<_> = held.page("", 10).entries.iter().map(|e| e.name.to_string()).collect();
        assert_eq!(names, ["a", "new"]);
        assert_eq!(w.listed(), ["a:2", "new:1"]);
        drop(asked);
        assert!(w.catalog.under_way.lock().is_empty());
    }

    #[test]
    fn a_listing_is_held_however_many_of_its_names_are_seen_meanwhile_unless_too_many_differ() {
        let check = |seen: usize, etag: &str, is_held: bool| {
            let w = world(Freshness::Immutable);
            let asked = w.catalog.begin_listing(&path("/ml/d"));
            let mut b = w.catalog.list(DirectoryKey { source: w.source.clone(), path: path("/ml/d") });
            let mut names: Vec<_> = (0..seen).map(|name| name.to_string()).collect();
            names.sort();
            for name in &names {
                b.push(&format!("d/{name}"), &file("old")).expect("it fits");
                w.learn(&format!("/ml/d/{name}"), file(etag));
            }
            w.catalog.learn_listing(&asked, b.finish(), Absence::Told);
            let held = w.catalog.has_listing(&path("/ml/d"), Instant::now());
            assert_eq!(held, is_held, "{seen} names seen as {etag}");
        };
        check(3 * NEWER_MAX, "old", true);
        check(NEWER_MAX, "new", true);
        check(NEWER_MAX + 1, "new", false);
        check(SEEN_MAX + 1, "old", false);
    }

    #[test]
    fn a_listing_that_nobody_has_seen_neither_shows_nor_hides_one_that_was() {
        let w = world(Freshness::default());
        let open = |names: &[&str]| {
            let asked = w.catalog.begin_listing(&path("/ml/d"));
            let mut b = w.catalog.list(DirectoryKey { source: w.source.clone(), path: path("/ml/d") });
            names.iter().for_each(|name| b.push(&format!("d/{name}"), &file("1")).expect("it fits"));
            w.catalog.learn_listing(&asked, b.finish(), Absence::Open);
        };
        open(&["a"]);
        assert!(w.catalog.listing(&path("/ml/d"), Instant::now()).is_none(), "not to be shown");
        assert!(w.catalog.has_listing(&path("/ml/d"), Instant::now()));
        w.list(&[("a", "1")]);
        open(&["a", "b"]);
        assert_eq!([w.etag("/ml/d/a"), w.etag("/ml/d/b")], ["1", "absent"]);
    }

    #[test]
    fn answers_end_with_their_freshness() {
        for (freshness, seconds, file_now, absent_now) in [
            (Freshness::default(), 59, "1", "absent"),
            (Freshness::default(), 61, "unknown", "unknown"),
            (Freshness::Immutable, 61, "1", "unknown"),
            (Freshness::Check, 0, "unknown", "unknown"),
        ] {
            let w = world(freshness);
            w.list(&[("a", "1")]);
            w.learn("/ml/e/a", file("1"));
            w.learn("/ml/e/x", Observed::Absent);
            let now = Instant::now() + Duration::from_secs(seconds);
            for directory in ["/ml/d", "/ml/e"] {
                assert_eq!(w.etag_at(&format!("{directory}/a"), now), file_now, "{freshness} {seconds} {directory}");
                assert_eq!(w.etag_at(&format!("{directory}/x"), now), absent_now, "{freshness} {seconds} {directory}");
            }
        }
    }

    #[test]
    fn parts_of_a_listing_with_newer_names_miss_nothing() {
        let w = world(Freshness::default());
        let held = w.list(&[("a", "1"), ("c", "1"), ("e", "1")]);
        for name in ["0", "b", "d", "f"] {
            w.learn(&format!("/ml/d/{name}"), file("2"));
        }
        w.learn("/ml/d/c", Observed::Absent);
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let page = held.page(&after, 1);
            names.extend(page.entries.iter().map(|e| e.name.to_string()));
            if !page.more {
                break;
            }
            after = names.last().expect("a page with more after it is not empty").clone();
        }
        assert_eq!(names, ["0", "a", "b", "d", "e", "f"]);
    }

    #[test]
    fn a_sea_of_lookups_stays_within_its_memory() {
        let w = world(Freshness::default());
        let catalog = Catalog::new(CatalogOptions { memory: ByteSize(4 << 20) });
        for i in 0..100_000 {
            catalog.learn(&w.source, &path(&format!("/ml/d/{i}")), catalog.begin(), file("1"));
        }
        assert!(catalog.entries.weight() <= 1 << 20, "{}", catalog.entries.weight());
    }
}
