//! Small objects that are to outlive their packs are written again, into packs of their own kind.
//!
//! Always true: an object is readable where it lay until it is readable where it lies; its bytes are proved on the way. The
//! room for a copy is there before the old pack goes: meanwhile the directory holds at most half a pack more than its quota.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use forebay_model::{ContentId, PageIndex};

use super::{Pending, What, Writer};
use crate::eviction::{Verdict, soonest, verdict};
use crate::index::SmallPlace;
use crate::metrics::Counters;
use crate::pack::{Kind, Pack, entry_len, verify_entry};
use crate::plan::Plan;
use crate::read::{Caching, Reach};
use crate::record::Record;

/// Where a small object lay, and where it lies.
pub(super) struct Moved {
    from: (SmallPlace, Arc<Pack>),
    to: (SmallPlace, Arc<Pack>),
}

impl Writer {
    /// Writes the hot objects of a pack again. False: they are too many, and it is to stay.
    pub(crate) fn rewrite_hot(&mut self, pack: &Arc<Pack>) -> bool {
        let (hot, len) = (pack.hot_bytes.load(Ordering::Relaxed), pack.len.load(Ordering::Relaxed));
        match verdict(hot, len) {
            Verdict::Drop => true,
            Verdict::Rewrite => {
                let mut objects = self.shared.objects_of(pack);
                objects.retain(|(_, place)| place.is_hot(pack));
                self.rewrite(pack, &objects);
                true
            }
            Verdict::Spare => {
                pack.cool();
                pack.unit.touch(self.directory.clock());
                false
            }
        }
    }

    /// Writes what is read soonest of a pack again, if that is before the newcomer is; no more than half.
    pub(crate) fn rewrite_soonest(&mut self, pack: &Arc<Pack>, plan: &dyn Plan, newcomer: u64) {
        let objects = self.shared.objects_of(pack).into_iter();
        let known = objects.map(|(id, place)| {
            let next = plan.next_use(id, PageIndex(0)).unwrap_or(u64::MAX);
            (next, entry_len(place.len().into()), (id, place))
        });
        let soonest = soonest(known.collect(), newcomer, pack.len.load(Ordering::Relaxed));
        self.rewrite(pack, &soonest);
    }

    /// Writes objects of a pack again. Those that cannot be, for want of room or because they are damaged, are left.
    pub(super) fn rewrite(&mut self, pack: &Arc<Pack>, objects: &[(ContentId, SmallPlace)]) {
        let mut entry = Vec::new();
        for (id, place) in objects {
            let (len, total) = (u64::from(place.len()), entry_len(place.len().into()));
            entry.resize(total as usize, 0);
            let read = self.shared.read_pack(pack, &mut entry, place.offset.into(), Reach::Disk(Caching::Drop));
            if read.is_err() || verify_entry(&entry, *id, pack.group, len).is_none() {
                continue;
            }
            // Nothing else is evicted for it.
            let appended = self
                .open_pack(pack.group, Kind::Kept, total)
                .and_then(|at| self.append(at, total, || std::iter::once(&entry[..]), None));
            let Ok((to, offset)) = appended else { break };
            self.record(&Record::SmallGone { id: *id });
            self.record(&Record::Small { id: *id, pack: to.number, offset, len: place.len(), verified: true });
            let from = (*place, Arc::clone(pack));
            let to = (SmallPlace::new(to.slot, offset, place.len(), true), to);
            self.batch.pending.push(Pending { what: What::Moved(*id, Moved { from, to }), bytes: total, done: None });
        }
        self.flush();
    }

    pub(super) fn publish_moved(&self, id: ContentId, Moved { from, to }: &Moved, bytes: u64) {
        // One that was forgotten meanwhile is in the log only, where the next start finds it: it is what it says.
        self.shared.index.move_small(id, from.0, to.0, (&from.1, &to.1));
        Counters::add(&self.shared.counters.bytes_rewritten, bytes);
    }
}
