//! From the records of a directory's log to the index: what a store would know of it. Touches no file.
//!
//! Always true: recovery and whoever looks at a directory without opening its store both go by this, so they come to the
//! same. Later records win. What was not written in this start of the machine, or stands in a log that was cut, counts as
//! unverified.

use std::collections::HashMap;
use std::mem;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use forebay_model::{ContentId, EXTENT, ExtentIndex, SMALL_MAX};

use crate::directory::Holder;
use crate::files::FileSlot;
use crate::index::{Index, SmallPlace};
use crate::large::{Extent, Large, pages_in};
use crate::options::BootId;
use crate::pack::{Pack, entry_len};
use crate::record::Record;

/// Small objects that are brought into the index at once: 2 MiB of them.
const SMALLS: usize = 64 << 10;
/// Fewer are not worth a second thread.
const SMALLS_MIN: usize = 4096;

/// What a log has said so far.
pub(crate) struct Replay<'a> {
    index: &'a Index,
    holder: &'a dyn Holder,
    /// With the number of `Boot` records before each.
    packs: HashMap<u32, (Arc<Pack>, u32)>,
    larges: HashMap<ContentId, Arc<Large>>,
    /// Small objects that follow each other in the log, and are not in the index yet; with their packs' numbers.
    smalls: Vec<(ContentId, SmallPlace, u32)>,
    /// Small objects that another directory had first: its log may yet say that they are gone from there.
    elsewhere: HashMap<ContentId, SmallPlace>,
    /// The mark of the last `Boot`.
    pub(crate) boot: Option<BootId>,
    boots: u32,
    /// The last record says that the store was closed in order.
    pub(crate) closed: bool,
    /// No record speaks of a content or a pack.
    pub(crate) empty: bool,
    pub(crate) last_pack: u32,
    pub(crate) last_generation: u64,
}

/// What a whole log came to.
pub(crate) struct Replayed {
    /// What the log says is verified counts.
    pub(crate) trusted: bool,
    pub(crate) packs: Vec<Arc<Pack>>,
    /// Large contents that are in the index now.
    pub(crate) larges: Vec<Arc<Large>>,
    /// Those that are not: nothing is left of them, or another directory has them.
    pub(crate) gone: Vec<Arc<Large>>,
    /// Small objects that another directory had first.
    pub(crate) elsewhere: Vec<(ContentId, SmallPlace)>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(index: &'a Index, holder: &'a dyn Holder) -> Self {
        Self {
            index,
            holder,
            packs: HashMap::new(),
            larges: HashMap::new(),
            smalls: Vec::new(),
            elsewhere: HashMap::new(),
            boot: None,
            boots: 0,
            closed: false,
            empty: true,
            last_pack: 0,
            last_generation: 0,
        }
    }

    /// Takes in the next record.
    pub(crate) fn apply(&mut self, record: Record) {
        self.closed = record == Record::Closed;
        if !matches!(record, Record::Small { .. }) {
            self.add_smalls();
        }
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
                self.elsewhere.remove(&id);
                if let Some((pack, place)) = self.index.small(id)
                    && pack.directory == self.holder.number()
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
                let large = Large::new((id, size, group), self.holder.number(), generation, Arc::default());
                self.larges.insert(id, Arc::new(large));
            }
            Record::Pages { id, extent, resident, verified, sums } => {
                if let Some(large) = self.larges.get(&id) {
                    add_pages(self.holder, large, ExtentIndex(extent), (resident, verified), &sums);
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
        let pack = Pack::new(self.holder, slot, number, group, Arc::new(FileSlot::default()));
        self.index.insert_pack(&pack);
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
        pack.len.fetch_max(u64::from(offset) + entry_len(len.into()), Ordering::Relaxed);
        self.smalls.push((id, place, number));
        if self.smalls.len() >= SMALLS {
            self.add_smalls();
        }
    }

    /// Brings into the index what follows each other, on two cores if it is much.
    fn add_smalls(&mut self) {
        let (smalls, packs) = (mem::take(&mut self.smalls), &self.packs);
        let add = |half| {
            let mut last: Option<(u32, &Pack)> = None;
            let objects = smalls.iter().filter_map(|(id, place, number)| {
                // Mostly the one before.
                if last.is_none_or(|(known, _)| known != *number) {
                    last = packs.get(number).map(|(pack, _)| (*number, &**pack));
                }
                last.map(|(_, pack)| (*id, *place, pack))
            });
            self.index.insert_half(half, objects)
        };
        let (one, other) = if smalls.len() < SMALLS_MIN {
            (add(0), add(1))
        } else {
            thread::scope(|scope| {
                let other = scope.spawn(|| add(1));
                let one = add(0);
                (one, other.join().unwrap_or_else(|panic| resume_unwind(panic)))
            })
        };
        self.elsewhere.extend(one.into_iter().chain(other));
        self.smalls = smalls;
        self.smalls.clear();
    }

    fn forget_verified(&self) {
        for large in self.larges.values() {
            large.forget_verified();
        }
    }

    /// All records were given. `cut`: the log is cut behind them; `boot`: this start of the machine at this place.
    pub(crate) fn end(mut self, cut: bool, boot: BootId) -> Replayed {
        self.add_smalls();
        let trusted = !cut && self.boot == Some(boot);
        if !trusted {
            self.forget_verified();
        }
        let packs = self.packs.into_values().map(|(pack, boots)| {
            if trusted && boots == self.boots {
                pack.believe();
            }
            pack
        });
        let packs = packs.collect();
        self.larges.values().for_each(|large| large.is_unproved.store(trusted, Ordering::Release));
        let is_kept = |large: &Arc<Large>| !large.extents.read().is_empty() && self.index.insert_large(large).is_ok();
        let (larges, gone) = self.larges.into_values().partition(is_kept);
        Replayed { trusted, packs, larges, gone, elsewhere: self.elsewhere.into_iter().collect() }
    }
}

/// Adds the pages of a record that fits its content.
fn add_pages(
    holder: &dyn Holder,
    large: &Arc<Large>,
    extent: ExtentIndex,
    (resident, verified): (u64, u64),
    sums: &[u64],
) {
    if u64::from(extent.0) >= large.size.div_ceil(EXTENT) || resident & !large.all_pages(extent) != 0 {
        return;
    }
    let known = large.extent(extent).unwrap_or_else(|| Arc::new(Extent::new(holder, large, extent)));
    let pages = || pages_in(extent, resident);
    if pages().map(|page| known.sums(page).len()).sum::<usize>() != sums.len() {
        return;
    }
    for (place, sum) in pages().flat_map(|page| known.sums(page)).zip(sums) {
        place.store(*sum, Ordering::Relaxed);
    }
    let new = large.pages.recover(&known.residency, resident, verified);
    known.unit.bytes.fetch_add(large.bytes_of(extent, new), Ordering::Relaxed);
    large.extents.write().insert(extent.0, known);
}
