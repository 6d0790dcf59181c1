//! Fetches what is left of a directory whose small files are read in no order ([`crate::shuffles`] says which and how much).
//!
//! Always true, as for files that are fetched ahead of who reads in order: each through the same table as any other, so that
//! its reader joins it; never without memory that is free at once; never with more than half of the origin's requests. And never
//! a file that another one would be evicted for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use forebay_model::{Content, FaultKind, FileEntry, PageIndex};
use forebay_store::Room;
use parking_lot::Mutex;

use super::fetcher::{Fetcher, Landing, Trust, Want, group_of};
use super::flight::Flight;
use super::lanes::{Ahead, Lane};
use crate::beside::beside;
use crate::shuffles::{Fetched, Hindrance, Next, Noted, Read, Shuffles};
use crate::source::Source;
use crate::walks::Whence;

/// What is known of directories that are read in no order.
#[derive(Debug, Default)]
pub(super) struct DirectoriesAhead {
    shuffles: Mutex<Shuffles>,
    /// Whether reads of what is here are of interest: asked without a lock.
    is_watching: AtomicBool,
}

/// A file to fetch.
struct Step {
    file: Arc<FileEntry>,
    flight: Arc<Flight>,
    _lane: Lane,
}

/// A task that fetches. If it ends otherwise than it was told to, that is noticed.
struct Task<'a> {
    ahead: &'a DirectoriesAhead,
    source: &'a Arc<Source>,
    is_told: bool,
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.ahead.with(|shuffles| shuffles.ended(self.source));
        }
    }
}

impl DirectoriesAhead {
    fn with<T>(&self, act: impl FnOnce(&mut Shuffles) -> T) -> T {
        let mut shuffles = self.shuffles.lock();
        let result = act(&mut shuffles);
        self.is_watching.store(shuffles.is_watching(), Ordering::Relaxed);
        result
    }
}

impl Fetcher {
    /// A file is read from its start; a walk foresaw it or not.
    pub(super) fn follow_shuffles(
        self: &Arc<Self>,
        source: &Arc<Source>,
        content: &Content,
        whence: Whence,
        is_foreseen: bool,
    ) {
        let Some(ahead) = &self.directories_ahead else { return };
        if (whence == Whence::Here || is_foreseen) && !ahead.is_watching.load(Ordering::Relaxed) {
            return;
        }
        let noted = ahead.with(|shuffles| {
            let read = Read { source, content, whence, is_foreseen };
            shuffles.read(read, || self.lanes.places(source, Ahead::Directories), Instant::now())
        });
        self.heed(source, &noted);
    }

    fn heed(self: &Arc<Self>, source: &Arc<Source>, noted: &Noted) {
        if noted.used_bytes > 0 {
            self.metrics.files_ahead_used_bytes.inc_by(noted.used_bytes);
        }
        if noted.unused_bytes > 0 {
            self.metrics.files_ahead_unused_bytes.inc_by(noted.unused_bytes);
        }
        self.hire(source, noted.tasks);
    }

    fn hire(self: &Arc<Self>, source: &Arc<Source>, tasks: usize) {
        if tasks > 0 {
            let (this, source) = (self.clone(), source.clone());
            // The others are started from there: it wakes one thread, not one each.
            self.runtime.spawn(async move {
                for _ in 1..tasks {
                    tokio::spawn(this.clone().fetch_shuffled(source.clone()));
                }
                this.fetch_shuffled(source).await;
            });
        }
    }

    /// Fetches one file after the other of directories of a source, as long as it may.
    async fn fetch_shuffled(self: Arc<Self>, source: Arc<Source>) {
        let Some(ahead) = &self.directories_ahead else { return };
        let mut task = Task { ahead, source: &source, is_told: false };
        loop {
            let (file, flight, lane) = match ahead.with(|shuffles| shuffles.next(&source, Instant::now())) {
                Next::Nothing => return task.is_told = true,
                Next::Load { directory, after, most } => {
                    self.load_shuffled(&source, directory, after, most).await;
                    continue;
                }
                Next::File(file) => match self.step_of_shuffle(&source, file) {
                    Ok(Some(Step { file, flight, _lane })) => (file, flight, _lane),
                    Ok(None) => continue,
                    Err((file, why)) => {
                        ahead.with(|shuffles| shuffles.put_back(&source, file, why, Instant::now()));
                        return task.is_told = true;
                    }
                },
            };
            let landing = Landing { fetcher: self.clone(), flights: vec![flight] };
            let began = Instant::now();
            let outcome = match landing.fetch(&source, &file.content, true).await {
                Ok(()) => Fetched::Came { bytes: file.content.size, took: began.elapsed() },
                Err(FaultKind::Changed) => Fetched::Changed,
                Err(_) => Fetched::Failed,
            };
            drop(lane);
            let places = (self.lanes.places(&source, Ahead::Directories), Instant::now());
            let noted = ahead.with(|shuffles| shuffles.fetched(&source, &file, outcome, places));
            self.heed(&source, &noted);
        }
    }

    async fn load_shuffled(self: &Arc<Self>, source: &Arc<Source>, directory: Arc<str>, after: Box<str>, most: u32) {
        let Some(ahead) = &self.directories_ahead else { return };
        let (this, of, prefix) = (self.clone(), source.clone(), directory.clone());
        let names = beside(move || this.names_after(&of, &prefix, &after, most)).await.ok().flatten();
        let places = (self.lanes.places(source, Ahead::Directories), Instant::now());
        let tasks = ahead.with(|shuffles| shuffles.loaded(source, &directory, names, places));
        self.hire(source, tasks);
    }

    /// The file, entered into the table; none if it is here or on its way.
    fn step_of_shuffle(
        self: &Arc<Self>,
        source: &Arc<Source>,
        file: Arc<FileEntry>,
    ) -> Result<Option<Step>, (Arc<FileEntry>, Hindrance)> {
        let Some(ahead) = &self.directories_ahead else { return Ok(None) };
        let content = &file.content;
        let (page, len) = (PageIndex(0), content.size);
        if self.store.has_page(content.id, page) || self.flights.get(content.id, page).is_some() {
            return Ok(None);
        }
        // With those that are under way, which the store knows nothing of yet.
        let bytes = len * (1 + self.lanes.count(source) as u64);
        match self.store.room_for(group_of(source), content.id, bytes) {
            Room::Enough => {}
            Room::Busy => return Err((file, Hindrance::Busy)),
            Room::None => return Err((file, Hindrance::NoRoom)),
        }
        let Some(lane) = self.lanes.take(source, Ahead::Directories) else { return Err((file, Hindrance::Requests)) };
        let memory = self.make_easy().then(|| self.budget.try_take(std::iter::once(len))).flatten();
        let Some(memory) = memory else { return Err((file, Hindrance::Busy)) };
        let claimed = ahead.with(|shuffles| {
            // At once with the flight: a reader that comes finds both or neither.
            let claimed = self.claim(content, std::iter::once(page), Trust::Store, Want::Ahead).pop()?;
            shuffles.fetches(source, &file);
            Some(claimed)
        });
        let Some(flight) = claimed else { return Ok(None) };
        flight.hold(Some(memory));
        self.metrics.bytes_ahead.inc_by(len);
        self.metrics.files_ahead_bytes.inc_by(len);
        Ok(Some(Step { file, flight, _lane: lane }))
    }
}
