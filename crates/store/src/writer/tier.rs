//! What comes to this directory from another, faster or slower, and what is sent away from it.
//!
//! Always true: a content is readable where it lay until it is readable here; every byte is proved on the way. What cannot
//! be moved stays, or goes as if there were no other directory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use forebay_model::{BlockSum, ContentId, PAGES_PER_EXTENT, PageIndex, page_count, page_len};

use super::Writer;
use crate::eviction::{Moment, Owner, Unit};
use crate::group::Group;
use crate::index::SmallPlace;
use crate::large::Large;
use crate::metrics::Counters;
use crate::pack::{Kind, Pack, entry_room};
use crate::queue::{Fill, Order};
use crate::read::Caching;
use crate::tiers::{Adoption, REST};
use crate::victim::{Newcomer, may_go};

/// How far the pages of a large content were copied.
enum Copied {
    /// There are more.
    Some,
    /// All that were there.
    All,
    /// There is no room for the rest.
    NoMore,
}

/// Bytes of a large content that are copied before other orders have their turn.
const STEP: u64 = 8 << 20;

impl Writer {
    /// Takes a small object that is read often from a slower directory, if there is room.
    pub(super) fn promote(&mut self, id: ContentId, place: SmallPlace, from: &Arc<Pack>) {
        let has_room = self.has_room_now(entry_room(place.len().into()), from.group);
        if !has_room {
            self.send_idle_away();
        }
        if !has_room || !self.copy_entry(id, place, from, Kind::Kept).is_ok_and(|is_copied| is_copied) {
            self.shared.index.unclaim(id, place);
        }
    }

    /// Takes what lives in a pack of a faster directory, as far as there is room or may be made, and lets the pack go.
    pub(super) fn demote(&mut self, pack: &Arc<Pack>) {
        let group = self.directory.groups.get(pack.group);
        let newcomer = Newcomer { group: &group, protect: None, next_use: None };
        for (id, place) in self.shared.objects_of(pack) {
            let has_room =
                !self.directory.is_down() && self.make_room(entry_room(place.len().into()), newcomer).is_ok();
            if !has_room || self.copy_entry(id, place, pack, Kind::New).is_err() {
                break;
            }
        }
        self.flush();
        let above = &self.shared.directories[pack.directory];
        if !above.queue.order(Order::DropPack(Arc::clone(pack))) {
            pack.unit.is_leaving.store(false, Ordering::Relaxed);
        }
    }

    /// Goes on with a large content that comes here. No record speaks of it before all of it is here: a content of the same
    /// id that is begun meanwhile has the log for itself.
    pub(super) fn adopt(&mut self, mut adoption: Box<Adoption>) {
        let Some(to) = adoption.to.clone().or_else(|| self.begin_adoption(&mut adoption)) else { return };
        match self.copy_pages(&adoption.from.clone(), &to, &mut adoption) {
            Copied::Some => {
                let directory = Arc::clone(&self.directory);
                // One that finds no place is given up, with what was copied.
                if !directory.queue.order(Order::Adopt(adoption)) {
                    self.drop_large(&to);
                }
            }
            Copied::All if self.publish_adopted(&adoption.from, &to) => {}
            Copied::All | Copied::NoMore => self.drop_large(&to),
        }
    }

    /// Lets a whole copy take the place of what it was made of. False: it is not to.
    fn publish_adopted(&mut self, from: &Arc<Large>, to: &Arc<Large>) -> bool {
        let is_current = self.shared.index.large(from.id).is_some_and(|known| Arc::ptr_eq(&known, from));
        let is_here = to.pages.resident() > 0 && !to.gone.load(Ordering::Acquire);
        if !is_current || !is_here || self.directory.is_down() {
            return false;
        }
        self.record_whole(to);
        if !self.flush() || !self.shared.index.replace_large(from, to) {
            return false;
        }
        if !self.shared.directories[from.directory].queue.order(Order::DropLarge(Arc::clone(from))) {
            // Its room would be counted for ever: it stays.
            self.shared.index.replace_large(to, from);
            return false;
        }
        self.count_moved(from.directory, to.extents.read().values().map(|extent| bytes_of(&extent.unit)).sum());
        true
    }

    fn begin_adoption(&mut self, adoption: &mut Adoption) -> Option<Arc<Large>> {
        let from = &adoption.from;
        let bytes = from.extents.read().values().map(|extent| bytes_of(&extent.unit)).sum();
        if !adoption.is_demotion && !self.has_room_now(bytes, from.group) {
            self.send_idle_away();
            return None;
        }
        if self.directory.is_down() || from.gone.load(Ordering::Acquire) {
            return None;
        }
        let to = self.make_large((from.id, from.size, from.group)).ok()?;
        *to.begun.lock() = *from.begun.lock();
        adoption.to = Some(Arc::clone(&to));
        Some(to)
    }

    /// Copies a few pages.
    fn copy_pages(&mut self, from: &Arc<Large>, to: &Arc<Large>, adoption: &mut Adoption) -> Copied {
        let (mut left, pages) = (STEP, page_count(from.size));
        while adoption.next.0 < pages {
            if left == 0 {
                return Copied::Some;
            }
            let page = adoption.next;
            let Some(extent) = from.extent(page.extent()) else {
                adoption.next = PageIndex((page.0 / PAGES_PER_EXTENT + 1) * PAGES_PER_EXTENT);
                continue;
            };
            adoption.next = PageIndex(page.0 + 1);
            let bytes = {
                // As a reader: nobody punches the page meanwhile.
                let _gate = from.pages.reading();
                if !extent.is_resident(page) {
                    continue;
                }
                self.shared.read_page(from, &extent, page, Caching::Drop)
            };
            let Ok(bytes) = bytes else { continue };
            left = left.saturating_sub(bytes.len() as u64);
            let sums = extent.sums(page).iter().map(|sum| BlockSum(sum.load(Ordering::Relaxed))).collect();
            let chunks = vec![Bytes::from(bytes)];
            let fill = Fill { id: from.id, size: from.size, group: Group(from.group), page, chunks, sums };
            if !self.copy_page(&fill, to, adoption.is_demotion) {
                return Copied::NoMore;
            }
        }
        Copied::All
    }

    fn copy_page(&mut self, fill: &Fill, to: &Arc<Large>, may_evict: bool) -> bool {
        let bytes = page_len(fill.size, fill.page);
        let group = self.directory.groups.get(to.group);
        let protect = to.extent(fill.page.extent()).map(|extent| Arc::clone(&extent.unit));
        let newcomer = Newcomer { group: &group, protect: protect.as_ref(), next_use: None };
        let has_room =
            if may_evict { self.make_room(bytes, newcomer).is_ok() } else { self.has_room_now(bytes, to.group) };
        if !has_room || self.directory.is_down() || to.gone.load(Ordering::Acquire) {
            return false;
        }
        // In no index yet: nobody reads it before all of it is said.
        self.write_page(fill, to).map(|extent| to.publish(&extent, fill.page)).is_ok()
    }

    /// Sends a unit that nobody has read for long to a slower directory, if there is one.
    fn send_idle_away(&mut self) {
        self.directory.rest_from_promotions(REST);
        // Of what is read in turns, all of the store's worth may be read before it is read again.
        let quota = self.shared.directories.iter().map(|directory| directory.quota).sum();
        let now = Moment { clock: self.directory.clock(), quota };
        let open_packs = &self.open_packs;
        let may = |unit: &Unit| !unit.is_leaving.load(Ordering::Relaxed) && may_go(unit, open_packs);
        let Some(unit) = self.evictor.idle(now, &may) else { return };
        let (number, order) = match &unit.owner {
            Owner::Pack(pack) => {
                let Some(pack) = pack.upgrade() else { return };
                (u128::from(pack.number), Order::Demote(pack))
            }
            Owner::Extent(large, _) => {
                let Some(adoption) = large.upgrade().and_then(|large| Adoption::begin(&large, true)) else { return };
                (adoption.from.id.as_u128(), Order::Adopt(adoption))
            }
        };
        // Before the other writer can say that it is not.
        unit.is_leaving.store(true, Ordering::Relaxed);
        if !self.shared.slower(self.directory.index, number).is_some_and(|slower| slower.queue.order(order)) {
            unit.is_leaving.store(false, Ordering::Relaxed);
        }
    }

    /// Whether there is room for `bytes` of a group without anything going for them.
    fn has_room_now(&mut self, bytes: u64, group: u64) -> bool {
        let group = self.directory.groups.get(group);
        if group.used.load(Ordering::Relaxed).saturating_add(bytes) > group.quota() {
            return false;
        }
        let used = self.directory.used.load(Ordering::Relaxed) + self.log.len();
        let reserve = self.directory.reserve;
        !self.directory.is_down()
            && used.saturating_add(bytes) <= self.directory.quota
            && self.available().is_some_and(|available| available >= reserve.saturating_add(bytes))
    }

    pub(super) fn count_moved(&self, from: usize, bytes: u64) {
        let counters = &self.shared.counters;
        let is_promoted = self.directory.class < self.shared.directories[from].class;
        Counters::add(if is_promoted { &counters.bytes_promoted } else { &counters.bytes_demoted }, bytes);
    }
}

fn bytes_of(unit: &Unit) -> u64 {
    unit.bytes.load(Ordering::Relaxed)
}
