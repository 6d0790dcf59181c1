//! Fetches the next files of a directory ahead of who reads them one after the other ([`crate::walks`] says which).
//!
//! Always true: a file is fetched ahead through the same table as any other, so that its reader joins it, and never without
//! memory that is free at once; the origin keeps a quarter of its requests free for those who wait. Small objects only: a large
//! one has its own read-ahead, and a page of it alone would be the first to be evicted.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use forebay_catalog::Paged;
use forebay_model::{
    ByteSize, Content, Entry, FaultKind, FileEntry, ListedPage, NsPath, PageIndex, inode_number, is_small,
};
use parking_lot::Mutex;

use super::fetcher::{Fetcher, Landing, Trust, Want};
use super::flight::Flight;
use crate::beside::beside;
use crate::source::Source;
use crate::walks::{Load, LoadFrom, Names, Next, NextPlace, Outcome, ReadOf, WalkId, Walks};

/// Names that are asked of the catalog at once: it takes a millisecond.
const NAMES: u32 = 1_024;

/// Files of the largest directory whose numbers are looked at: it takes 20 ms, and 5 MB of memory.
const NUMBERED_MAX: usize = 16_384;

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

    /// The requests to `source` that nobody waits for.
    fn under_way(&self, source: &Arc<Source>) -> Arc<AtomicUsize> {
        let mut lanes = self.lanes.lock();
        if let Some((_, known)) = lanes.iter().find(|(of, _)| of.as_ptr() == Arc::as_ptr(source)) {
            return known.clone();
        }
        lanes.retain(|(of, _)| of.strong_count() > 0);
        let new = Arc::default();
        lanes.push((Arc::downgrade(source), Arc::clone(&new)));
        new
    }

    /// How many more requests that nobody waits for may begin, with so many under way. Never the last quarter: a reader that comes
    /// finds it free.
    fn room(source: &Source, under_way: usize) -> usize {
        let turns = source.upstream.turns();
        let reserve = turns.max.div_ceil(4);
        (turns.max - reserve).saturating_sub(under_way).min(turns.free.saturating_sub(reserve))
    }

    /// A place among the requests to `source` that nobody waits for; none if it is busy.
    fn lane(&self, source: &Arc<Source>) -> Option<Lane> {
        let lane = Lane(self.under_way(source));
        let before = lane.0.fetch_add(1, Ordering::Relaxed);
        (Self::room(source, before) > 0).then_some(lane)
    }
}

impl Fetcher {
    /// A file is read from its start.
    pub(super) fn read_from_start(self: &Arc<Self>, source: &Arc<Source>, content: &Content, is_here: bool) {
        let Some(ahead) = &self.files_ahead else { return };
        if !is_small(content.size) {
            return;
        }
        if is_here && !ahead.is_watching.load(Ordering::Relaxed) {
            return;
        }
        let is_arriving = !is_here && self.flights.get(content.id, PageIndex(0)).is_some();
        let room = FilesAhead::room(source, ahead.under_way(source).load(Ordering::Relaxed));
        let read = ReadOf { source, content, is_here, is_arriving, room };
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
            let this = self.clone();
            // The others are started from there: it wakes one thread, not one each.
            self.runtime.spawn(async move {
                for _ in 1..tasks {
                    tokio::spawn(this.clone().fetch_for(walk));
                }
                this.fetch_for(walk).await;
            });
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
            let Some(ahead) = &this.files_ahead else { return };
            let room = FilesAhead::room(&load.source, ahead.under_way(&load.source).load(Ordering::Relaxed));
            let outcome = ahead.with(|walks| walks.loaded(&load, names, room, Instant::now()));
            this.take_up(outcome);
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
            LoadFrom::Numbers => {
                let mut all = names(page("")?, true, "");
                while all.more {
                    let mut next = names(page(&all.last)?, false, &all.last);
                    all.files.append(&mut next.files);
                    (all.last, all.more) = (next.last, next.more);
                    if all.files.len() > NUMBERED_MAX {
                        return None;
                    }
                }
                all.files.sort_by_cached_key(|file| {
                    let path = facts.path_of(&file.content.key).unwrap_or_else(NsPath::root);
                    inode_number(&path, Some(file.content.id), 0)
                });
                Some(all)
            }
            LoadFrom::After { name, .. } => Some(names(page(name)?, false, name)),
            LoadFrom::Around { file, is_start_known } => {
                if !is_start_known {
                    let first = names(page("")?, true, "");
                    if !first.more || first.files.last().is_some_and(|last| **file <= *last.content.key) {
                        return Some(first);
                    }
                }
                let name = file.get(load.prefix.len()..)?;
                Some(names(page(name)?, false, name))
            }
        }
    }

    /// Fetches one file after the other for a walk, as long as it may.
    async fn fetch_for(self: Arc<Self>, walk: WalkId) {
        let Some(ahead) = &self.files_ahead else { return };
        ahead.with(|walks| walks.begins(walk));
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
            let (page, len) = (PageIndex(0), content.size);
            if self.store.has_page(content.id, page) || self.flights.get(content.id, page).is_some() {
                continue;
            }
            let put_back = |place: NextPlace, is_memory_short| {
                ahead.with(|walks| walks.put_back(walk, place, is_memory_short));
            };
            let Some(lane) = ahead.lane(&source) else {
                put_back(place, false);
                return None;
            };
            let memory = self.make_easy().then(|| self.budget.try_take(std::iter::once(len))).flatten();
            let Some(memory) = memory else {
                put_back(place, true);
                return None;
            };
            let claimed = self.claim(content, std::iter::once(page), Trust::Store, Want::Ahead).pop();
            let Some(flight) = claimed else { continue };
            flight.hold(Some(memory));
            ahead.with(|walks| walks.fetches(walk, place, content, Instant::now()));
            self.metrics.bytes_ahead.inc_by(len);
            self.metrics.files_ahead_bytes.inc_by(len);
            return Some(Step { source, file, flight, _lane: lane });
        }
    }
}
