//! Small objects that are to outlive their packs are written again, into packs of their own kind.
//!
//! Always true: an object is readable where it lay until it is readable where it lies; its bytes are proved on the way. The
//! room for a copy is there before the old pack goes: meanwhile the directory holds at most half a pack more than its quota.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use forebay_model::{ContentId, PageIndex};

use super::{Pending, What, Writer};
use crate::error::NotKept;
use crate::eviction::{Verdict, soonest, verdict};
use crate::index::SmallPlace;
use crate::metrics::Counters;
use crate::pack::{Kind, Pack, entry_len, entry_room, verify_entry};
use crate::plan::Plan;
use crate::queue::Order;
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
        for (id, place) in objects {
            if self.copy_entry(*id, *place, pack, Kind::Kept).is_err() {
                break;
            }
        }
        self.flush();
    }

    /// Writes the entry of an object that lies in another pack, of this directory or not, into one of that kind. Nothing
    /// is evicted for it. False: it is gone or damaged, and is left where it is.
    pub(super) fn copy_entry(
        &mut self,
        id: ContentId,
        place: SmallPlace,
        from: &Arc<Pack>,
        kind: Kind,
    ) -> Result<bool, NotKept> {
        let (len, total) = (u64::from(place.len()), entry_len(place.len().into()));
        let mut entry = vec![0; total as usize];
        let read = self.shared.read_pack(from, &mut entry, place.offset.into(), Reach::Disk(Caching::Drop));
        if read.is_err() || verify_entry(&entry, id, from.group, len).is_none() {
            return Ok(false);
        }
        let at = self.open_pack(from.group, kind, entry_room(len))?;
        let (to, offset) = self.append(at, len, || std::iter::once(&entry[..]), None)?;
        if from.directory == self.directory.index {
            self.record(&Record::SmallGone { id });
        }
        self.record(&Record::Small { id, pack: to.number, offset, len: place.len(), verified: true });
        // What is as old as its pack stays so.
        let mut begun = to.begun.lock();
        *begun = (*begun).min(*from.begun.lock());
        drop(begun);
        let from = (place, Arc::clone(from));
        let to = (SmallPlace::new(to.slot, offset, place.len(), true), to);
        self.batch.pending.push(Pending { what: What::Moved(id, Moved { from, to }), bytes: total, done: None });
        Ok(true)
    }

    /// A copy that no record speaks of is none.
    pub(super) fn not_moved(&self, id: ContentId, moved: &Moved) {
        self.shared.index.unclaim(id, moved.from.0);
    }

    pub(super) fn publish_moved(&self, id: ContentId, Moved { from, to }: &Moved, bytes: u64) {
        // One that was forgotten meanwhile is in the log only, where the next start finds it: it is what it says.
        let is_moved = self.shared.index.move_small(id, from.0, to.0, (&from.1, &to.1));
        if from.1.directory == to.1.directory {
            Counters::add(&self.shared.counters.bytes_rewritten, bytes);
        } else if is_moved {
            self.count_moved(from.1.directory, bytes);
            // Its room is given back where it lay.
            self.shared.directories[from.1.directory].queue.order(Order::DropSmall(id, from.0));
        }
    }
}
