//! What paths stand for: the catalog first, else the origin, once for all who wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_catalog::{Absence, Catalog, DirectoryKey, Held, ListingHeld, Observed};
use forebay_model::{Fault, FaultKind, Found, Freshness, ListedPage, NsPath};
use forebay_route::Context;
use tokio::runtime::Handle;

use crate::namespace::{ABOVE_FRESH_FOR, Namespace, Place};
use crate::neighbours::{Neighbours, Turn};
use crate::single::Single;
use crate::source::Source;

/// Answers lookups and listings.
#[derive(Debug)]
pub(crate) struct Resolver {
    namespace: Arc<Namespace>,
    catalog: Arc<Catalog>,
    /// How long an origin may take for one answer, whoever waits for it.
    limit: Duration,
    /// Keyed with the catalog's epoch too: a question does not join one that was asked before it may be.
    lookups: Single<(NsPath, u64), Held>,
    listings: Single<(NsPath, u64), Arc<ListingHeld>>,
    neighbours: Arc<Neighbours>,
}

impl Resolver {
    pub(crate) fn new(namespace: Arc<Namespace>, catalog: Arc<Catalog>, limit: Duration, runtime: &Handle) -> Self {
        let (lookups, listings) = (Single::new(runtime.clone()), Single::new(runtime.clone()));
        Self { namespace, catalog, limit, lookups, listings, neighbours: Arc::new(Neighbours::new()) }
    }

    /// What `path` stands for, if that is known.
    pub(crate) fn lookup_now(&self, path: &NsPath) -> Option<Result<Found, Fault>> {
        match self.namespace.place(path) {
            Place::Root(source) => {
                Some(Ok(Found { entry: source.facts.directory(), fresh_for: source.facts.freshness.of_files() }))
            }
            Place::Above(_) => Some(Ok(Found { entry: self.namespace.entry_above(path), fresh_for: ABOVE_FRESH_FOR })),
            Place::Nowhere => Some(Err(not_found(path))),
            Place::Inside(_) => match self.catalog.lookup(path, Instant::now()) {
                Held::Unknown => None,
                held => Some(tell(held, path)),
            },
        }
    }

    /// What `path` stands for.
    pub(crate) async fn lookup(&self, context: &Context, path: &NsPath) -> Result<Found, Fault> {
        if let Some(known) = self.lookup_now(path) {
            return known;
        }
        let Place::Inside(source) = self.namespace.place(path) else { return Err(not_found(path)) };
        let (catalog, limit, namespace) = (self.catalog.clone(), self.limit, self.namespace.clone());
        let (asked, neighbours) = (path.clone(), self.neighbours.clone());
        let key = (path.clone(), self.epoch(&source));
        // Only the question that is asked counts, not those that join it.
        let work = async move {
            list_neighbours(&neighbours, &source, (&catalog, &namespace), &asked, limit);
            let held = ask_lookup(&source, &catalog, &asked, Instant::now() + limit).await;
            forget_if_replaced(&namespace, &source, &catalog, &asked);
            held
        };
        tell(self.lookups.ask(key, context.deadline, path.as_str(), work).await?, path)
    }

    /// What a question that is under way must have been asked at or after to be joined.
    fn epoch(&self, source: &Source) -> u64 {
        match source.facts.freshness {
            Freshness::Check => self.catalog.new_epoch(),
            Freshness::Immutable | Freshness::Ttl(_) => self.catalog.epoch(),
        }
    }

    /// Names of a directory, if its listing is known.
    pub(crate) fn list_now(&self, path: &NsPath, after: &str, limit: u32) -> Option<Result<ListedPage, Fault>> {
        match self.namespace.place(path) {
            Place::Above(None) => Some(Ok(self.namespace.list_above(path, after, limit))),
            Place::Nowhere => Some(Err(not_found(path))),
            Place::Root(_) | Place::Inside(_) | Place::Above(Some(_)) => {
                // Freshness decides whether a listing may be begun on; who is in the middle of one goes on in it.
                let now = Instant::now();
                let held = if after.is_empty() {
                    self.catalog.listing(path, now)
                } else {
                    self.catalog.listing_to_continue(path, now)
                };
                Some(Ok(self.namespace.add_sources(path, after, limit, held?.page(after, limit))))
            }
        }
    }

    /// Names of a directory.
    pub(crate) async fn list(
        &self,
        context: &Context,
        path: &NsPath,
        after: &str,
        limit: u32,
    ) -> Result<ListedPage, Fault> {
        if let Some(known) = self.list_now(path, after, limit) {
            return known;
        }
        let (source, leads_on) = match self.namespace.place(path) {
            Place::Inside(source) | Place::Root(source) => (source, false),
            Place::Above(Some(source)) => (source, true),
            Place::Above(None) | Place::Nowhere => return Err(not_found(path)),
        };
        let key = (path.clone(), self.epoch(&source));
        let (namespace, catalog, asked, time) =
            (self.namespace.clone(), self.catalog.clone(), path.clone(), self.limit);
        let work = async move {
            let listed = ask_listing(&source, &catalog, &asked, time, (u64::MAX, Absence::Told)).await;
            forget_if_replaced(&namespace, &source, &catalog, &asked);
            listed
        };
        let page = match self.listings.ask(key, context.deadline, path.as_str(), work).await {
            Ok(listing) => listing.page(after, limit),
            // The way to a source is there, whatever the origin above it has.
            Err(fault) if leads_on && matches!(fault.kind, FaultKind::NotFound | FaultKind::NotADirectory) => {
                return Ok(self.namespace.list_above(path, after, limit));
            }
            Err(fault) => return Err(fault),
        };
        Ok(self.namespace.add_sources(path, after, limit, page))
    }
}

/// Asks the origin what `path` stands for: the object and the prefix of that name at once. A directory hides an object of
/// its name.
async fn ask_lookup(source: &Source, catalog: &Catalog, path: &NsPath, deadline: Instant) -> Result<Held, Fault> {
    let asked = catalog.begin();
    let key = source.facts.key(path).ok_or_else(|| not_found(path))?;
    let prefix = format!("{key}/");
    let (object, has_prefix) =
        tokio::join!(source.upstream.stat(&key, deadline), source.upstream.has_prefix(&prefix, deadline));
    let seen = match (has_prefix?, object?) {
        (true, _) => Observed::Directory,
        (false, object) => object,
    };
    Ok(catalog.learn(&source.facts, path, asked, seen))
}

/// Lists the directory of `path`, of which another name has to be asked for, if that pays.
fn list_neighbours(
    neighbours: &Neighbours,
    source: &Arc<Source>,
    (catalog, namespace): (&Arc<Catalog>, &Arc<Namespace>),
    path: &NsPath,
    limit: Duration,
) {
    let Some(directory) = path.parent() else { return };
    // What may not be held answers no lookup; and one that is there does not have the name.
    let is_of_no_use = source.facts.freshness == Freshness::Check || catalog.has_listing(&directory, Instant::now());
    if is_of_no_use {
        return;
    }
    if let Some(turn) = neighbours.missed(&directory, source.upstream.names_per_request()) {
        let (catalog, namespace) = (catalog.clone(), namespace.clone());
        tokio::spawn(list_behind(source.clone(), catalog, namespace, directory, limit, turn));
    }
}

/// Lists the directory `path`, unless it is larger than its turn allows. Nobody waits for it.
async fn list_behind(
    source: Arc<Source>,
    catalog: Arc<Catalog>,
    namespace: Arc<Namespace>,
    path: NsPath,
    limit: Duration,
    turn: Turn,
) {
    let listed = ask_listing(&source, &catalog, &path, limit, (turn.names_max, Absence::Open)).await;
    forget_if_replaced(&namespace, &source, &catalog, &path);
    match listed {
        Ok(listing) if listing.fresh_for > Duration::ZERO => turn.listed(),
        Ok(_) => {}
        Err(fault) => tracing::debug!(%path, %fault, "not listed for its lookups"),
    }
}

/// Lists the directory `path` at the origin, whole. Fails if it has more than `names_max` names.
async fn ask_listing(
    source: &Source,
    catalog: &Catalog,
    path: &NsPath,
    limit: Duration,
    (names_max, absence): (u64, Absence),
) -> Result<Arc<ListingHeld>, Fault> {
    let asked = catalog.begin_listing(path);
    let mut builder = catalog.list(DirectoryKey { source: source.facts.clone(), path: path.clone() });
    let prefix = builder.prefix().to_owned();
    let too_large = || {
        let message =
            format!("{path}: the directory has more names than the catalog's memory holds; raise memory.catalog");
        Fault::new(FaultKind::Unavailable, message)
    };
    let mut names = 0;
    let mut sink = |part: Vec<(String, Observed)>| {
        names += part.len() as u64;
        if names > names_max {
            return Err(Fault::new(FaultKind::Unavailable, format!("{path}: it has more than {names_max} names")));
        }
        for (key, seen) in part {
            builder.push(&key, &seen).map_err(|_| too_large())?;
        }
        if builder.weight() > catalog.listing_max() { Err(too_large()) } else { Ok(()) }
    };
    source.upstream.list(&prefix, &mut sink).await?;
    let is_root = *path == source.facts.path;
    if builder.is_empty() && !is_root && !source.upstream.has_prefix(&prefix, Instant::now() + limit).await? {
        let is_file = matches!(catalog.lookup(path, Instant::now()), Held::Found(found) if !found.entry.is_directory());
        return Err(if is_file {
            Fault::new(FaultKind::NotADirectory, format!("{path} is a file"))
        } else {
            not_found(path)
        });
    }
    Ok(Arc::new(catalog.learn_listing(&asked, builder.finish(), absence)))
}

/// What was learnt of a source that was replaced meanwhile is not to be used.
fn forget_if_replaced(namespace: &Namespace, source: &Arc<Source>, catalog: &Catalog, path: &NsPath) {
    if !namespace.is_of(source, path) {
        catalog.forget_below(path);
    }
}

fn tell(held: Held, path: &NsPath) -> Result<Found, Fault> {
    match held {
        Held::Found(found) => Ok(found),
        Held::Absent(fresh_for) => Err(Fault::absent(format!("{path} does not exist"), fresh_for)),
        Held::Unknown => Err(not_found(path)),
    }
}

fn not_found(path: &NsPath) -> Fault {
    Fault::new(FaultKind::NotFound, format!("{path} does not exist"))
}
