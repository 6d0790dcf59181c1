//! From a directory's log to the index: what the store knows soon after it opens.
//!
//! Reads the log only, neither files nor folders: the time goes by records, and the memory by what they leave. Whatever
//! is not as the log says is found when it is read. What was not written in this start of the machine, or stands in a
//! log that was cut, counts as unverified.
//!
//! Always true: the directory's writer does this before anything else, so nothing is written beside it. Readers see
//! small objects as they become known, and believe none of their bytes unchecked until the whole log was read; large
//! contents become known together at the end. `docs/decisions/0008-index-and-recovery.md` has the argument.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use forebay_model::{ContentId, EXTENT, ExtentIndex, SMALL_MAX};

use crate::device;
use crate::directory::Directory;
use crate::evict::FULL_REST;
use crate::eviction::Unit;
use crate::evictor::Evictor;
use crate::files::FileSlot;
use crate::index::{Index, SmallPlace};
use crate::large::{Extent, Large, pages_in};
use crate::log::{Found, Log};
use crate::options::BootId;
use crate::pack::{Pack, entry_len};
use crate::record::Record;
use crate::recovery::Recovery;
use crate::shared::Shared;

/// What a directory's writer starts from.
pub(crate) struct Recovered {
    pub(crate) log: Log,
    pub(crate) log_is_stale: bool,
    pub(crate) log_is_incomplete: bool,
    pub(crate) evictor: Evictor,
    pub(crate) next_pack: u32,
}

/// What a log has said so far.
struct Replay<'a> {
    index: &'a Index,
    directory: &'a Directory,
    /// With the number of `Boot` records before each.
    packs: HashMap<u32, (Arc<Pack>, u32)>,
    larges: HashMap<ContentId, Arc<Large>>,
    boot: Option<BootId>,
    boots: u32,
    closed: bool,
    empty: bool,
    last_pack: u32,
    last_generation: u64,
}

/// Replays the log of `directory` into the index. None: the store is closing, or the log cannot be read and the directory
/// is taken out.
pub(crate) fn recover(shared: &Shared, directory: &Directory, found: Found) -> Option<Recovered> {
    let boot = directory.boot;
    let mut replay = Replay::new(&shared.index, directory);
    let replayed = found.replay(&directory.root, |record| {
        replay.apply(record);
        if shared.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let (mut log, cut) = match replayed {
        Ok(log) => log?,
        Err(error) => {
            directory.take_out(&error);
            return None;
        }
    };
    if cut > 0 {
        tracing::warn!(directory = %directory.root.path().display(), bytes = cut, "index log was torn and is cut");
    }
    let trusted = cut == 0 && replay.boot == Some(boot);
    let mut report = Recovery {
        cut_bytes: cut,
        unclean: u64::from(!replay.closed && !replay.empty),
        unverified: u64::from(!trusted && !replay.empty),
        ..Recovery::default()
    };
    if !trusted {
        replay.forget_verified();
    }
    let mut evictor = Evictor::new(shared.eviction);
    let next_pack = replay.last_pack;
    // Before anything of this directory can be given a new name.
    shared.next_generation.fetch_max(replay.last_generation + 1, Ordering::Relaxed);
    let mut records = Vec::new();
    for gone in replay.settle(trusted, &mut evictor, &mut report) {
        log.encode(&Record::LargeGone { id: gone.id }, &mut records);
    }
    // Without the first the next start would trust what this one does not. A disk that is full is no reason not to open:
    // then nothing is appended before the log was rewritten.
    let begun = if trusted { Ok(()) } else { log.begin_boot(boot) };
    let appended = begun.as_ref().map_or(Ok(()), |()| log.append(&records));
    for error in [&begun, &appended].into_iter().filter_map(|outcome| outcome.as_ref().err()) {
        directory.rest_without_room(FULL_REST);
        tracing::warn!(directory = %directory.root.path().display(), %error, "index log cannot be written");
    }
    let (log_is_stale, log_is_incomplete) = (begun.is_err(), begun.is_err() || appended.is_err());
    for error in [begun, appended].into_iter().filter_map(Result::err) {
        if !device::is_full(&error) {
            directory.take_out(&error);
        }
    }
    end(shared, directory, &report);
    Some(Recovered { log, log_is_stale, log_is_incomplete, evictor, next_pack })
}

/// Says that a directory is known, or never will be, unless that was said before.
pub(crate) fn end(shared: &Shared, directory: &Directory, report: &Recovery) {
    if directory.end_recovery() {
        shared.recoveries.end(report);
    }
}

impl<'a> Replay<'a> {
    fn new(index: &'a Index, directory: &'a Directory) -> Self {
        Self {
            index,
            directory,
            packs: HashMap::new(),
            larges: HashMap::new(),
            boot: None,
            boots: 0,
            closed: false,
            empty: true,
            last_pack: 0,
            last_generation: 0,
        }
    }

    fn apply(&mut self, record: Record) {
        self.closed = record == Record::Closed;
        self.empty &= matches!(record, Record::Boot(_) | Record::Closed);
        match record {
            Record::Boot(boot) => {
                self.forget_verified();
                self.boot = Some(boot);
                self.boots += 1;
            }
            Record::Pack { pack, group } => self.begin_pack(pack, group),
            Record::Small { id, pack, offset, len, verified } => self.add_small(id, pack, offset, len, verified),
            Record::SmallGone { id } => {
                if let Some((pack, place)) = self.index.small(id)
                    && pack.directory == self.directory.index
                    && self.index.remove_small(id, place, &pack)
                {
                    let entry = entry_len(place.len().into());
                    pack.unit.bytes.fetch_sub(entry, Ordering::Relaxed);
                    let start = u64::from(place.offset);
                    pack.dead.lock().add(start..start + entry);
                }
            }
            Record::PackGone { pack } => {
                if let Some((pack, _)) = self.packs.remove(&pack) {
                    self.let_go(&pack);
                }
            }
            Record::Large { id, size, group, generation } => {
                self.last_generation = self.last_generation.max(generation);
                let large = Large::new((id, size, group), self.directory.index, generation, Arc::default());
                self.larges.insert(id, Arc::new(large));
            }
            Record::Pages { id, extent, resident, verified, sums } => {
                if let Some(large) = self.larges.get(&id) {
                    add_pages(self.directory, large, ExtentIndex(extent), (resident, verified), &sums);
                }
            }
            Record::ExtentGone { id, extent, generation } => {
                self.last_generation = self.last_generation.max(generation);
                if let Some(large) = self.larges.get(&id) {
                    large.take_extent(ExtentIndex(extent));
                    large.generation.store(generation, Ordering::Relaxed);
                }
            }
            Record::LargeGone { id } => {
                self.larges.remove(&id);
            }
            Record::Closed => {}
        }
    }

    fn begin_pack(&mut self, number: u32, group: u64) {
        self.last_pack = self.last_pack.max(number);
        let slot = self.index.new_slot();
        let pack = Pack::new(self.directory, slot, number, group, Arc::new(FileSlot::default()));
        self.index.insert_pack(Arc::clone(&pack));
        if let Some((older, _)) = self.packs.insert(number, (pack, self.boots)) {
            self.let_go(&older);
        }
    }

    /// A pack is gone. Somebody may have read from it meanwhile.
    fn let_go(&self, pack: &Pack) {
        pack.gone.store(true, Ordering::Release);
        self.index.remove_pack(pack);
        pack.close();
    }

    fn add_small(&mut self, id: ContentId, number: u32, offset: u32, len: u32, verified: bool) {
        let Some((pack, boots)) = self.packs.get(&number) else { return };
        if u64::from(len) > SMALL_MAX {
            return;
        }
        // In a pack begun before the last `Boot` nothing counts as verified: none is written to after a start.
        let place = SmallPlace::recorded(pack.slot, offset, len, verified && *boots == self.boots);
        let entry = entry_len(len.into());
        pack.len.fetch_max(u64::from(offset) + entry, Ordering::Relaxed);
        if self.index.insert_small(id, place, pack) {
            // What lives: what does not is a hole, or about to be one, where holes can be made.
            pack.unit.bytes.fetch_add(entry, Ordering::Relaxed);
        }
    }

    fn forget_verified(&self) {
        for large in self.larges.values() {
            for extent in large.extents.read().values() {
                extent.verified.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Brings what was found into the index, the directory's account, the policy and the report. Large contents of which
    /// nothing is left, or that another directory has, are given back: their files are unlinked.
    fn settle(self, trusted: bool, evictor: &mut Evictor, report: &mut Recovery) -> Vec<Arc<Large>> {
        let directory = self.directory;
        let mut settle = |unit: &Arc<Unit>| {
            directory.add_used(unit, unit.bytes.load(Ordering::Relaxed));
            evictor.insert(Arc::clone(unit), false);
        };
        let mut gone = Vec::new();
        for (pack, boots) in self.packs.values() {
            if trusted && *boots == self.boots {
                pack.believe();
            }
            if !directory.has_holes() {
                pack.unit.bytes.store(pack.len.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            settle(&pack.unit);
            report.contents += pack.objects.load(Ordering::Relaxed);
        }
        for large in self.larges.into_values() {
            if large.extents.read().is_empty() || self.index.insert_large(&large).is_err() {
                // One that is there is a stray from now on; the sweeper takes those that cannot be unlinked now.
                let _ = directory.root.unlink(&large.name());
                gone.push(large);
                continue;
            }
            large.extents.read().values().for_each(|extent| settle(&extent.unit));
            report.contents += 1;
            report.pages += u64::from(large.resident.load(Ordering::Relaxed));
        }
        report.bytes += directory.used.load(Ordering::Relaxed);
        self.index.sweep();
        gone
    }
}

/// Adds the pages of a record that fits its content.
fn add_pages(
    directory: &Directory,
    large: &Arc<Large>,
    extent: ExtentIndex,
    (resident, verified): (u64, u64),
    sums: &[u64],
) {
    if u64::from(extent.0) >= large.size.div_ceil(EXTENT) || resident & !large.all_pages(extent) != 0 {
        return;
    }
    let known = large.extent(extent).unwrap_or_else(|| Arc::new(Extent::new(directory, large, extent)));
    let pages = || pages_in(extent, resident);
    if pages().map(|page| known.sums(page).len()).sum::<usize>() != sums.len() {
        return;
    }
    for (place, sum) in pages().flat_map(|page| known.sums(page)).zip(sums) {
        place.store(*sum, Ordering::Relaxed);
    }
    let new = resident & !known.resident.fetch_or(resident, Ordering::Relaxed);
    known.written.fetch_or(resident, Ordering::Relaxed);
    known.verified.fetch_or(verified & resident, Ordering::Relaxed);
    large.resident.fetch_add(new.count_ones(), Ordering::Relaxed);
    known.unit.bytes.fetch_add(large.bytes_of(extent, new), Ordering::Relaxed);
    large.extents.write().insert(extent.0, known);
}
