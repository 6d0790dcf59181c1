//! Fetches the next files of a directory ahead of who reads them one after the other ([`crate::walks`] says which).
//!
//! Always true: a file is fetched ahead through the same table as any other, so that its reader joins it, and never without
//! memory that is free at once; the origin keeps a quarter of its requests free for those who wait. Small objects only: a large
//! one has its own read-ahead, and a page of it alone would be the first to be evicted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use forebay_model::{ByteSize, Content, FaultKind, FileEntry, NsPath, PageIndex, inode_number};
use parking_lot::Mutex;

use super::fetcher::{Fetcher, Landing, Trust, Want};
use super::flight::Flight;
use super::lanes::{Ahead, Lane};
use crate::beside::beside;
use crate::source::Source;
use crate::walks::{Load, LoadFrom, Names, Next, NextPlace, Outcome, ReadOf, WalkId, Walks, Whence};

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
        Self { walks, is_watching: AtomicBool::new(false) }
    }

    /// Does something with the walks.
    fn with<T>(&self, act: impl FnOnce(&mut Walks) -> T) -> T {
        let mut walks = self.walks.lock();
        let result = act(&mut walks);
        self.is_watching.store(walks.is_watching(), Ordering::Relaxed);
        result
    }
}

impl Fetcher {
    /// A file is read from its start. Whether a walk foresaw it.
    pub(super) fn follow_walks(self: &Arc<Self>, source: &Arc<Source>, content: &Content, whence: Whence) -> bool {
        let Some(ahead) = &self.files_ahead else { return false };
        if whence == Whence::Here && !ahead.is_watching.load(Ordering::Relaxed) {
            return false;
        }
        let room = self.lanes.places(source, Ahead::Files).now;
        let outcome = ahead.with(|walks| walks.read(ReadOf { source, content, whence, room }, Instant::now()));
        let is_foreseen = outcome.is_foreseen;
        self.take_up(outcome);
        is_foreseen
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
            let room = this.lanes.places(&load.source, Ahead::Files).now;
            let outcome = ahead.with(|walks| walks.loaded(&load, names, room, Instant::now()));
            this.take_up(outcome);
        });
    }

    /// Names as the catalog has them; blocks on its disk.
    fn names(&self, load: &Load) -> Option<Names> {
        let facts = &load.source.facts;
        let page = |after: &str| self.names_after(&load.source, &load.prefix, after, NAMES);
        match &load.from {
            LoadFrom::Numbers => {
                let mut all = page("")?;
                while all.more {
                    let mut next = page(&all.last)?;
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
            LoadFrom::After { name, .. } => page(name),
            LoadFrom::Around { file, is_start_known } => {
                if !is_start_known {
                    let first = page("")?;
                    if !first.more || first.files.last().is_some_and(|last| **file <= *last.content.key) {
                        return Some(first);
                    }
                }
                page(file.get(load.prefix.len()..)?)
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
            let Some(lane) = self.lanes.take(&source, Ahead::Files) else {
                put_back(place, false);
                return None;
            };
            let memory = self.make_easy().then(|| self.budget.try_take(std::iter::once(len))).flatten();
            let Some(memory) = memory else {
                put_back(place, true);
                return None;
            };
            let claimed = ahead.with(|walks| {
                // At once with the flight: a reader that comes finds both or neither.
                let claimed = self.claim(content, std::iter::once(page), Trust::Store, Want::Ahead).pop()?;
                walks.fetches(walk, place, content, Instant::now());
                Some(claimed)
            });
            let Some(flight) = claimed else { continue };
            flight.hold(Some(memory));
            self.metrics.bytes_ahead.inc_by(len);
            self.metrics.files_ahead_bytes.inc_by(len);
            return Some(Step { source, file, flight, _lane: lane });
        }
    }
}
