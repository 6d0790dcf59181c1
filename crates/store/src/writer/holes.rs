//! The room of small objects that are gone, given back by punching holes into their packs.
//!
//! Always true, in this order: the object is out of the index; the log says so; nobody reads what lay there, for the uses of
//! its pack that there were then have ended; the hole is punched. A pack's descriptor never leaves the process, so nobody
//! else can see the hole, and no kernel lease is needed. A log that has lost the record has lost that the object was
//! verified too: its entry fails its checksum.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::{mem, ops};

use forebay_model::ContentId;

use super::Writer;
use crate::device;
use crate::index::{PackUse, SmallPlace};
use crate::metrics::Counters;
use crate::pack::{Pack, entry_len, is_worth_rewriting};
use crate::record::Record;

/// Holes that wait for readers. More are not made: their room comes back when their packs go.
const MAX_WAITING: usize = 1024;

/// Holes that are to be punched.
#[derive(Debug, Default)]
pub(crate) struct Holes {
    new: Vec<(Arc<Pack>, ops::Range<u64>)>,
    /// With the uses of the pack that have to end first.
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    pack: Arc<Pack>,
    holes: Vec<ops::Range<u64>>,
    uses: Vec<PackUse>,
}

impl Holes {
    /// Whether more holes can wait.
    pub(crate) fn have_place(&self) -> bool {
        self.new.len() + self.waiting.len() < MAX_WAITING
    }

    /// Nothing is of interest any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Writer {
    /// Lets a small object go out of its pack. If little is left of that, it is written again.
    pub(crate) fn evict_small(&mut self, id: ContentId, place: SmallPlace, pack: &Arc<Pack>) {
        self.flush();
        debug_assert_eq!(pack.directory, self.directory.index, "a writer changes its own directory");
        if !self.shared.index.remove_small(id, place, pack) {
            return;
        }
        self.record(&Record::SmallGone { id });
        self.free_entry(pack, place);
        self.rewrite_rest(pack);
    }

    /// An object is out of the index, and a record says so: its room is given back.
    pub(super) fn free_entry(&mut self, pack: &Arc<Pack>, place: SmallPlace) {
        // Before the file is changed.
        let _ = self.directory.prove_pack(pack);
        let start = u64::from(place.offset);
        self.free_range(pack, start..start + entry_len(place.len().into()));
    }

    /// Gives back the room of what nobody asks for any more, as far as whole blocks are free with it.
    pub(super) fn free_range(&mut self, pack: &Arc<Pack>, range: ops::Range<u64>) {
        let hole = pack.dead.lock().add(range);
        if hole.is_empty() || !self.directory.has_holes() || !self.holes.have_place() {
            return;
        }
        let freed = hole.end - hole.start;
        self.directory.sub_bytes(&pack.unit, freed.min(pack.unit.bytes.load(Ordering::Relaxed)));
        self.holes.new.push((Arc::clone(pack), hole));
    }

    /// Writes what is left of a pack again if that is little.
    fn rewrite_rest(&mut self, pack: &Arc<Pack>) {
        if self.open_packs.iter().any(|open| Arc::ptr_eq(&open.pack, pack)) {
            return;
        }
        let len = pack.len.load(Ordering::Relaxed);
        // With more than a hundred objects it is not nearly empty: no need to count.
        let live = pack.unit.bytes.load(Ordering::Relaxed);
        if pack.objects.load(Ordering::Relaxed) == 0 {
            self.drop_pack(pack);
        } else if is_worth_rewriting(live, len) {
            let rest = self.shared.objects_of(pack);
            self.rewrite(pack, &rest);
            self.drop_pack(pack);
        }
    }

    /// Punches the holes that nobody reads any more. What they speak of is in the log.
    pub(crate) fn punch_holes(&mut self) {
        let mut new = mem::take(&mut self.holes.new);
        new.sort_by_key(|(pack, _)| pack.slot);
        for group in new.chunk_by(|(one, _), (other, _)| one.slot == other.slot) {
            let pack = Arc::clone(&group[0].0);
            let holes = group.iter().map(|(_, hole)| hole.clone()).collect();
            // A pack that is out of the index goes as a whole, and may have readers still.
            let Some(uses) = self.shared.index.renew_uses(pack.slot).map(Vec::from) else { continue };
            self.holes.waiting.push(Waiting { pack, holes, uses });
        }
        // A hole has a block in common with an older one beside it, whose readers may be there still: older ones come first.
        let mut waits = HashSet::new();
        for mut waiting in mem::take(&mut self.holes.waiting) {
            waiting.uses.retain(|one| !one.is_last());
            if waiting.uses.is_empty() && !waits.contains(&waiting.pack.slot) {
                self.punch_pack(&waiting.pack, &waiting.holes);
            } else {
                waits.insert(waiting.pack.slot);
                self.holes.waiting.push(waiting);
            }
        }
    }

    fn punch_pack(&self, pack: &Pack, holes: &[ops::Range<u64>]) {
        if pack.gone.load(Ordering::Acquire) || self.log_is_incomplete || self.directory.is_down() {
            return;
        }
        let Ok(file) = pack.open(&self.directory.root, &self.shared.files) else { return };
        for hole in holes {
            match device::punch(&file, hole.start, hole.end - hole.start) {
                Ok(()) => Counters::add(&self.shared.counters.holes_punched, 1),
                Err(error) => {
                    tracing::info!(directory = %self.directory.root.path().display(), %error, "no holes can be made here");
                    return self.directory.cannot_punch();
                }
            }
        }
    }
}
