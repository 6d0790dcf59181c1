//! A store's directory, looked at without opening the store: what the next start would know of it, what would be dropped,
//! and why.
//!
//! Always true: nothing is created, written, renamed or removed, and no lock is held but for the moment of asking whether a
//! store holds it. What is known is what recovery would know, for both go by `replay`; what counts as a stray is what the
//! sweeper would take. Memory goes by the index, as in a store, and a batch of entries; findings are handed out as they
//! come.
//!
//! Not here: repairing. A store does that by itself when it opens, by dropping what is not whole.

mod check;
mod entries;
mod report;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::device::{self, Root};
use crate::directory::{self, Holder, LOCK};
use crate::error::StoreError;
use crate::eviction::{Owner, Unit};
use crate::group::{Group, Groups};
use crate::index::Index;
use crate::large::{Extent, LARGE, Large};
use crate::log::{self, LOG, Looked, VERSION};
use crate::options::BootId;
use crate::pack::{self, PACKS, Pack, entry_len};
use crate::record::Flaw as RecordFlaw;
use crate::replay::Replay;

pub use check::Level;
pub use report::{Content, Event, Fate, Finding, Flaw, Kind, LogReport, Lost, PackReport, Summary};

/// The only directory of its index.
const DIRECTORY: usize = 0;

/// Whoever gets reports says whether it goes on.
type Flow = ControlFlow<()>;

/// A directory that is looked at. Of what a process changes in it meanwhile, some is seen and some is not.
pub struct Offline {
    root: Root,
    index: Index,
    /// In the order of their numbers.
    packs: Vec<Shelved>,
    /// In the order of their ids.
    larges: Vec<Arc<Large>>,
    log: LogReport,
    in_use_by: Option<String>,
}

/// A pack with the bytes of the entries that the index knows in it.
struct Shelved {
    pack: Arc<Pack>,
    live: u64,
}

/// What units are made for here: nothing is evicted.
#[derive(Default)]
struct Shelf(Groups);

impl Holder for Shelf {
    fn number(&self) -> usize {
        DIRECTORY
    }

    fn new_unit(&self, owner: Owner, group: u64) -> Arc<Unit> {
        Unit::new(owner, 0, self.0.get(group))
    }
}

impl fmt::Debug for Offline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offline").field("root", &self.root).field("log", &self.log).finish_non_exhaustive()
    }
}

impl Offline {
    /// Reads the log of `directory`, as a store would that opens now. `boot` names this start of the machine; none: as the
    /// kernel says it.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`], [`StoreError::Newer`], or whatever keeps the log from being read.
    pub fn open(directory: &Path, boot: Option<BootId>) -> Result<Self, StoreError> {
        let fail = |error| StoreError::Directory { directory: directory.to_owned(), error };
        let no_store = |found| StoreError::NotAStore { directory: directory.to_owned(), found };
        let root = Root::look(directory).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => no_store("it does not exist"),
            io::ErrorKind::NotADirectory => no_store("it is a file"),
            _ => fail(error),
        })?;
        let boot = boot.map_or_else(BootId::of_kernel, Ok).map_err(StoreError::System)?;
        let (dev, ino) = root.place().map_err(fail)?;
        let in_use_by = in_use_by(&root).map_err(fail)?;
        let has_folders = root.has_folder(PACKS) && root.has_folder(LARGE);
        let (index, shelf) = (Index::new(), Shelf::default());
        let mut replay = Replay::new(&index, &shelf);
        let mut report = LogReport::default();
        match log::look(&root, root.open_to_read(LOG)).map_err(fail)? {
            Looked::Newer(version) => return Err(StoreError::Newer { directory: directory.to_owned(), version }),
            Looked::Nothing if !has_folders => return Err(no_store("it holds no `index.log`")),
            Looked::Useless(_) if !has_folders => return Err(no_store("its `index.log` is no index log")),
            Looked::Nothing => report.cut = Some(Finding::of_log(0, 0, Flaw::Missing)),
            Looked::Useless(bytes) => {
                report.bytes = bytes;
                report.cut = Some(Finding::of_log(0, bytes, Flaw::LogHeader));
            }
            Looked::Sound(file, salt, size) => {
                let ended = log::replay(&root, &file, salt, size, |record| {
                    report.records += 1;
                    replay.apply(record);
                    ControlFlow::Continue(())
                });
                // It is broken off by nobody.
                let end = ended.map_err(fail)?.unwrap_or(log::End { at: size, flaw: None });
                (report.format, report.bytes) = (Some(VERSION), size);
                report.cut = (end.at < size).then(|| Finding::of_log(end.at, size - end.at, flaw_of(end.flaw)));
            }
        }
        report.is_closed = replay.closed && report.cut.is_none();
        report.boot = replay.boot.filter(|mark| *mark != BootId::NONE).map(|mark| mark.at(dev, ino));
        let found = replay.end(report.cut.is_some(), boot.at(dev, ino));
        report.is_believed = found.trusted;
        let mut larges = found.larges;
        larges.sort_unstable_by_key(|large| large.id);
        // As a store does when it first reads them.
        let log_written_ns = root.written_ns(LOG).unwrap_or(0);
        found.packs.iter().for_each(|pack| _ = pack.prove(&root, log_written_ns));
        larges.iter().for_each(|large| _ = large.prove(&root, log_written_ns));
        let packs = shelve(&index, found.packs);
        Ok(Self { root, index, packs, larges, log: report, in_use_by })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Its log.
    pub fn log(&self) -> &LogReport {
        &self.log
    }

    /// The process that has it open in a store, as it wrote itself down: what is found may be on the move.
    pub fn in_use_by(&self) -> Option<&str> {
        self.in_use_by.as_deref()
    }

    /// Packs and files of large contents that the log knows.
    pub fn files(&self) -> u64 {
        (self.packs.len() + self.larges.len()) as u64
    }

    /// Bytes that [`Level::Data`] reads.
    pub fn bytes_to_read(&self) -> u64 {
        self.packs.iter().map(|shelved| shelved.live).chain(self.larges.iter().map(|large| bytes_of(large))).sum()
    }

    /// Calls `each` with what the next start would know: small objects in the order in which they lie, then large
    /// contents in the order of their ids.
    pub fn contents(&self, each: &mut dyn FnMut(&Content) -> ControlFlow<()>) -> ControlFlow<()> {
        self.for_each_pack(&mut |shelved, entries| {
            let file = pack::name(shelved.pack.number);
            entries.iter().try_for_each(|entry| {
                let place = entry.place.in_pack(&shelved.pack);
                let size = u64::from(place.len());
                each(&Content {
                    id: entry.id,
                    kind: Kind::Small,
                    size,
                    bytes_resident: size,
                    pages: 1,
                    extents: 0,
                    group: Group(shelved.pack.group),
                    is_verified: place.is_verified(),
                    file: file.clone(),
                })
            })
        })?;
        self.larges.iter().try_for_each(|large| each(&content_of(large)))
    }
}

/// The process that holds the lock.
fn in_use_by(root: &Root) -> io::Result<Option<String>> {
    match root.open_to_read(LOCK) {
        Ok(lock) => Ok(device::is_locked(&lock)?.then(|| directory::locked_by(&lock))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why a log is cut.
fn flaw_of(flaw: Option<RecordFlaw>) -> Flaw {
    match flaw {
        None => Flaw::Torn,
        Some(RecordFlaw::Length) => Flaw::RecordLength,
        Some(RecordFlaw::Checksum) => Flaw::RecordChecksum,
        Some(RecordFlaw::Kind) => Flaw::RecordKind,
    }
}

/// The packs in order, with what is known in each.
fn shelve(index: &Index, packs: Vec<Arc<Pack>>) -> Vec<Shelved> {
    let slots = packs.iter().map(|pack| pack.slot + 1).max().unwrap_or(0);
    let mut live = vec![0; slots as usize];
    let Ok(()) = index.for_each_small(|_, place| {
        // Entries of packs that are gone have slots too.
        if let Some(live) = live.get_mut(place.pack as usize) {
            *live += entry_len(place.len().into());
        }
        Ok::<(), Infallible>(())
    });
    let shelved = packs.into_iter().map(|pack| Shelved { live: live[pack.slot as usize], pack });
    let mut shelved: Vec<_> = shelved.collect();
    shelved.sort_unstable_by_key(|shelved| shelved.pack.number);
    shelved
}

/// Bytes of the pages that are resident.
fn bytes_of(large: &Large) -> u64 {
    large.extents.read().values().map(|extent| extent.unit.bytes.load(Ordering::Relaxed)).sum()
}

fn content_of(large: &Large) -> Content {
    let extents = large.extents.read();
    let is_verified = |extent: &Extent| extent.residency.verified() == extent.residency.resident();
    Content {
        id: large.id,
        kind: Kind::Large,
        size: large.size,
        bytes_resident: extents.values().map(|extent| extent.unit.bytes.load(Ordering::Relaxed)).sum(),
        pages: large.pages.resident(),
        extents: extents.len() as u32,
        group: Group(large.group),
        is_verified: extents.values().all(|extent| is_verified(extent)),
        file: large.name(),
    }
}
