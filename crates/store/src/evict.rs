//! Letting go: room for new data, and the one place where files are unlinked and holes punched into large ones.
//!
//! Always true, in this order: the pages are absent for new readers; old readers have left; the kernel has granted the
//! write lease; the log says that the extent is gone, under the file's next name; the file has that name; the hole is
//! punched. Where any step fails the file is unlinked, which takes no byte from anyone who has it open. An index that has
//! lost the record of a hole looks for the old name, and finds nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forebay_model::{EXTENT, ExtentIndex};

use crate::device;
use crate::error::NotKept;
use crate::eviction::{Owner, Unit};
use crate::evictor::Victim;
use crate::large::{self, Extent, Large};
use crate::lease::WriteLease;
use crate::metrics::Counters;
use crate::pack::{self, Pack};
use crate::record::Record;
use crate::victim::{Among, Newcomer};
use crate::writer::Writer;

/// How long a file system without room is left alone: evicting for it any faster would empty the cache for whoever else
/// fills the disk.
pub(crate) const FULL_REST: Duration = Duration::from_secs(1);

/// Victims of which nothing came that are tried for one that frees something.
const MAX_FRUITLESS: usize = 64;
/// The room on the file system is asked for again after so many bytes written,
const SPACE_BYTES: u64 = 16 << 20;
/// or so much time.
const SPACE_TIME: Duration = Duration::from_millis(100);

/// Room on the file system at one moment.
#[derive(Debug)]
pub(crate) struct KnownSpace {
    available: u64,
    /// Bytes written since.
    pub(crate) written: u64,
    at: Instant,
}

impl Writer {
    /// Makes room for `bytes`, within the quota of the newcomer's group and within the directory's.
    pub(crate) fn make_room(&mut self, bytes: u64, newcomer: Newcomer<'_>) -> Result<(), NotKept> {
        self.make_room_in_group(bytes, newcomer)?;
        while self.directory.used.load(Ordering::Relaxed) + self.log.len() + bytes > self.directory.quota {
            self.directory.full.store(true, Ordering::Relaxed);
            self.evict_one(Among::All(Some(newcomer)))?;
        }
        if self.has_space(bytes, newcomer) { Ok(()) } else { Err(NotKept::Full) }
    }

    /// Whether the file system has room for `bytes` above the reserve, if need be after something was evicted.
    fn has_space(&mut self, bytes: u64, newcomer: Newcomer<'_>) -> bool {
        let wanted = self.directory.reserve + bytes;
        let Some(mut available) = self.available() else { return false };
        if available < wanted {
            self.space = None;
            match self.available() {
                Some(now) => available = now,
                None => return false,
            }
        }
        if available >= wanted {
            if self.directory.used.load(Ordering::Relaxed) < self.directory.quota / 2 {
                self.directory.full.store(false, Ordering::Relaxed);
            }
            return true;
        }
        if self.directory.is_without_room() {
            return false;
        }
        self.directory.full.store(true, Ordering::Relaxed);
        let mut freed = 0;
        while freed < wanted - available {
            match self.evict_one(Among::All(Some(newcomer))) {
                Ok(bytes) => freed += bytes,
                Err(_) => break,
            }
        }
        // Files that somebody holds open give nothing back when they are unlinked.
        self.space = None;
        if self.available().is_some_and(|available| available >= wanted) {
            return true;
        }
        self.directory.rest_without_room(FULL_REST);
        false
    }

    /// Room on the file system, as it was a moment ago, less what was written since.
    pub(crate) fn available(&mut self) -> Option<u64> {
        if let Some(space) = &self.space
            && space.written < SPACE_BYTES
            && space.at.elapsed() < SPACE_TIME
        {
            return Some(space.available.saturating_sub(space.written));
        }
        match self.directory.root.space() {
            Ok(space) => {
                self.space = Some(KnownSpace { available: space.available, written: 0, at: Instant::now() });
                let spare = space.available.saturating_sub(self.directory.reserve);
                self.directory.spare.store(spare, Ordering::Relaxed);
                Some(space.available)
            }
            Err(error) => {
                self.directory.take_out(&error);
                None
            }
        }
    }

    /// Evicts one of those; how many bytes were freed.
    ///
    /// # Errors
    /// Nothing may go, or nothing should for this newcomer.
    pub(crate) fn evict_one(&mut self, among: Among<'_>) -> Result<u64, NotKept> {
        // What is written and not yet readable must be neither lost nor evicted half.
        self.flush();
        for _ in 0..MAX_FRUITLESS {
            let before = self.directory.used.load(Ordering::Relaxed);
            let victim = self.victim(among)?.ok_or_else(|| self.why_full())?;
            match &victim {
                Victim::Small(id, place, pack) => self.evict_small(*id, *place, pack),
                Victim::PackButSoonest(pack, newcomer) => self.evict_pack_by_plan(pack, *newcomer),
                Victim::Unit(unit) => self.evict_unit(unit, among)?,
            }
            self.flush();
            self.punch_holes();
            let freed = before.saturating_sub(self.directory.used.load(Ordering::Relaxed));
            if freed > 0 {
                Counters::add(&self.shared.counters.bytes_evicted, freed);
                return Ok(freed);
            }
            // Whatever it was, it must not be chosen for ever. The others are out of the index.
            if let Victim::Unit(unit) = &victim {
                self.evictor.remove(unit);
            }
        }
        Err(self.why_full())
    }

    fn evict_pack_by_plan(&mut self, pack: &Arc<Pack>, newcomer: u64) {
        let plan = self.shared.plan.read().clone();
        if let Some(plan) = plan {
            self.rewrite_soonest(pack, &*plan, newcomer);
        }
        self.drop_pack(pack);
    }

    fn evict_unit(&mut self, unit: &Arc<Unit>, among: Among<'_>) -> Result<(), NotKept> {
        match &unit.owner {
            Owner::Pack(pack) => {
                if let Some(pack) = pack.upgrade() {
                    // Neither room for the store's own needs is refused, nor for what has a higher priority.
                    let may_refuse =
                        among.newcomer().is_some_and(|newcomer| newcomer.group.priority() <= unit.group.priority());
                    if self.evictor.spares_hot() && !self.rewrite_hot(&pack) && may_refuse {
                        return Err(NotKept::Outranked);
                    }
                    self.drop_pack(&pack);
                }
            }
            Owner::Extent(large, extent) => {
                if let Some(large) = large.upgrade()
                    && large.extent(*extent).is_some_and(|known| Arc::ptr_eq(&known.unit, unit))
                {
                    self.evict_extent(&large, *extent);
                }
            }
        }
        Ok(())
    }

    /// Unlinks a pack. Its readers read on; its descriptor is in this process only, and closes with the last of them.
    pub(crate) fn drop_pack(&mut self, pack: &Arc<Pack>) {
        self.flush();
        debug_assert_eq!(pack.directory, self.directory.index, "a writer changes its own directory");
        self.shared.index.remove_pack(pack);
        if pack.gone.swap(true, Ordering::AcqRel) {
            return;
        }
        self.open_packs.retain(|open| open.pack.slot != pack.slot);
        self.evictor.remove(&pack.unit);
        self.directory.sub_used(&pack.unit);
        pack.close();
        self.unlink(&pack::name(pack.number));
        self.record(&Record::PackGone { pack: pack.number });
    }

    /// Unlinks a large content. Whoever has it open reads on.
    pub(crate) fn drop_large(&mut self, large: &Arc<Large>) {
        self.flush();
        self.shared.index.remove_large(large);
        if large.gone.swap(true, Ordering::AcqRel) {
            return;
        }
        let extents = std::mem::take(&mut *large.extents.write());
        for extent in extents.values() {
            large.pages.withdraw_all(&extent.residency);
            self.account_gone(extent);
        }
        large.close();
        self.unlink(&large.name());
        // The record names the content by its id: another file of it here, made meanwhile, is not gone, and its own record
        // has taken this one's place in the log.
        if self.shared.index.large(large.id).is_none_or(|newer| newer.directory != self.directory.index) {
            self.record(&Record::LargeGone { id: large.id });
        }
    }

    /// Lets an extent go. The batch is flushed.
    pub(crate) fn evict_extent(&mut self, large: &Arc<Large>, extent: ExtentIndex) {
        // Before the file is changed.
        let _ = self.directory.prove_large(large);
        let Some(taken) = large.take_extent(extent) else { return };
        self.account_gone(&taken);
        // One that is out of the index is let go as a whole: what the log says of its id may be about another.
        let is_known = self.shared.index.large(large.id).is_some_and(|known| Arc::ptr_eq(&known, large));
        if !is_known || large.extents.read().is_empty() || !self.punch(large, extent) {
            self.drop_large(large);
        }
    }

    fn account_gone(&mut self, extent: &Extent) {
        self.evictor.remove(&extent.unit);
        self.directory.sub_used(&extent.unit);
    }

    /// Punches the hole of an extent that nobody in this process reads. False: the file is to be unlinked.
    fn punch(&mut self, large: &Arc<Large>, extent: ExtentIndex) -> bool {
        if !self.directory.may_punch {
            return false;
        }
        let directory = Arc::clone(&self.directory);
        let _barred = large.bar_direct();
        let Ok(file) = large.open(&directory.root, &self.shared.files) else { return false };
        let Some(_lease) = WriteLease::take(&file) else {
            Counters::add(&self.shared.counters.leases_refused, 1);
            return false;
        };
        let generation = self.shared.next_generation.fetch_add(1, Ordering::Relaxed);
        self.record(&Record::ExtentGone { id: large.id, extent: extent.0, generation });
        if !self.flush() {
            return false;
        }
        // `file` is held: no reader opens by name meanwhile.
        if directory.root.rename(&large.name(), &large::name(large.id, generation)).is_err() {
            return false;
        }
        large.generation.store(generation, Ordering::Release);
        let punched = device::punch(&file, extent.start(), EXTENT).is_ok();
        Counters::add(&self.shared.counters.holes_punched, u64::from(punched));
        punched
    }

    fn unlink(&mut self, name: &str) {
        match self.directory.root.unlink(name) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.directory.take_out(&error),
        }
    }
}
