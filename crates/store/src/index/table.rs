//! A table of small objects: ids and places side by side in the order of their hashes, with gaps.
//!
//! Always true: an entry stands at its home or behind it with no gap between, and entries stand in the order of their
//! tags. So a table is searched without a mark or a tag a slot, and is laid out anew in one pass. It takes at most 3/2 of
//! what its entries do, and a few slots: it grows by an eighth, not by doubling, and shrinks again.
//!
//! Does not lock, and does not hash: callers give the tag, 32 bits of a hash.

use forebay_model::ContentId;

use super::{SmallPlace, hash};

/// Entries are laid out anew when they are more than this part of the slots,
const FULLEST: (usize, usize) = (17, 20);
/// or less than this,
const EMPTIEST: (usize, usize) = (13, 20);
/// so that they are about this part.
const LAID_OUT: (usize, usize) = (3, 4);
/// The least number of slots.
const MIN_SLOTS: usize = 4;

/// An id and its place: 28 bytes, for an id as bytes has alignment 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    id: [u8; 16],
    pub(super) place: SmallPlace,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Box<[Entry]>,
    len: usize,
}

impl Entry {
    const EMPTY: Self = Self { id: [0; 16], place: SmallPlace::NOWHERE };

    pub(super) fn new(id: ContentId, place: SmallPlace) -> Self {
        Self { id: id.as_u128().to_le_bytes(), place }
    }

    pub(super) fn id(&self) -> ContentId {
        ContentId::from_u128(u128::from_le_bytes(self.id))
    }

    fn is_empty(&self) -> bool {
        self.place.pack == SmallPlace::NOWHERE.pack
    }

    fn tag(&self) -> u32 {
        tag(hash(self.id()))
    }
}

/// The part of a hash that a table goes by.
pub(super) fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Table {
    /// A table of entries that stand in the order of their tags.
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut table = Self::default();
        table.lay_out(entries, slots_for(entries.len()));
        table
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of its slots.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// All entries, in the order of their tags.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().filter(|entry| !entry.is_empty())
    }

    /// The first entry from that slot on, and round.
    pub(super) fn from(&self, slot: usize) -> Option<&Entry> {
        let (before, after) = self.slots.split_at(slot % self.slots.len().max(1));
        after.iter().chain(before).find(|entry| !entry.is_empty())
    }

    pub(super) fn get(&self, tag: u32, id: ContentId) -> Option<&Entry> {
        self.find(tag, id).map(|at| &self.slots[at])
    }

    pub(super) fn get_mut(&mut self, tag: u32, id: ContentId) -> Option<&mut SmallPlace> {
        self.find(tag, id).map(|at| &mut self.slots[at].place)
    }

    /// Adds an entry whose id is not here.
    pub(super) fn insert(&mut self, tag: u32, entry: Entry) {
        if self.is_due(self.len + 1, FULLEST) {
            self.lay_out_anew(slots_for(self.len + 1));
        }
        // One that finds no place before the end finds it in a longer table.
        while !self.put(tag, entry) {
            self.lay_out_anew(self.slots.len() + 1 + self.slots.len() / 32);
        }
    }

    /// Takes an entry out. False if it is not here.
    pub(super) fn remove(&mut self, tag: u32, id: ContentId) -> bool {
        let Some(at) = self.find(tag, id) else { return false };
        // Those behind it that do not stand at home come nearer to it.
        let mut end = at + 1;
        while self.slots.get(end).is_some_and(|next| !next.is_empty() && self.home(next.tag()) < end) {
            end += 1;
        }
        self.slots.copy_within(at + 1..end, at);
        self.slots[end - 1] = Entry::EMPTY;
        self.len -= 1;
        self.shrink();
        true
    }

    /// Keeps those entries only for which `keep` says so.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(SmallPlace) -> bool) {
        let entries: Vec<Entry> = self.iter().filter(|entry| keep(entry.place)).copied().collect();
        if entries.len() < self.len {
            self.lay_out(&entries, slots_for(entries.len()));
        }
    }

    fn shrink(&mut self) {
        if self.slots.len() > 2 * MIN_SLOTS && !self.is_due(self.len, EMPTIEST) {
            self.lay_out_anew(slots_for(self.len));
        }
    }

    fn lay_out_anew(&mut self, slots: usize) {
        let entries: Vec<Entry> = self.iter().copied().collect();
        self.lay_out(&entries, slots);
    }

    /// Whether `len` entries are more than `part` of the slots.
    fn is_due(&self, len: usize, (part, of): (usize, usize)) -> bool {
        len * of > self.slots.len() * part
    }

    fn find(&self, tag: u32, id: ContentId) -> Option<usize> {
        let id = id.as_u128().to_le_bytes();
        let mut at = self.home(tag);
        while let Some(entry) = self.slots.get(at).filter(|entry| !entry.is_empty()) {
            if entry.id == id {
                return Some(at);
            }
            if entry.tag() > tag {
                return None;
            }
            at += 1;
        }
        None
    }

    /// Puts an entry among the others. False: there is no gap up to the end.
    fn put(&mut self, tag: u32, entry: Entry) -> bool {
        let mut at = self.home(tag);
        while self.slots.get(at).is_some_and(|other| !other.is_empty() && other.tag() <= tag) {
            at += 1;
        }
        let Some(gap) = (at..self.slots.len()).find(|gap| self.slots[*gap].is_empty()) else { return false };
        self.slots.copy_within(at..gap, at + 1);
        self.slots[at] = entry;
        self.len += 1;
        true
    }

    /// Makes it a table of `slots` slots, or a few more, that holds `entries`, which stand in the order of their tags.
    fn lay_out(&mut self, entries: &[Entry], mut slots: usize) {
        self.len = entries.len();
        'again: loop {
            self.slots = vec![Entry::EMPTY; slots].into();
            let mut next = 0;
            for entry in entries {
                let at = self.home(entry.tag()).max(next);
                let Some(slot) = self.slots.get_mut(at) else {
                    slots += 1 + slots / 32;
                    continue 'again;
                };
                *slot = *entry;
                next = at + 1;
            }
            return;
        }
    }

    /// Where an entry stands if nothing is in its way. The last slots are nobody's home: they take those that are pushed.
    fn home(&self, tag: u32) -> usize {
        let homes = self.slots.len() - self.slots.len() / 32;
        ((u64::from(tag) * homes as u64) >> 32) as usize
    }
}

/// Slots for `len` entries that are laid out anew.
fn slots_for(len: usize) -> usize {
    let (part, of) = LAID_OUT;
    if len == 0 { 0 } else { (len * of).div_ceil(part).max(MIN_SLOTS) }
}

const _: () = assert!(size_of::<Entry>() == 28, "an entry of a small object");
