//! Fetches the next files of a directory ahead of who reads them one after the other ([`crate::walks`] says which).
//!
//! Always true: a file is fetched ahead through the same table as any other, so that its reader joins it, and never without
//! memory that is free at once; the origin keeps a quarter of its requests free for those who wait. Of a large file only
//! the first page is fetched.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use forebay_catalog::Paged;
use forebay_model::{ByteRange, ByteSize, Content, Entry, FaultKind, FileEntry, ListedPage, PageIndex, page_len};
use parking_lot::Mutex;

use super::fetcher::{Fetcher, Landing, Trust, Want};
use super::flight::Flight;
use crate::beside::beside;
use crate::source::Source;
use crate::walks::{Load, LoadFrom, Names, Next, NextPlace, Outcome, ReadOf, WalkId, Walks};

/// Names that are asked of the catalog at once: it takes a millisecond.
const NAMES: u32 = 1_024;

/// What is known of readers that go from file to file.
#[derive(Debug)]
pub(super) struct FilesAhead {
    walks: Mutex<Walks>,
    /// Whether reads of what is here are of interest: asked without a lock.
    is_watching: AtomicBool,
    lanes: Mutex<Vec<(Weak<Source>, Arc<AtomicUsize>)>>,
}

/// A request to a source that nobody waits for yet. It has its place until it is dropped.
struct Lane(Arc<AtomicUsize>);

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A file to fetch.
struct Step {
    source: Arc<Source>,
    file: Arc<FileEntry>,
    flight: Arc<Flight>,
    _lane: Lane,
}

impl FilesAhead {
    /// At most `bytes_max` ahead of one reader.
    pub(super) fn new(bytes_max: ByteSize) -> Self {
        let walks = Mutex::new(Walks::new(bytes_max.0));
        Self { walks, is_watching: AtomicBool::new(false), lanes: Mutex::default() }
    }

    /// Does something with the walks.
    fn with<T>(&self, act: impl FnOnce(&mut Walks) -> T) -> T {
        let mut walks = self.walks.lock();
        let result = act(&mut walks);
        self.is_watching.store(walks.is_watching(), Ordering::Relaxed);
        result
    }

    /// A place among the requests to `source` that nobody waits for; none if it is busy.
    fn lane(&self, source: &Arc<Source>) -> Option<Lane> {
        let turns = source.upstream.turns();
        // Never the last quarter: a reader that comes finds it free.
        let reserve = turns.max.div_ceil(4);
        if turns.free <= reserve && turns.max > 1 {
            return None;
        }
        let under_way = {
            let mut lanes = self.lanes.lock();
            let is_its = |(of, _): &&(Weak<Source>, _)| of.as_ptr() == Arc::as_ptr(source);
            match lanes.iter().find(is_its) {
                Some((_, under_way)) => under_way.clone(),
                None => {
                    lanes.retain(|(of, _)| of.strong_count() > 0);
                    lanes.push((Arc::downgrade(source), Arc::default()));
                    lanes.last().map(|(_, under_way)| under_way.clone())?
                }
            }
        };
        let before = under_way.fetch_add(1, Ordering::Relaxed);
        let lane = Lane(under_way);
        (before < turns.max - reserve).then_some(lane)
    }
}

impl Fetcher {
    /// A file is read from its start.
    pub(super) fn read_from_start(self: &Arc<Self>, source: &Arc<Source>, content: &Content, is_here: bool) {
        let Some(ahead) = &self.files_ahead else { return };
        if is_here && !ahead.is_watching.load(Ordering::Relaxed) {
            return;
        }
        let is_arriving = !is_here && self.flights.get(content.id, PageIndex(0)).is_some();
        let read = ReadOf { source, content, is_here, is_arriving };
        let outcome = ahead.with(|walks| walks.read(read, Instant::now()));
        self.take_up(outcome);
    }

    /// Starts what an outcome asks for.
    fn take_up(self: &Arc<Self>, outcome: Outcome) {
        if outcome.used_bytes > 0 {
            self.metrics.files_ahead_used_bytes.inc_by(outcome.used_bytes);
        }
        if outcome.unused_bytes > 0 {
            self.metrics.files_ahead_unused_bytes.inc_by(outcome.unused_bytes);
        }
        if let Some((walk, tasks)) = outcome.walk {
            for _ in 0..tasks {
                let this = self.clone();
                self.runtime.spawn(async move { this.fetch_for(walk).await });
            }
        }
        if let Some(load) = outcome.load {
            self.load_names(load);
        }
    }

    /// Fetches names from the catalog.
    fn load_names(self: &Arc<Self>, load: Load) {
        let this = self.clone();
        self.runtime.spawn(async move {
            let (fetcher, wanted) = (this.clone(), load.clone());
            let names = beside(move || fetcher.names(&wanted)).await.ok().flatten();
            let outcome = this.files_ahead.as_ref().map(|ahead| ahead.with(|w| w.loaded(&load, names, Instant::now())));
            if let Some(outcome) = outcome {
                this.take_up(outcome);
            }
        });
    }

    /// Names as the catalog has them; blocks on its disk.
    fn names(&self, load: &Load) -> Option<Names> {
        let facts = &load.source.facts;
        let path = match load.prefix.strip_suffix('/') {
            Some(directory) if load.prefix.len() > facts.prefix.len() => facts.path_of(directory)?,
            _ => facts.path.clone(),
        };
        let now = Instant::now();
        let page = |after: &str| -> Option<ListedPage> {
            match self.catalog.names(facts, &path, now)?.page(after, NAMES) {
                // What is not to be held is not to be fetched by.
                Paged::Page(page) => Some(page).filter(|page| page.fresh_for > Duration::ZERO),
                Paged::NotYet | Paged::Gone => None,
            }
        };
        let until = |page: &ListedPage| now.checked_add(page.fresh_for);
        let names = |page: ListedPage, is_from_start, after: &str| Names {
            until: until(&page),
            more: page.more,
            is_from_start,
            last: page.entries.last().map_or_else(|| after.into(), |last| last.name.as_ref().into()),
            files: page
                .entries
                .into_iter()
                .filter_map(|listed| match listed.entry {
                    Entry::File(file) => Some(file),
                    Entry::Directory(_) => None,
                })
                .collect(),
        };
        match &load.from {
            LoadFrom::After { name, .. } => Some(names(page(name)?, false, name)),
            LoadFrom::Around(key) => {
                let first = names(page("")?, true, "");
                if !first.more || first.files.last().is_some_and(|last| **key <= *last.content.key) {
                    return Some(first);
                }
                let name = key.get(load.prefix.len()..)?;
                Some(names(page(name)?, false, name))
            }
        }
    }

    /// Fetches one file after the other for a walk, as long as it may.
    async fn fetch_for(self: Arc<Self>, walk: WalkId) {
        let Some(ahead) = &self.files_ahead else { return };
        ahead.with(|walks| walks.begins(walk));
        let _end = Resting { ahead, walk };
        while let Some(Step { source, file, flight, _lane }) = self.next_step(walk) {
            let (content, has_memory) = (&file.content, true);
            let landing = Landing { fetcher: self.clone(), flights: vec![flight] };
            if let Err(kind) = landing.fetch(&source, content, has_memory).await {
                ahead.with(|walks| walks.failed(content.id, kind == FaultKind::Changed, Instant::now()));
            }
        }
    }

    /// The next file that is neither here nor on its way, entered into the table.
    fn next_step(self: &Arc<Self>, walk: WalkId) -> Option<Step> {
        let ahead = self.files_ahead.as_ref()?;
        loop {
            let (source, file, place) = match ahead.with(|walks| walks.next(walk, Instant::now())) {
                Next::File { source, file, place } => (source, file, place),
                Next::Load(load) => {
                    self.load_names(load);
                    return None;
                }
                Next::Nothing => return None,
            };
            let content = &file.content;
            let (page, len) = (PageIndex(0), page_len(content.size, PageIndex(0)));
            let is_known = self.store.has_page(content.id, page) || self.flights.get(content.id, page).is_some();
            if is_known || content.size == 0 {
                continue;
            }
            let put_back = |place: NextPlace| ahead.with(|walks| walks.put_back(walk, place));
            let Some(lane) = ahead.lane(&source) else {
                put_back(place);
                return None;
            };
            let memory = self.make_easy().then(|| self.budget.try_take(std::iter::once(len))).flatten();
            let Some(memory) = memory else {
                put_back(place);
                return None;
            };
            let claimed = self.claim(content, std::iter::once(page), Trust::Store, Want::Ahead).pop();
            let Some(flight) = claimed else { continue };
            flight.hold(Some(memory));
            ahead.with(|walks| walks.fetches(walk, place, content, Instant::now()));
            let bytes = ByteRange::new(0, len).len();
            self.metrics.bytes_ahead.inc_by(bytes);
            self.metrics.files_ahead_bytes.inc_by(bytes);
            return Some(Step { source, file, flight, _lane: lane });
        }
    }
}

/// A task for a walk, until it ends.
struct Resting<'a> {
    ahead: &'a FilesAhead,
    walk: WalkId,
}

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        self.ahead.with(|walks| walks.rests(self.walk));
    }
}
