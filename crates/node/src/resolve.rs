//! What paths stand for: the catalog first, else the origin, once for all who wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_catalog::{Absence, Asked, Catalog, Gather, Held, ListingError, ListingHeld, Observed, Paged, Range};
use forebay_model::{Fault, FaultKind, Found, Freshness, ListedPage, NsPath};
use forebay_route::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::runtime::Handle;

use crate::beside::in_place;
use crate::namespace::{ABOVE_FRESH_FOR, Namespace, Place};
use crate::neighbours::{Neighbours, Turn};
use crate::single::Single;
use crate::source::Source;
use crate::upstream::{Piece, Places};

/// Names in doubt that are looked up before a directory is shown: so many, and as many more as cost no more than a new listing.
const SETTLE_MIN: u64 = 64;
const SETTLE_MAX: u64 = 4_096;
/// Requests that a lookup costs.
const REQUESTS_PER_NAME: u64 = 2;
/// Such lookups at once.
const SETTLE_AT_ONCE: usize = 16;
/// More names may come into doubt meanwhile: so often they are looked up too.
const SETTLE_TURNS: usize = 4;

/// Answers lookups and listings.
#[derive(Debug)]
pub(crate) struct Resolver {
    namespace: Arc<Namespace>,
    catalog: Arc<Catalog>,
    /// How long an origin may take for one answer, whoever waits for it.
    limit: Duration,
    /// Keyed with the catalog's epoch too: a question does not join one that was asked before it may be.
    lookups: Single<(NsPath, u64), Held>,
    listings: Single<(NsPath, u64), ListingHeld>,
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
            Place::Inside(source) => match self.catalog.lookup(&source.facts, path, Instant::now()) {
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
            // The answer to who asked before may have come since we looked.
            match catalog.lookup(&source.facts, &asked, Instant::now()) {
                Held::Unknown => {}
                known => return Ok(known),
            }
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

    /// Names of a directory, if its listing is known so far.
    pub(crate) fn list_now(&self, path: &NsPath, after: &str, limit: u32) -> Option<Result<ListedPage, Fault>> {
        match self.namespace.place(path) {
            Place::Above(None) => Some(Ok(self.namespace.list_above(path, after, limit))),
            Place::Nowhere => Some(Err(not_found(path))),
            Place::Inside(source)
                if after.is_empty() && self.catalog.is_in_doubt(&source.facts, path, Instant::now()) =>
            {
                match self.lookup_now(path)?.and_then(|found| a_directory(&found, path)) {
                    Ok(()) => self.known_page(&source, path, after, limit).map(Ok),
                    Err(fault) => Some(Err(fault)),
                }
            }
            Place::Root(source) | Place::Inside(source) | Place::Above(Some(source)) => {
                let page = self.known_page(&source, path, after, limit)?;
                Some(Ok(self.add_sources(path, after, limit, page)))
            }
        }
    }

    fn add_sources(&self, path: &NsPath, after: &str, limit: u32, page: ListedPage) -> ListedPage {
        let is_directory = |name: &str| {
            self.lookup_now(&path.join(name)).is_some_and(|known| known.is_ok_and(|f| f.entry.is_directory()))
        };
        self.namespace.add_sources(path, after, limit, page, is_directory)
    }

    /// Names of a listing that is whole, or has come so far. Freshness decides whether one may be begun on; who is in the
    /// middle of one goes on in it, or in a newer one that others read too.
    fn known_page(&self, source: &Source, path: &NsPath, after: &str, limit: u32) -> Option<ListedPage> {
        let (facts, now) = (&source.facts, Instant::now());
        let is_begun_on = after.is_empty();
        if let Some(held) = self.catalog.listing(facts, path, now).filter(is_sure)
            && let Some(page) = self.page_of(&held, after, limit)
        {
            return Some(page);
        }
        // Who checks at each opening begins on what was asked for then.
        if !(is_begun_on && facts.freshness == Freshness::Check)
            && let Some(filling) = self.filling(source, path, after, None).filter(ListingHeld::has_begun)
            && is_sure(&filling)
        {
            return self.page_of(&filling, after, limit);
        }
        if is_begun_on { None } else { self.older_page(source, path, after, limit) }
    }

    /// A listing on its way that a reader who has had the names up to `after` may read.
    fn filling(&self, source: &Source, path: &NsPath, after: &str, since: Option<&Asked>) -> Option<ListingHeld> {
        let filling = self.catalog.filling(&source.facts, path, since)?;
        (!after.is_empty() || !self.catalog.is_outdated(&filling)).then_some(filling)
    }

    /// Looks up the names of `held` that are in doubt. False: they are more than a new listing would cost, go on coming, or cannot
    /// be looked up.
    async fn settle(&self, context: &Context, source: &Source, path: &NsPath, held: &ListingHeld) -> bool {
        for _ in 0..SETTLE_TURNS {
            let asks = held.asks();
            let worth = SETTLE_MIN + held.len() / source.upstream.names_per_request().max(1) / REQUESTS_PER_NAME;
            if asks.is_empty() {
                return true;
            }
            if asks.len() as u64 > worth.min(SETTLE_MAX) {
                return false;
            }
            let look_up = |name: Arc<str>| async move {
                match self.lookup(context, &path.join(&name)).await {
                    Err(fault) if fault.kind != FaultKind::NotFound => Err(fault),
                    Ok(_) | Err(_) => Ok(()),
                }
            };
            let looked = stream::iter(asks).map(look_up).buffer_unordered(SETTLE_AT_ONCE).try_collect::<()>().await;
            if let Err(fault) = looked {
                tracing::debug!(%path, %fault, "a name in doubt could not be looked up");
                return false;
            }
        }
        false
    }

    /// Makes a listing that is known such that it can be shown, if that costs less than a new one.
    async fn settle_known(&self, context: &Context, source: &Source, path: &NsPath, after: &str) {
        if let Some(held) = self.catalog.listing(&source.facts, path, Instant::now())
            && !self.settle(context, source, path, &held).await
        {
            self.catalog.drop_listing(&held);
        }
        if let Some(filling) = self.filling(source, path, after, None) {
            self.settle(context, source, path, &filling).await;
        }
    }

    fn older_page(&self, source: &Source, path: &NsPath, after: &str, limit: u32) -> Option<ListedPage> {
        let held = self.catalog.listing_to_continue(&source.facts, path, Instant::now())?;
        self.page_of(&held, after, limit)
    }

    fn page_of(&self, held: &ListingHeld, after: &str, limit: u32) -> Option<ListedPage> {
        match held.page(after, limit) {
            // Whether an empty directory exists is asked at the end of its listing.
            Paged::Page(page) if page.entries.is_empty() && !held.is_whole() => None,
            Paged::Page(page) => Some(page),
            Paged::NotYet => None,
            Paged::Gone => {
                self.catalog.drop_listing(held);
                None
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
        if after.is_empty()
            && !leads_on
            && *path != source.facts.path
            && self.catalog.is_in_doubt(&source.facts, path, Instant::now())
        {
            self.lookup(context, path).await.and_then(|found| a_directory(&found, path))?;
        }
        self.settle_known(context, &source, path, after).await;
        if let Some(known) = self.list_now(path, after, limit) {
            return known;
        }
        match self.origins_page(context, &source, path, (after, limit)).await {
            Ok(page) => Ok(self.add_sources(path, after, limit, page)),
            // The way to a source is there, whatever the origin above it has.
            Err(fault) if leads_on && matches!(fault.kind, FaultKind::NotFound | FaultKind::NotADirectory) => {
                Ok(self.namespace.list_above(path, after, limit))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Names of a directory as its source's origin has them.
    async fn origins_page(
        &self,
        context: &Context,
        source: &Arc<Source>,
        path: &NsPath,
        (after, limit): (&str, u32),
    ) -> Result<ListedPage, Fault> {
        // For who checks at each opening, only a listing that is begun from now on.
        let since = (source.facts.freshness == Freshness::Check).then(|| self.catalog.begin());
        let (of, namespace, catalog) = (source.clone(), self.namespace.clone(), self.catalog.clone());
        let (asked, time) = (path.clone(), self.limit);
        let work = async move {
            // The listing of who asked before may have ended since we looked.
            if let Some(held) = catalog.listing(&of.facts, &asked, Instant::now()).filter(is_sure) {
                return Ok(held);
            }
            let listed = ask_listing(&of, &catalog, &asked, time, (u64::MAX, Absence::Told)).await;
            forget_if_replaced(&namespace, &of, &catalog, &asked);
            listed
        };
        let key = (path.clone(), self.epoch(source));
        let whole = self.listings.ask(key, context.deadline, path.as_str(), work);
        tokio::pin!(whole);
        loop {
            let begun = self.catalog.begun();
            let filling = self.filling(source, path, after, since.as_ref());
            let progress = filling.as_ref().map(ListingHeld::progress);
            if let Some(filling) = &filling
                && self.settle(context, source, path, filling).await
                && let Some(page) = self.page_of(filling, after, limit)
            {
                return Ok(page);
            }
            let more = async {
                match progress {
                    Some(progress) => progress.await,
                    None => begun.await,
                }
            };
            tokio::select! {
                biased;
                held = &mut whole => return self.end_of_wait(source, path, (after, limit), held),
                () = more => {}
            }
        }
    }

    fn end_of_wait(
        &self,
        source: &Source,
        path: &NsPath,
        (after, limit): (&str, u32),
        held: Result<ListingHeld, Fault>,
    ) -> Result<ListedPage, Fault> {
        match held {
            Ok(held) => self.page_of(&held, after, limit).ok_or_else(|| not_kept(path)),
            // Who is in the middle of an older listing is not stopped by a newer one that fails.
            Err(_)
                if !after.is_empty()
                    && let Some(page) = self.older_page(source, path, after, limit) =>
            {
                Ok(page)
            }
            Err(fault) => Err(fault),
        }
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
    let is_of_no_use =
        source.facts.freshness == Freshness::Check || catalog.has_listing(&source.facts, &directory, Instant::now());
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
    how: (u64, Absence),
) -> Result<ListingHeld, Fault> {
    let is_ranged = source.upstream.lists_ranges();
    match ask_listing_in(source, catalog, path, limit, how, is_ranged).await {
        // It was found out meanwhile that it lists in no order.
        Err(fault) if is_ranged && !source.upstream.lists_ranges() => {
            tracing::info!(%path, %fault, "listed again, without its order");
            ask_listing_in(source, catalog, path, limit, how, false).await
        }
        listed => listed,
    }
}

/// The same, in ranges of places or, of an origin that lists in no order, as names that are put in order here.
async fn ask_listing_in(
    source: &Source,
    catalog: &Catalog,
    path: &NsPath,
    limit: Duration,
    (names_max, absence): (u64, Absence),
    is_ranged: bool,
) -> Result<ListingHeld, Fault> {
    let writer = match is_ranged {
        true => catalog.begin_listing(&source.facts, path, absence),
        false => catalog.begin_listing_anew(&source.facts, path, absence),
    };
    let asked = catalog.begin();
    let failed = |error: ListingError| match error {
        ListingError::NotKept => not_kept(path),
        ListingError::Gaps | ListingError::Order => Fault::new(FaultKind::Bug, format!("{path}: {error}")),
    };
    let in_order = source.upstream.lists_in_order();
    let mut gather = if in_order { Gather::in_order(&writer, asked) } else { Gather::new(&writer, asked) };
    let mut names = 0;
    let mut sink = |piece: Piece| {
        names += piece.len() as u64;
        if names > names_max {
            return Err(Fault::new(FaultKind::Unavailable, format!("{path}: it has more than {names_max} names")));
        }
        // The catalog waits for its disk if it falls behind.
        in_place(|| match (piece, is_ranged) {
            (Piece::Names(names), false) => gather.push(names).map_err(failed),
            (Piece::Range { places, seen }, true) => {
                let put = writer.range(&asked, &places.after, &seen).and_then(|()| {
                    let last = seen.last().map_or(&*places.after, |(place, _)| place);
                    writer.covered(&asked, last, places.to.as_deref())
                });
                put.map_err(failed)
            }
            // Names without order say nothing of what is not there before the last has come; a range would say it of all of them.
            (Piece::Names(_), true) | (Piece::Range { .. }, false) => {
                let what = format!("{path}: the origin's listing changed between ranges and names; list again");
                Err(Fault::new(FaultKind::Unavailable, what))
            }
        })
    };
    let gaps = writer.gaps().into_iter().map(|Range { after, to }| Places { after, to }).collect();
    if let Err(fault) = source.upstream.list_pieces(writer.prefix(), gaps, &mut sink).await {
        drop(gather);
        if is_ranged && !source.upstream.lists_ranges() {
            // What came without order covers nothing.
            writer.forget();
        }
        return Err(fault);
    }
    if is_ranged {
        drop(gather);
    } else {
        in_place(|| gather.finish()).map_err(failed)?;
    }
    let is_root = *path == source.facts.path;
    if writer.is_empty() && !is_root && !source.upstream.has_prefix(writer.prefix(), Instant::now() + limit).await? {
        writer.forget();
        let known = catalog.lookup(&source.facts, path, Instant::now());
        let is_file = matches!(known, Held::Found(found) if !found.entry.is_directory());
        return Err(if is_file { is_a_file(path) } else { not_found(path) });
    }
    writer.finish().map_err(failed)
}

fn not_kept(path: &NsPath) -> Fault {
    let message =
        format!("{path}: the directory's listing cannot be kept on disk; look at the log, or raise catalog.disk");
    Fault::new(FaultKind::Unavailable, message)
}

/// What was learnt of a source that was replaced meanwhile is not to be used.
fn forget_if_replaced(namespace: &Namespace, source: &Arc<Source>, catalog: &Catalog, path: &NsPath) {
    if !namespace.is_of(source, path) {
        catalog.forget_below(path);
    }
}

/// Whether none of its names is to be looked up first.
fn is_sure(held: &ListingHeld) -> bool {
    held.asks().is_empty()
}

fn tell(held: Held, path: &NsPath) -> Result<Found, Fault> {
    match held {
        Held::Found(found) => Ok(found),
        Held::Absent(fresh_for) => Err(Fault::absent(format!("{path} does not exist"), fresh_for)),
        Held::Unknown => Err(not_found(path)),
    }
}

fn a_directory(found: &Found, path: &NsPath) -> Result<(), Fault> {
    if found.entry.is_directory() { Ok(()) } else { Err(is_a_file(path)) }
}

fn is_a_file(path: &NsPath) -> Fault {
    Fault::new(FaultKind::NotADirectory, format!("{path} is a file"))
}

fn not_found(path: &NsPath) -> Fault {
    Fault::new(FaultKind::NotFound, format!("{path} does not exist"))
}
