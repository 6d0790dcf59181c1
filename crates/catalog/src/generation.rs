//! One listing of a directory, whole or on its way: its blocks, and what was seen of its names since.
//!
//! Always true: of a name in a range that is not covered it says nothing; an entry is unpacked, and its content id derived,
//! when it is asked for.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use forebay_model::{Entry, NsPath};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::block::{Block, Body, key};
use crate::coverage::Coverage;
use crate::directory::{Observed, SourceFacts};
use crate::disk::{Chunk, Disk};
use crate::order;
use crate::overlay::{Overlay, What};
use crate::record::{PathKey, Record, newer_key, path_key};

/// Names of one whole listing that were seen anew since it was made, at most. Beyond it the listing is dropped.
pub(crate) const NEWER_MAX: usize = 1_000;
/// Names of one directory that are seen while a listing of it is on its way, at most: some 10 MiB. Beyond it the listing is
/// not held.
pub(crate) const SEEN_MAX: usize = 65_536;
/// What is kept of when a listing was last used is so old at most.
const USED_STEP: u64 = 600 * 1_000_000_000;

/// A listing of a directory.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) id: u64,
    pub(crate) source: Arc<SourceFacts>,
    source_text: Arc<str>,
    pub(crate) path: NsPath,
    /// The directory's prefix of keys: empty, or ending in `/`.
    pub(crate) prefix: Arc<str>,
    pub(crate) directory: PathKey,
    pub(crate) disk: Arc<Disk>,
    pub(crate) at: u64,
    pub(crate) when: u64,
    is_told: AtomicBool,
    is_run: bool,
    flags: Arc<Flags>,
    /// Somebody is listing it.
    is_running: AtomicBool,
    /// That it is whole stands in the database.
    is_committed: AtomicBool,
    /// The catalog's time when it last went on.
    last: AtomicU64,
    pub(crate) is_marked: AtomicBool,
    pub(crate) names: AtomicU64,
    pub(crate) hidden: AtomicU64,
    used: AtomicU64,
    /// The batch of the database's writer with the last that was seen of its names.
    overlaid: AtomicU64,
    pub(crate) overlay: Mutex<Overlay>,
    /// Blocks that are not in the database yet, by the places that they begin after.
    pending: RwLock<BTreeMap<Box<str>, Arc<[u8]>>>,
    /// What is covered, and what of that is in the database.
    coverage: Mutex<Coverage>,
    written: Mutex<Coverage>,
    pub(crate) progress: Notify,
}

/// What the database's writer has to know of a listing that somebody holds.
#[derive(Debug)]
pub(crate) struct Flags {
    pub(crate) is_whole: AtomicBool,
    /// It is not to be used: its blocks are gone, or going.
    pub(crate) is_lost: AtomicBool,
}

/// What a listing says of one place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Says {
    /// An entry, as it was at that time of the catalog's.
    Entry(Observed, u64),
    /// Nothing is there, at that time.
    Absent(u64),
    /// There was neither an object of the name nor, at another time, a directory: it may have been the other each time.
    Unclear,
    /// It does not say.
    Nothing,
}

impl Generation {
    /// A listing on its way that was asked for after so many observations, at that time.
    pub(crate) fn new(
        disk: &Arc<Disk>,
        source: &Arc<SourceFacts>,
        path: &NsPath,
        record: &Record,
        id: u64,
    ) -> Arc<Self> {
        let flags = Arc::new(Flags { is_whole: AtomicBool::new(record.is_whole), is_lost: AtomicBool::new(false) });
        disk.hold(id, flags.clone());
        Arc::new(Self {
            id,
            source_text: source.path.as_str().into(),
            prefix: prefix_of(source, path).into(),
            directory: path_key(source, path),
            source: source.clone(),
            path: path.clone(),
            disk: disk.clone(),
            flags,
            at: record.at,
            when: record.when,
            is_told: AtomicBool::new(record.is_told),
            is_run: record.is_run,
            is_running: AtomicBool::new(false),
            is_committed: AtomicBool::new(record.is_whole),
            last: AtomicU64::new(record.last),
            is_marked: AtomicBool::new(record.is_marked),
            names: AtomicU64::new(record.names),
            hidden: AtomicU64::new(record.hidden),
            used: AtomicU64::new(record.used),
            overlaid: AtomicU64::new(0),
            overlay: Mutex::default(),
            pending: RwLock::default(),
            coverage: Mutex::new(record.coverage.clone()),
            written: Mutex::new(record.coverage.clone()),
            progress: Notify::new(),
        })
    }

    /// The listing of `record` in the database, with what was seen of its names since.
    pub(crate) fn load(
        disk: &Arc<Disk>,
        source: &Arc<SourceFacts>,
        path: &NsPath,
        record: &Record,
        id: u64,
    ) -> Arc<Self> {
        let generation = Self::new(disk, source, path, record, id);
        let prefix = newer_key(id, "");
        let mut overlay = Overlay::default();
        let scanned = disk.read(|reading| {
            reading.scan(&prefix, |key, value| {
                let name = std::str::from_utf8(&key[prefix.len()..]).ok();
                let seen = crate::disk::Seen::read(key, value);
                if let (Some(name), Some(seen)) = (name, seen) {
                    return overlay.put(name, seen.at, &seen.what, SEEN_MAX);
                }
                false
            })
        });
        if scanned.is_none() || overlay.has_overflowed() {
            generation.lose();
        }
        *generation.overlay.lock() = overlay;
        generation
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.flags.is_whole.load(Ordering::Acquire)
    }

    pub(crate) fn set_whole(&self) {
        self.flags.is_whole.store(true, Ordering::Release);
        self.progress.notify_waiters();
    }

    pub(crate) fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Relaxed)
    }

    pub(crate) fn set_told(&self) {
        self.is_told.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Acquire)
    }

    /// Somebody goes on with it, or has stopped.
    pub(crate) fn set_running(&self, is_running: bool) {
        self.is_running.store(is_running, Ordering::Release);
        self.last.store(self.disk.clock.at(Instant::now()), Ordering::Relaxed);
        self.progress.notify_waiters();
    }

    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    pub(crate) fn is_committed(&self) -> bool {
        self.is_committed.load(Ordering::Acquire)
    }

    pub(crate) fn set_committed(&self) {
        self.is_committed.store(true, Ordering::Release);
    }

    /// The batch with the last that was seen of its names.
    pub(crate) fn overlaid(&self) -> u64 {
        self.overlaid.load(Ordering::Acquire)
    }

    pub(crate) fn set_overlaid(&self, ticket: u64) {
        self.overlaid.fetch_max(ticket, Ordering::AcqRel);
    }

    /// Blocks of it could not be kept: it can neither become whole nor be used.
    pub(crate) fn lose(&self) {
        self.flags.is_lost.store(true, Ordering::Release);
        self.pending.write().clear();
        self.progress.notify_waiters();
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.flags.is_lost.load(Ordering::Acquire)
    }

    /// Bytes of memory that it takes, about.
    pub(crate) fn weight(&self) -> u64 {
        let ranges = self.coverage.lock().weight() * 2;
        (size_of::<Self>() + self.path.as_str().len() + self.prefix.len() + self.overlay.lock().len() * 256 + ranges)
            as u64
    }

    /// Takes blocks with `names` names that cover the places after `after`, up to and with `to`. They can be read at once.
    pub(crate) fn put(self: &Arc<Self>, after: &str, to: Option<&str>, names: u64, blocks: Vec<(Box<str>, Box<[u8]>)>) {
        let blocks: Vec<(Box<str>, Arc<[u8]>)> =
            blocks.into_iter().map(|(after, block)| (after, block.into())).collect();
        self.pending.write().extend(blocks.iter().cloned());
        self.coverage.lock().add(after, to, names);
        let (after, to) = (after.into(), to.map(Into::into));
        self.disk.put_chunk(Chunk { generation: self.clone(), after, to, names, blocks });
        self.progress.notify_waiters();
    }

    /// The blocks of `chunk` are in the database.
    pub(crate) fn is_written(&self, chunk: &Chunk) {
        self.written.lock().add(&chunk.after, chunk.to.as_deref(), chunk.names);
        let mut pending = self.pending.write();
        for (after, block) in &chunk.blocks {
            if pending.get(after).is_some_and(|known| Arc::ptr_eq(known, block)) {
                pending.remove(after);
            }
        }
    }

    pub(crate) fn coverage(&self) -> Coverage {
        self.coverage.lock().clone()
    }

    pub(crate) fn written_coverage(&self) -> Coverage {
        self.written.lock().clone()
    }

    /// What the database is to say of it while it covers that.
    pub(crate) fn record(&self, coverage: Coverage) -> Record {
        let now = self.disk.clock.at(Instant::now());
        Record {
            path: self.path.as_str().to_owned(),
            at: self.at,
            when: self.when,
            last: now,
            used: self.used.load(Ordering::Relaxed).max(self.when),
            is_told: self.is_told(),
            is_whole: false,
            is_run: self.is_run,
            is_marked: self.is_marked.load(Ordering::Relaxed),
            names: self.names.load(Ordering::Relaxed),
            hidden: self.hidden.load(Ordering::Relaxed),
            coverage,
        }
    }

    /// What the database is to say of it when it is whole.
    pub(crate) fn whole_record(&self) -> Record {
        Record { is_whole: true, ..self.record(self.coverage()) }
    }

    /// It is used: whether the database should know.
    pub(crate) fn touch(&self, now: u64) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        let is_due = now > used.saturating_add(USED_STEP);
        is_due && self.used.compare_exchange(used, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Calls `look` with the block that tells of the places right after `place` (or of `place` itself, if `is_of`) and where
    /// it begins. None: there is none.
    pub(crate) fn with_block<R>(&self, place: &str, is_of: bool, look: impl Fn(&str, &Block<'_>) -> R) -> Option<R> {
        if self.is_lost() {
            return None;
        }
        let place = order::clamp(place);
        let reaches =
            |block: &Block<'_>| if is_of { block.reaches(place) } else { block.to.is_none_or(|to| to > place) };
        {
            let pending = self.pending.read();
            if !pending.is_empty() {
                let until = if is_of { Bound::Excluded(place) } else { Bound::Included(place) };
                if let Some((after, value)) = pending.range::<str, _>((Bound::Unbounded, until)).next_back()
                    && let Some(block) = Block::read(&key(self.id, after), value)
                    && reaches(&block)
                {
                    return Some(look(after, &block));
                }
            }
        }
        self.disk.read(|reading| {
            let found = reading.block(self.id, place, is_of)?;
            Ok(found.filter(|(_, block)| reaches(block)).map(|(after, block)| look(after, &block)))
        })?
    }

    /// What the blocks say of `place`.
    pub(crate) fn at_place(&self, place: &str) -> Says {
        let looked = self.with_block(place, true, |_, block| match block.find(place).map(Body::observed) {
            Some(Some(seen)) => Says::Entry(seen, block.when),
            Some(None) => Says::Nothing,
            None => Says::Absent(block.when),
        });
        looked.unwrap_or(Says::Nothing)
    }

    /// What the blocks say of `name`: a directory hides an object of its name.
    pub(crate) fn listed(&self, name: &str) -> Says {
        let directory = order::of_directory(name);
        // Both stand in one block as a rule.
        let both = self.with_block(name, true, |_, block| {
            let object = block.find(name).map(Body::observed);
            let prefix = block.reaches(&directory).then(|| block.find(&directory).is_some());
            (object, prefix, block.when)
        });
        let Some((object, prefix, when)) = both else { return Says::Nothing };
        let (prefix, prefix_when) = match prefix {
            Some(is_there) => (is_there, when),
            None => match self.at_place(&directory) {
                Says::Entry(_, when) => (true, when),
                Says::Absent(when) => (false, when),
                Says::Nothing | Says::Unclear => return Says::Nothing,
            },
        };
        match object {
            _ if prefix => Says::Entry(Observed::Directory, prefix_when),
            Some(Some(seen)) => Says::Entry(seen, when),
            Some(None) => Says::Nothing,
            None if prefix_when != when => Says::Unclear,
            None => Says::Absent(when),
        }
    }

    /// Whether `what` says something else of `name` than the blocks.
    pub(crate) fn differs(&self, name: &str, what: &What) -> bool {
        match (self.listed(name), what) {
            (Says::Entry(listed, _), What::Seen(seen)) => listed != *seen,
            (Says::Absent(_), What::Seen(Observed::Absent)) => false,
            _ => true,
        }
    }

    /// The entry of `name` that was seen so. None for absence.
    pub(crate) fn entry(&self, name: &str, seen: Observed) -> Option<Entry> {
        match seen {
            Observed::Absent => None,
            Observed::Directory => Some(self.source.directory()),
            Observed::File(file) => {
                let mut key = String::with_capacity(self.prefix.len() + name.len());
                key.push_str(&self.prefix);
                key.push_str(name);
                Some(self.source.file(&self.source_text, key.into(), file))
            }
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.disk.let_go(self.id, &self.flags);
    }
}

/// The prefix of the keys of a directory: empty, or ending in `/`.
fn prefix_of(source: &SourceFacts, path: &NsPath) -> String {
    let key = source.key(path).unwrap_or_default();
    if key.is_empty() || key.ends_with('/') { key } else { format!("{key}/") }
}
