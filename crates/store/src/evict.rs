//! Letting go: room for new data, and the one place where a hole is punched or a file unlinked.
//!
//! Always true, in this order: the pages are absent for new readers; old readers have left; the kernel has granted the
//! write lease; the log says that the extent is gone, under the file's next name; the file has that name; the hole is
//! punched. Where any step fails the file is unlinked, which takes no byte from anyone who has it open. An index that has
//! lost the record of a hole looks for the old name, and finds nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_model::{EXTENT, ExtentIndex};

use crate::device;
use crate::eviction::{Moment, Unit, UnitKey};
use crate::large::{self, Extent, Large};
use crate::lease::WriteLease;
use crate::metrics::Counters;
use crate::pack::{self, Pack};
use crate::record::Record;
use crate::writer::Writer;

/// How long a file system without room is left alone: evicting for it any faster would empty the cache for whoever else
/// fills the disk.
pub(crate) const FULL_REST: Duration = Duration::from_secs(1);

impl Writer {
    /// Makes room for `bytes`. False: there is none, and nothing may go. `protect` is about to be written.
    pub(crate) fn make_room(&mut self, bytes: u64, protect: Option<UnitKey>) -> bool {
        while self.directory.used.load(Ordering::Relaxed) + self.log.len() + bytes > self.directory.quota {
            self.directory.full.store(true, Ordering::Relaxed);
            if self.evict_one(protect).is_none() {
                return false;
            }
        }
        let wanted = self.directory.reserve + bytes;
        let Some(available) = self.available() else { return false };
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
            match self.evict_one(protect) {
                Some(bytes) => freed += bytes,
                None => break,
            }
        }
        // Files that somebody holds open give nothing back when they are unlinked.
        if self.available().is_some_and(|available| available >= wanted) {
            return true;
        }
        self.directory.rest_without_room(FULL_REST);
        false
    }

    fn available(&mut self) -> Option<u64> {
        match self.directory.root.space() {
            Ok(space) => Some(space.available),
            Err(error) => {
                self.directory.take_out(&error);
                None
            }
        }
    }

    /// Evicts the policy's choice; how many bytes it had.
    pub(crate) fn evict_one(&mut self, protect: Option<UnitKey>) -> Option<u64> {
        // What is written and not yet readable must be neither lost nor evicted half.
        self.flush();
        let now = Moment { clock: self.directory.clock(), quota: self.directory.quota };
        let (shared, open_packs) = (&self.shared, &self.open_packs);
        let may = |unit: &Unit| match unit.key {
            key if Some(key) == protect => false,
            UnitKey::Pack(slot) => open_packs.iter().all(|open| open.pack.slot != slot),
            UnitKey::Extent(id, _) => {
                shared.index.large(id).is_none_or(|large| large.handouts.load(Ordering::Acquire) == 0)
            }
        };
        let victim = self.policy.victim(now, &may)?;
        let bytes = victim.bytes.load(Ordering::Relaxed);
        match victim.key {
            UnitKey::Pack(slot) => match self.shared.index.pack(slot) {
                Some(pack) => self.drop_pack(&pack),
                // Out of the index already, its order still waits: what is left is the file.
                None => self.policy.remove(victim.key),
            },
            UnitKey::Extent(id, extent) => match self.shared.index.large(id) {
                Some(large) if large.extent(ExtentIndex(extent)).is_some() => {
                    self.evict_extent(&large, ExtentIndex(extent));
                }
                _ => self.policy.remove(victim.key),
            },
        }
        self.flush();
        Counters::add(&self.shared.counters.bytes_evicted, bytes);
        Some(bytes)
    }

    /// Unlinks a pack. Its readers read on; its descriptor is in this process only, and closes with the last of them.
    pub(crate) fn drop_pack(&mut self, pack: &Arc<Pack>) {
        self.flush();
        self.shared.index.remove_pack(pack);
        if pack.gone.swap(true, Ordering::AcqRel) {
            return;
        }
        self.open_packs.retain(|open| open.pack.slot != pack.slot);
        self.policy.remove(pack.unit.key);
        self.directory.sub_used(pack.unit.bytes.load(Ordering::Relaxed));
        pack.file.close();
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
            extent.resident.store(0, Ordering::Release);
            self.account_gone(extent);
        }
        large.resident.store(0, Ordering::Release);
        large.file.close();
        self.unlink(&large.name());
        self.record(&Record::LargeGone { id: large.id });
    }

    /// Lets an extent go. The batch is flushed.
    pub(crate) fn evict_extent(&mut self, large: &Arc<Large>, extent: ExtentIndex) {
        let Some(taken) = large.take_extent(extent) else { return };
        self.account_gone(&taken);
        if large.extents.read().is_empty() || !self.punch(large, extent) {
            self.drop_large(large);
        }
    }

    fn account_gone(&mut self, extent: &Extent) {
        self.policy.remove(extent.unit.key);
        self.directory.sub_used(extent.unit.bytes.load(Ordering::Relaxed));
    }

    /// Punches the hole of an extent that nobody in this process reads. False: the file is to be unlinked.
    fn punch(&mut self, large: &Arc<Large>, extent: ExtentIndex) -> bool {
        let directory = Arc::clone(&self.directory);
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
