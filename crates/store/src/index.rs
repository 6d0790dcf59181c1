//! What the store holds, in memory: small objects by place, large contents by file, packs by number.
//!
//! Always true: no lock of the index is held across I/O. A small object whose pack is gone is as good as absent: the
//! entries of an evicted pack are taken out later, many packs at a time.

mod pack_use;
mod place;
mod small;
mod striped;
mod table;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use forebay_model::ContentId;
use hashbrown::hash_map::Entry;
use parking_lot::RwLock;

use crate::large::Large;
use crate::pack::{Pack, entry_len};
pub(crate) use pack_use::PackUse;
pub(crate) use place::SmallPlace;
use small::SmallMap;
use striped::{STRIPES, Striped, stripe};

const SHARDS: usize = 64;
/// Dead entries that are left alone in any case.
const DEAD_MIN: u64 = 4096;

type Larges = hashbrown::HashMap<ContentId, Arc<Large>, ById>;
type Packs = HashMap<u32, [PackUse; STRIPES], BySlot>;

/// The index of one store.
#[derive(Debug)]
pub(crate) struct Index {
    small: SmallMap,
    large: Box<[RwLock<Larges>]>,
    packs: Striped<Packs>,
    next_slot: AtomicU32,
    objects: AtomicU64,
    dead: AtomicU64,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            small: SmallMap::new(),
            large: (0..SHARDS).map(|_| RwLock::default()).collect(),
            packs: Striped::new(SHARDS),
            next_slot: AtomicU32::new(0),
            objects: AtomicU64::new(0),
            dead: AtomicU64::new(0),
        }
    }

    /// A small object and its pack.
    pub(crate) fn small(&self, id: ContentId) -> Option<(PackUse, SmallPlace)> {
        // The pack is taken while the object is held here: whoever takes the object out after that finds the pack in use.
        let shard = self.small.reading(id);
        let place = shard.get(id)?;
        let pack = self.pack(place.pack)?;
        drop(shard);
        let place = place.in_pack(&pack);
        Some((pack, place))
    }

    /// Whether there are small objects at all.
    pub(crate) fn has_small(&self) -> bool {
        self.objects.load(Ordering::Relaxed) > 0
    }

    /// Some small object; `random` says which. None also if it lies in a pack that is gone.
    pub(crate) fn sample(&self, random: u64) -> Option<(ContentId, SmallPlace, PackUse)> {
        let (id, place) = self.small.sample(random)?;
        Some((id, place, self.pack(place.pack)?))
    }

    /// Lets a small object lie elsewhere from now on, if it still lies where it was.
    pub(crate) fn move_small(&self, id: ContentId, from: SmallPlace, to: SmallPlace, packs: (&Pack, &Pack)) -> bool {
        let mut shard = self.small.shard(id);
        let Some(known) = shard.get_mut(id).filter(|known| known.is_at(from) && self.has_pack(from.pack)) else {
            return false;
        };
        *known = to;
        packs.0.objects.fetch_sub(1, Ordering::Relaxed);
        packs.1.objects.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Gives the uses of a pack so far; those to come are others. Once nobody has one of them, nobody reads what was taken
    /// out of the index before.
    pub(crate) fn renew_uses(&self, slot: u32) -> Option<[PackUse; STRIPES]> {
        let mut packs = self.packs.write(slot as usize % SHARDS);
        let uses = packs.get_mut(&slot)?;
        let pack = Arc::clone(&uses[0]);
        Some(std::mem::replace(uses, PackUse::stripes(&pack)))
    }

    /// Adds a small object. False if it is here already.
    pub(crate) fn insert_small(&self, id: ContentId, place: SmallPlace, pack: &Pack) -> bool {
        if self.place_small(id, place).is_some() {
            return false;
        }
        pack.objects.fetch_add(1, Ordering::Relaxed);
        self.objects.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Puts a small object in, uncounted. If it is here already: its pack.
    fn place_small(&self, id: ContentId, place: SmallPlace) -> Option<PackUse> {
        let mut shard = self.small.shard(id);
        match shard.get_mut(id) {
            Some(old) => {
                let known = self.pack(old.pack);
                if known.is_none() {
                    // Of a pack that is gone.
                    *old = place;
                    sub(&self.dead, 1);
                }
                known
            }
            None => {
                shard.insert(id, place);
                None
            }
        }
    }

    /// Adds those of many small objects that belong to one half of the index, in order; those that are here already are left
    /// out, and of them those are given back that are on another directory. The halves have no lock in common.
    pub(crate) fn insert_half<'a>(
        &self,
        half: u64,
        objects: impl Iterator<Item = (ContentId, SmallPlace, &'a Pack)>,
    ) -> Vec<(ContentId, SmallPlace)> {
        let mut elsewhere = Vec::new();
        let mut added = 0;
        // Of objects that follow each other in one pack.
        let mut run: Option<(&Pack, u64, u64)> = None;
        let end = |run: Option<(&Pack, u64, u64)>| {
            if let Some((pack, count, bytes)) = run {
                pack.objects.fetch_add(count, Ordering::Relaxed);
                pack.unit.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
        };
        for (id, place, pack) in objects.filter(|(id, ..)| SmallMap::half(*id) == half) {
            if let Some(known) = self.place_small(id, place) {
                elsewhere.extend((known.directory != pack.directory).then_some((id, place)));
                continue;
            }
            added += 1;
            let (_, count, bytes) = match &mut run {
                Some(run) if std::ptr::eq(run.0, pack) => run,
                other => {
                    end(other.take());
                    other.insert((pack, 0, 0))
                }
            };
            *count += 1;
            *bytes += entry_len(place.len().into());
        }
        end(run);
        self.objects.fetch_add(added, Ordering::Relaxed);
        elsewhere
    }

    /// Adds small objects of packs that are here, unless they are here already; how many.
    pub(crate) fn insert_again(&self, objects: &[(ContentId, SmallPlace)]) -> u64 {
        let again = |(id, place): &&(ContentId, SmallPlace)| {
            self.pack(place.pack).is_some_and(|pack| self.insert_small(*id, *place, &pack))
        };
        objects.iter().filter(again).count() as u64
    }

    /// Takes a small object out, if it still lies at that place of that pack.
    pub(crate) fn remove_small(&self, id: ContentId, place: SmallPlace, pack: &Pack) -> bool {
        let mut shard = self.small.shard(id);
        let here = shard.get(id).is_some_and(|known| known.is_at(place));
        // Under the shard's lock, the pack's removal is either before this (then it is counted as dead) or after.
        if here && shard.remove(id) {
            pack.objects.fetch_sub(1, Ordering::Relaxed);
            sub(&self.objects, 1);
        }
        here
    }

    /// Remembers that a small object was checked.
    pub(crate) fn mark_verified(&self, id: ContentId, place: SmallPlace) {
        self.change(id, place, SmallPlace::set_verified);
    }

    /// Remembers that a small object was read, and so was checked; whether that was known. Costs next to nothing then.
    pub(crate) fn mark_read(&self, id: ContentId, place: SmallPlace, pack: &Pack) -> bool {
        if place.is_hot(pack) && place.is_verified() {
            return true;
        }
        let heat = pack.heat();
        self.change(id, place, |known| {
            if !known.is_hot(pack) {
                pack.hot_bytes.fetch_add(entry_len(known.len().into()), Ordering::Relaxed);
            }
            known.heat(heat);
            known.set_verified();
        });
        false
    }

    /// Remembers that a small object was asked for by a faster directory. False if it was before.
    pub(crate) fn claim(&self, id: ContentId, place: SmallPlace) -> bool {
        let mut is_first = false;
        if !place.is_claimed() {
            self.change(id, place, |known| is_first = known.set_claimed(true));
        }
        is_first
    }

    /// Forgets that.
    pub(crate) fn unclaim(&self, id: ContentId, place: SmallPlace) {
        self.change(id, place, |known| _ = known.set_claimed(false));
    }

    fn change(&self, id: ContentId, place: SmallPlace, change: impl FnOnce(&mut SmallPlace)) {
        if let Some(known) = self.small.shard(id).get_mut(id)
            && known.is_at(place)
        {
            change(known);
        }
    }

    /// Calls `each` with all small objects, a shard's worth at a time; no lock is held meanwhile.
    pub(crate) fn for_each_small<E>(
        &self,
        mut each: impl FnMut(ContentId, SmallPlace) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut copy = Vec::new();
        for shard in self.small.shards() {
            copy.clear();
            copy.extend(shard.iter());
            drop(shard);
            for (id, place) in &copy {
                each(*id, *place)?;
            }
        }
        Ok(())
    }

    /// Bytes of the small objects' part of the index, dead entries included, without what the allocator adds.
    pub(crate) fn small_bytes(&self) -> u64 {
        self.small.bytes() as u64
    }

    /// A slot that no pack of this process has had.
    pub(crate) fn new_slot(&self) -> u32 {
        self.next_slot.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn pack(&self, slot: u32) -> Option<PackUse> {
        self.pack_shard(slot).get(&slot).map(|uses| uses[stripe()].clone())
    }

    fn has_pack(&self, slot: u32) -> bool {
        self.pack_shard(slot).contains_key(&slot)
    }

    pub(crate) fn insert_pack(&self, pack: &Arc<Pack>) {
        let slot = pack.slot;
        self.packs.write(slot as usize % SHARDS).insert(slot, PackUse::stripes(pack));
    }

    /// Takes a pack out, and with it all its objects. False if it was out already.
    pub(crate) fn remove_pack(&self, pack: &Pack) -> bool {
        if self.packs.write(pack.slot as usize % SHARDS).remove(&pack.slot).is_none() {
            return false;
        }
        let objects = pack.objects.load(Ordering::Relaxed);
        sub(&self.objects, objects);
        self.dead.fetch_add(objects, Ordering::Relaxed);
        true
    }

    /// Takes out the entries of packs that are gone, if they are many.
    pub(crate) fn sweep(&self) {
        let dead = self.dead.load(Ordering::Relaxed);
        if dead < DEAD_MIN || dead < self.objects.load(Ordering::Relaxed) / 4 {
            return;
        }
        self.sweep_now();
    }

    fn sweep_now(&self) {
        for mut shard in self.small.shards_mut() {
            let before = shard.len();
            shard.retain(|place| self.has_pack(place.pack));
            sub(&self.dead, (before - shard.len()) as u64);
        }
    }

    /// The packs of a directory.
    pub(crate) fn packs_of(&self, directory: usize) -> Vec<Arc<Pack>> {
        let of = |at| {
            let shard = self.packs.read(at);
            let packs = shard.values().map(|uses| Arc::clone(&uses[0]));
            packs.filter(|pack| pack.directory == directory).collect::<Vec<_>>()
        };
        (0..SHARDS).flat_map(of).collect()
    }

    pub(crate) fn large(&self, id: ContentId) -> Option<Arc<Large>> {
        self.large_shard(id).read().get(&id).cloned()
    }

    /// Adds a large content. If it is here already: that one.
    pub(crate) fn insert_large(&self, large: &Arc<Large>) -> Result<(), Arc<Large>> {
        match self.large_shard(large.id).write().entry(large.id) {
            Entry::Occupied(old) => Err(Arc::clone(old.get())),
            Entry::Vacant(new) => {
                new.insert(Arc::clone(large));
                Ok(())
            }
        }
    }

    /// Takes a large content out, unless another has taken its place. False if it was out already.
    pub(crate) fn remove_large(&self, large: &Arc<Large>) -> bool {
        match self.large_shard(large.id).write().entry(large.id) {
            Entry::Occupied(here) if Arc::ptr_eq(here.get(), large) => {
                here.remove();
                true
            }
            _ => false,
        }
    }

    /// Lets another take a large content's place, if that still has it.
    pub(crate) fn replace_large(&self, large: &Arc<Large>, by: &Arc<Large>) -> bool {
        match self.large_shard(large.id).write().entry(large.id) {
            Entry::Occupied(mut here) if Arc::ptr_eq(here.get(), large) => {
                here.insert(Arc::clone(by));
                true
            }
            _ => false,
        }
    }

    /// The large contents of a directory.
    pub(crate) fn larges_of(&self, directory: usize) -> Vec<Arc<Large>> {
        let larges = self.large.iter().flat_map(|shard| shard.read().values().cloned().collect::<Vec<_>>());
        larges.filter(|large| large.directory == directory).collect()
    }

    /// Small objects and large contents.
    pub(crate) fn contents(&self) -> u64 {
        let large: usize = self.large.iter().map(|shard| shard.read().len()).sum();
        self.objects.load(Ordering::Relaxed) + large as u64
    }

    fn large_shard(&self, id: ContentId) -> &RwLock<Larges> {
        &self.large[(hash(id) >> 48) as usize % SHARDS]
    }

    fn pack_shard(&self, slot: u32) -> striped::Reading<'_, Packs> {
        self.packs.read(slot as usize % SHARDS)
    }
}

/// Counters that a race may bring below zero for a moment stop at zero.
fn sub(counter: &AtomicU64, amount: u64) {
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(amount)));
}

/// Ids are hashes already; this only spreads those that tests make by counting.
fn hash(id: ContentId) -> u64 {
    let id = id.as_u128();
    mix((id >> 64) as u64 ^ id as u64)
}

fn mix(number: u64) -> u64 {
    let product = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}

/// Hashes ids by [`hash`], slots by [`mix`].
#[derive(Clone, Copy, Debug, Default)]
struct ById;

type BySlot = ById;

#[derive(Debug, Default)]
struct IdHasher(u64);

impl BuildHasher for ById {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher::default()
    }
}

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = mix(self.0 ^ u64::from(*byte)));
    }

    fn write_u32(&mut self, slot: u32) {
        self.0 = mix(slot.into());
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = hash(ContentId::from_u128(id));
    }
}

#[cfg(test)]
mod tests;
