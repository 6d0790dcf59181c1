//! Reads a content: from the store, from what is arriving, from the origin.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_catalog::Catalog;
use forebay_model::{
    BlockSummer, ByteRange, ByteSize, Content, ContentId, Fault, FaultKind, PageIndex, is_small, page_len, pages_of,
};
use forebay_route::Context;
use forebay_store::{Caching, Fill, Group, Kept, LEND_MAX, NotKept, ReadOutcome, Residency, Store};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::budget::{Budget, Memory};
use super::carried::Carried;
use super::directories_ahead::DirectoriesAhead;
use super::files_ahead::FilesAhead;
use super::flight::Flight;
use super::lanes::Lanes;
use super::read_ahead::ReadAhead;
use super::runs::{runs, whole_requests};
use super::table::{Claim, Flights};
use crate::metrics::FetchMetrics;
use crate::source::Source;
use crate::walks::Whence;

/// The slowest origin that a fetch bears with: beyond its limit it gets this much time for its bytes.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;
/// Times that a page which was there a moment ago, and was evicted, is looked for anew.
const ATTEMPTS: usize = 4;

/// For how long a page that the store has waits in memory for its reader.
const UNREAD_TIME: Duration = Duration::from_secs(2);
/// For how long a read that ran out of time speaks for the next one of its content.
const ECHO_TIME: Duration = Duration::from_millis(100);
/// Reads that ran out of time that are remembered.
const TIME_OUTS_MAX: usize = 64;

/// How bytes are fetched.
#[derive(Clone, Copy, Debug)]
pub struct FetchSettings {
    /// Memory for bytes on their way from origins, until the store has them.
    pub memory: ByteSize,
    /// The most to fetch ahead of one reader.
    pub read_ahead_max: ByteSize,
    /// Whether the next files of a directory are fetched ahead of who reads them in order.
    pub files_ahead: bool,
    /// Whether what is left of a directory is fetched while its small files are read in no order.
    pub directories_ahead: bool,
    /// The most to ask for in one request.
    pub request_max: ByteSize,
    /// How long an origin may take for one answer.
    pub deadline: Duration,
    /// How reads of the store treat the kernel's page cache.
    pub caching: Caching,
}

/// Fetches pages, each once for all who wait.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(super) store: Arc<Store>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) flights: Arc<Flights>,
    pub(super) budget: Budget,
    read_ahead: Mutex<ReadAhead>,
    pub(super) files_ahead: Option<FilesAhead>,
    pub(super) directories_ahead: Option<DirectoriesAhead>,
    /// Requests that nobody waits for.
    pub(super) lanes: Lanes,
    time_outs: Mutex<VecDeque<(ContentId, Instant, Fault)>>,
    settings: FetchSettings,
    pub(super) runtime: Handle,
    pub(crate) metrics: FetchMetrics,
}

/// Whether the store is believed when it says that it has a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Store,
    /// It said so a moment ago and could not give it.
    Nobody,
}

/// Whether somebody waits for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Now,
    Ahead,
}

impl Fetcher {
    pub(crate) fn new(store: Arc<Store>, catalog: Arc<Catalog>, settings: FetchSettings, runtime: Handle) -> Self {
        let ahead_max = settings.read_ahead_max.0.min(settings.memory.0 / 2);
        Self {
            store,
            catalog,
            flights: Arc::default(),
            budget: Budget::new(settings.memory),
            read_ahead: Mutex::new(ReadAhead::new(ahead_max)),
            files_ahead: settings.files_ahead.then(|| FilesAhead::new(ByteSize(ahead_max))),
            directories_ahead: settings.directories_ahead.then(DirectoriesAhead::default),
            lanes: Lanes::default(),
            time_outs: Mutex::default(),
            settings,
            runtime,
            metrics: FetchMetrics::default(),
        }
    }

    /// Pages on their way, and bytes of memory that they take.
    pub(crate) fn load(&self) -> (usize, u64) {
        (self.flights.len(), self.budget.taken())
    }

    /// Fills `buffer` with `range` if every byte is here. Blocks on a local disk.
    pub(crate) fn read_now(
        self: &Arc<Self>,
        source: &Arc<Source>,
        content: &Content,
        range: ByteRange,
        buffer: &mut [u8],
    ) -> bool {
        let here = self.copy_here(content, range, buffer);
        if here && !is_small(content.size) && self.store.residency(content.id, content.size) != Residency::Whole {
            self.fetch_ahead(source, content, range);
        }
        if here && range.start == 0 {
            self.read_from_start(source, content, Whence::Here);
        }
        here
    }

    /// All bytes of a small content, if they are here. Blocks on a local disk.
    pub(crate) fn read_whole_now(self: &Arc<Self>, source: &Arc<Source>, content: &Content) -> Option<Bytes> {
        let whole = ByteRange::new(0, content.size);
        // Memory before the disk, as in `copy_here`.
        let bytes = if content.size <= LEND_MAX && self.flights.get(content.id, PageIndex(0)).is_none() {
            self.store.lend(content.id, content.size, self.settings.caching)?
        } else {
            let mut bytes = vec![0; content.size as usize];
            self.copy_here(content, whole, &mut bytes).then(|| bytes.into())?
        };
        self.read_from_start(source, content, Whence::Here);
        Some(bytes)
    }

    /// A file is read from its start.
    fn read_from_start(self: &Arc<Self>, source: &Arc<Source>, content: &Content, whence: Whence) {
        if is_small(content.size) {
            let is_foreseen = self.follow_walks(source, content, whence);
            self.follow_shuffles(source, content, whence, is_foreseen);
        }
    }

    /// Whether the byte at `start` may be here.
    pub(crate) fn may_have(&self, content: &Content, start: u64) -> bool {
        let page = PageIndex::of(start);
        // In this order, as in `copy_here`. Of a flight that is not whole the start may be here.
        self.flights.get(content.id, page).map_or_else(
            || self.store.has_page(content.id, page),
            |flight| flight.is_whole() || !is_small(content.size),
        )
    }

    fn copy_here(&self, content: &Content, range: ByteRange, buffer: &mut [u8]) -> bool {
        // Memory before the disk. A flight leaves the table only after the store has its page, so what is in neither, in
        // this order, is not here.
        let is_arriving = |page| self.flights.get(content.id, page).is_some();
        if self.flights.len() == 0 || !pages_of(range).any(is_arriving) {
            return self.read_store(content, range, buffer);
        }
        let mut rest = buffer;
        for page in pages_of(range) {
            let part = range.intersect(ByteRange::new(page.start(), page.next().start()));
            let (now, later) = rest.split_at_mut(part.len() as usize);
            let here = match self.flights.get(content.id, page) {
                Some(flight) => {
                    let is_copied = flight.copy_now(part.start - page.start(), now);
                    if is_copied {
                        self.was_read(&flight, part);
                    }
                    is_copied
                }
                None => self.read_store(content, part, now),
            };
            if !here {
                return false;
            }
            rest = later;
        }
        true
    }

    /// Somebody has read `part` of the content from a flight.
    fn was_read(&self, flight: &Arc<Flight>, part: ByteRange) {
        if flight.read_to(part.end - flight.page.start()) {
            self.flights.remove(flight);
        }
    }

    /// The store has a page, or does not want it.
    fn settled(&self, flight: &Arc<Flight>) {
        if flight.settled() || !self.budget.is_easy() {
            self.flights.remove(flight);
            return;
        }
        // Else its reader would have it from the disk that has just taken it, or from the origin again. Unless that reader does not
        // come.
        if self.flights.await_reader(flight) {
            let flights = self.flights.clone();
            self.runtime.spawn(async move {
                tokio::time::sleep(UNREAD_TIME).await;
                while let Some(next) = flights.give_up_unread_since(UNREAD_TIME) {
                    tokio::time::sleep_until(next.into()).await;
                }
            });
        }
    }

    fn read_store(&self, content: &Content, range: ByteRange, buffer: &mut [u8]) -> bool {
        self.store.read(content.id, content.size, range, buffer, self.settings.caching) == ReadOutcome::Filled
    }

    /// The bytes of `range`, which lies within the content.
    pub(crate) async fn read(
        self: &Arc<Self>,
        context: &Context,
        source: &Arc<Source>,
        content: &Content,
        range: ByteRange,
    ) -> Result<Vec<Bytes>, Fault> {
        let began = Instant::now();
        if let Some(fault) = self.timed_out_just_now(content.id, began) {
            return Err(fault);
        }
        let wanted = self.claim(content, pages_of(range), Trust::Store, Want::Now);
        if range.start == 0 {
            // Not before the claim: until then it may still be fetched ahead.
            let first = PageIndex(0);
            let whence = match wanted.iter().any(|flight| flight.page == first) {
                true => Whence::Origin,
                false if self.store.has_page(content.id, first) => Whence::Here,
                false => Whence::Arriving,
            };
            self.read_from_start(source, content, whence);
        }
        let mut carried = None;
        match &wanted[..] {
            [flight] if is_small(content.size) => carried = Some(self.carry(source, content, flight.clone())),
            _ => self.start(source, content, wanted.clone()),
        }
        self.fetch_ahead(source, content, range);
        let mut chunks = Vec::new();
        for page in pages_of(range) {
            let part = range.intersect(ByteRange::new(page.start(), page.next().start()));
            let mine = wanted.iter().find(|flight| flight.page == page).cloned();
            let piece = self.piece(context, source, content, part, mine, began);
            let piece = match &mut carried {
                Some(carried) => carried.until(piece).await,
                None => piece.await,
            };
            chunks.extend(piece.inspect_err(|fault| self.remember_time_out(content.id, fault))?);
        }
        Ok(chunks)
    }

    /// The fault of a read of this content that ran out of time a moment ago. A kernel whose read-ahead fails asks for the
    /// page alone at once: without this every time-out would be waited for twice. Answered once: the next read is an
    /// attempt of its own.
    fn timed_out_just_now(&self, content: ContentId, now: Instant) -> Option<Fault> {
        let mut time_outs = self.time_outs.lock();
        let (_, at, fault) = time_outs.iter().rev().find(|(id, ..)| *id == content).cloned()?;
        time_outs.retain(|(id, ..)| *id != content);
        (now < at + ECHO_TIME).then_some(fault)
    }

    fn remember_time_out(&self, content: ContentId, fault: &Fault) {
        if fault.kind == FaultKind::TimedOut {
            let mut time_outs = self.time_outs.lock();
            time_outs.push_back((content, Instant::now(), fault.clone()));
            if time_outs.len() > TIME_OUTS_MAX {
                time_outs.pop_front();
            }
        }
    }

    /// The bytes `part` of one page. `mine` is the flight that this reader started for it: it is waited for even if it has
    /// failed and left the table already.
    async fn piece(
        self: &Arc<Self>,
        context: &Context,
        source: &Arc<Source>,
        content: &Content,
        part: ByteRange,
        mut mine: Option<Arc<Flight>>,
        began: Instant,
    ) -> Result<Vec<Bytes>, Fault> {
        let page = PageIndex::of(part.start);
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            if let Some(flight) = mine.take().or_else(|| self.flights.get(content.id, page)) {
                match flight.wait(part.start - page.start(), part.end - page.start(), context.deadline).await {
                    Ok(chunks) => {
                        self.was_read(&flight, part);
                        return Ok(chunks);
                    }
                    // Somebody else's attempt, begun before this reader came, does not speak for this one.
                    Err(fault) if flight.started < began && is_passing(&fault) && !context.left().is_zero() => {
                        last = Some(fault);
                    }
                    Err(fault) if fault.kind == FaultKind::TimedOut => {
                        return Err(Fault::new(fault.kind, format!("{}: {}", content.key, fault.message)));
                    }
                    Err(fault) => return Err(fault),
                }
            } else if let Some(bytes) = self.read_store_async(content, part).await {
                return Ok(vec![bytes]);
            }
            let trust = if attempt == 0 { Trust::Store } else { Trust::Nobody };
            let wanted = self.claim(content, std::iter::once(page), trust, Want::Now);
            mine = wanted.first().cloned();
            self.start(source, content, wanted);
        }
        Err(last.unwrap_or_else(|| {
            let message = format!("{}: the page at {} is evicted faster than it can be read", content.key, part.start);
            Fault::new(FaultKind::Unavailable, message)
        }))
    }

    async fn read_store_async(self: &Arc<Self>, content: &Content, part: ByteRange) -> Option<Bytes> {
        if !self.store.has_page(content.id, PageIndex::of(part.start)) {
            return None;
        }
        // What lies in memory is copied here and now: a change of threads would cost more than the copy
        // (docs/decisions/0009-reads-that-wait.md).
        let mut buffer = vec![0; part.len() as usize];
        match self.store.read_cached(content.id, content.size, part, &mut buffer) {
            Some(ReadOutcome::Filled) => return Some(Bytes::from(buffer)),
            Some(ReadOutcome::Absent) => return None,
            None => {}
        }
        let (this, content) = (self.clone(), content.clone());
        let read = move || this.read_store(&content, part, &mut buffer).then(|| Bytes::from(buffer));
        self.runtime.spawn_blocking(read).await.ok().flatten()
    }

    /// Follows a reader, and fetches ahead of it what memory allows.
    fn fetch_ahead(self: &Arc<Self>, source: &Arc<Source>, content: &Content, range: ByteRange) {
        if is_small(content.size) {
            return;
        }
        let until = self.read_ahead.lock().observe(content.id, range, content.size);
        let until = whole_requests(range.end, until, content.size, self.settings.request_max.0);
        if until <= range.end {
            return;
        }
        let ahead = pages_of(ByteRange::new(range.end, until)).filter(|page| page.start() >= range.end);
        let run_pages = self.request_pages();
        let missing = ahead
            .filter(|page| !self.store.has_page(content.id, *page) && self.flights.get(content.id, *page).is_none());
        for run in runs(missing, |page| *page, run_pages) {
            // Memory first: read-ahead takes what is free now, and nothing from those who wait.
            let sizes = run.iter().map(|page| page_len(content.size, *page));
            if !self.make_easy() {
                return;
            }
            let Some(memory) = self.budget.try_take(sizes) else { return };
            let claimed = self.claim(content, run.into_iter(), Trust::Store, Want::Ahead);
            self.launch_runs(source, content, claimed, Some(memory), Want::Ahead);
        }
    }

    /// Whether enough memory is free for what nobody waits for; pages that the store has are given up for it.
    pub(super) fn make_easy(&self) -> bool {
        while !self.budget.is_easy() {
            if !self.flights.give_up_unread() {
                return false;
            }
        }
        true
    }

    fn request_pages(&self) -> usize {
        ((self.settings.request_max.0 / forebay_model::PAGE) as usize).max(1)
    }

    /// Enters flights for those of `pages` that are neither here nor on their way.
    pub(super) fn claim(
        &self,
        content: &Content,
        pages: impl Iterator<Item = PageIndex>,
        trust: Trust,
        want: Want,
    ) -> Vec<Arc<Flight>> {
        let mut claimed = Vec::new();
        for page in pages {
            let is_here = || trust == Trust::Store && self.store.has_page(content.id, page);
            let what = (content.id, page, page_len(content.size, page));
            match self.flights.claim(what, want == Want::Ahead, is_here) {
                Claim::Here => {}
                Claim::Theirs => {
                    self.metrics.joined.inc();
                }
                Claim::Mine(flight) => claimed.push(flight),
            }
        }
        claimed
    }

    fn start(self: &Arc<Self>, source: &Arc<Source>, content: &Content, flights: Vec<Arc<Flight>>) {
        if !flights.is_empty() {
            self.launch_runs(source, content, flights, None, Want::Now);
        }
    }

    /// Fetches a small object on the task of the reader that waits for it: another task would be one more change of threads.
    fn carry(self: &Arc<Self>, source: &Arc<Source>, content: &Content, flight: Arc<Flight>) -> Carried {
        self.metrics.bytes_wanted.inc_by(flight.len);
        let landing = Landing { fetcher: self.clone(), flights: vec![flight] };
        let (source, content) = (source.clone(), content.clone());
        let landing = async move {
            let _ = landing.fetch(&source, &content, false).await;
        };
        Carried::new(landing, self.runtime.clone())
    }

    fn launch_runs(
        self: &Arc<Self>,
        source: &Arc<Source>,
        content: &Content,
        flights: Vec<Arc<Flight>>,
        mut memory: Option<Memory>,
        want: Want,
    ) {
        for run in runs(flights, |flight| flight.page, self.request_pages()) {
            let bytes: u64 = run.iter().map(|f| f.len).sum();
            match want {
                Want::Now => self.metrics.bytes_wanted.inc_by(bytes),
                Want::Ahead => self.metrics.bytes_ahead.inc_by(bytes),
            };
            for flight in &run {
                flight.hold(memory.as_mut().and_then(|memory| memory.split(flight.len)));
            }
            let has_memory = memory.is_some();
            let landing = Landing { fetcher: self.clone(), flights: run };
            let (source, content) = (source.clone(), content.clone());
            self.runtime.spawn(async move {
                let _ = landing.fetch(&source, &content, has_memory).await;
            });
        }
    }

    /// A page is whole: offers it to the store, and leaves it in the table until the store has it.
    fn landed(self: &Arc<Self>, source: &Source, content: &Content, flight: &Arc<Flight>, summer: BlockSummer) {
        let fill = Fill {
            id: content.id,
            size: content.size,
            group: group_of(source),
            page: flight.page,
            chunks: flight.chunks(),
            sums: summer.finish(),
        };
        self.offer(flight.clone(), fill);
    }

    /// Offers a page to the store. If its queue is full the page lingers where its next reader finds it, and is offered
    /// again when the queue has moved on.
    fn offer(self: &Arc<Self>, flight: Arc<Flight>, fill: Fill) {
        let again = fill.clone();
        let offered = Offered { fetcher: self.clone(), flight: Some(flight.clone()) };
        let done = Box::new(move |kept: Kept| offered.done(kept));
        if self.store.keep(fill, done) == Err(NotKept::QueueFull) && self.budget.is_easy() {
            self.flights.linger(flight, again);
        }
    }

    async fn take_memory(&self, flights: &[Arc<Flight>], deadline: Instant) -> Option<Memory> {
        loop {
            if let Some(memory) = self.budget.try_take(flights.iter().map(|f| f.len)) {
                return Some(memory);
            }
            if self.flights.give_up_unread() {
                // What the store has first.
            } else if let Some((flight, _)) = self.flights.take_lingering() {
                self.metrics.not_kept.inc();
                self.flights.remove(&flight);
            } else {
                return self.budget.take(flights.iter().map(|f| f.len), deadline).await;
            }
        }
    }
}

/// A page that was offered to the store. However the store lets go of it, its flight leaves the table.
struct Offered {
    fetcher: Arc<Fetcher>,
    flight: Option<Arc<Flight>>,
}

impl Offered {
    fn done(mut self, kept: Kept) {
        if kept != Kept::Yes {
            if let Some(flight) = self.flight.take_if(|flight| flight.is_ahead) {
                self.fetcher.metrics.not_kept.inc();
                self.fetcher.settled(&flight);
            }
            return;
        }
        if let Some(flight) = self.flight.take() {
            self.fetcher.settled(&flight);
        }
        if let Some((flight, fill)) = self.fetcher.flights.take_lingering() {
            self.fetcher.offer(flight, fill);
        }
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.fetcher.metrics.not_kept.inc();
            self.fetcher.flights.remove(&flight);
        }
    }
}

/// A run of flights that one request fetches. Whatever ends it, no flight is left waiting.
pub(super) struct Landing {
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) flights: Vec<Arc<Flight>>,
}

impl Landing {
    /// Fetches it. Whoever waits is told of a fault.
    pub(super) async fn fetch(
        self,
        source: &Arc<Source>,
        content: &Content,
        has_memory: bool,
    ) -> Result<(), FaultKind> {
        if let Err(mut fault) = self.try_fetch(source, content, has_memory).await {
            if fault.kind == FaultKind::NotFound {
                // It was there under this version: for whoever has it open it has changed.
                fault.kind = FaultKind::Changed;
            }
            if fault.kind == FaultKind::Changed {
                self.fetcher.read_ahead.lock().give_up(content.id);
                if let Some(path) = source.facts.path_of(&content.key) {
                    self.fetcher.catalog.forget(&source.facts, &path, content.id);
                }
            }
            self.fetcher.metrics.failed.inc();
            self.fail(&fault);
            return Err(fault.kind);
        }
        Ok(())
    }

    async fn try_fetch(&self, source: &Arc<Source>, content: &Content, has_memory: bool) -> Result<(), Fault> {
        let (Some(first), Some(last)) = (self.flights.first(), self.flights.last()) else { return Ok(()) };
        let range = ByteRange::new(first.page.start(), last.page.start() + last.len);
        let limit = self.fetcher.settings.deadline;
        if !has_memory {
            let memory = self.fetcher.take_memory(&self.flights, Instant::now() + limit).await;
            let mut memory = memory.ok_or_else(|| {
                let message = "no memory for a fetch came free in time; raise memory.budget or lower the load";
                Fault::new(FaultKind::TimedOut, message)
            })?;
            for flight in &self.flights {
                flight.hold(memory.split(flight.len));
            }
        }
        let deadline = Instant::now() + limit + Duration::from_secs(range.len() / BYTES_PER_SECOND_MIN);
        let mut stream = source.upstream.read(&content.key, &content.version, content.size, range, deadline).await?;
        let mut carry = Bytes::new();
        for flight in &self.flights {
            let mut summer = BlockSummer::default();
            let mut need = flight.len;
            while need > 0 {
                if carry.is_empty() {
                    carry = stream.next().await?.ok_or_else(|| ended_short(content))?;
                }
                let chunk = carry.split_to(carry.len().min(need as usize));
                need -= chunk.len() as u64;
                summer.update(&chunk);
                flight.push(chunk);
            }
            self.fetcher.landed(source, content, flight, summer);
        }
        Ok(())
    }

    fn fail(&self, fault: &Fault) {
        for flight in self.flights.iter().filter(|flight| !flight.is_whole()) {
            self.fetcher.flights.remove(flight);
            flight.fail(fault);
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        // Reached with flights under way only if the task panicked or was cancelled.
        self.fail(&Fault::new(FaultKind::Unavailable, "the fetch was given up; read again"));
    }
}

fn ended_short(content: &Content) -> Fault {
    Fault::new(FaultKind::Bug, format!("{}: the origin's stream ended short without an error", content.key))
}

/// Whether another attempt may succeed.
fn is_passing(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::TimedOut | FaultKind::Unavailable)
}

/// A group for each source: its quota, its pins and its end go by it.
pub(crate) fn group_of(source: &Source) -> Group {
    let object = forebay_model::ObjectId::derive(&source.facts.origin, source.facts.path.as_str());
    Group(object.as_u128() as u64)
}
