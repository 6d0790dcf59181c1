//! What the store holds, in memory: small objects by place, large contents by file, packs by number.
//!
//! Always true: no lock of the index is held across I/O. A small object whose pack is gone is as good as absent: the
//! entries of an evicted pack are taken out later, many packs at a time.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use forebay_model::ContentId;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::RwLock;

use crate::large::Large;
use crate::pack::Pack;

const SMALL_SHARDS: usize = 256;
const SHARDS: usize = 64;
/// Dead entries that are left alone in any case.
const DEAD_MIN: u64 = 4096;

/// Where a small object lies: 12 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SmallPlace {
    /// The pack's slot.
    pub(crate) pack: u32,
    /// Where its entry starts.
    pub(crate) offset: u32,
    len_and_verified: u32,
}

type Small = HashMap<[u8; 16], SmallPlace, ById>;
type Larges = HashMap<ContentId, Arc<Large>, ById>;
type Packs = HashMap<u32, Arc<Pack>>;

/// The index of one store.
#[derive(Debug)]
pub(crate) struct Index {
    small: Box<[RwLock<Small>]>,
    large: Box<[RwLock<Larges>]>,
    packs: Box<[RwLock<Packs>]>,
    next_slot: AtomicU32,
    objects: AtomicU64,
    dead: AtomicU64,
}

impl SmallPlace {
    const VERIFIED: u32 = 1 << 31;

    pub(crate) fn new(pack: u32, offset: u32, len: u32, verified: bool) -> Self {
        debug_assert!(len < Self::VERIFIED, "a small object is a page at most");
        Self { pack, offset, len_and_verified: len | if verified { Self::VERIFIED } else { 0 } }
    }

    pub(crate) fn len(self) -> u32 {
        self.len_and_verified & !Self::VERIFIED
    }

    pub(crate) fn is_verified(self) -> bool {
        self.len_and_verified & Self::VERIFIED != 0
    }
}

impl Index {
    pub(crate) fn new() -> Self {
        fn shards<T: Default>(count: usize) -> Box<[T]> {
            (0..count).map(|_| T::default()).collect()
        }
        Self {
            small: shards(SMALL_SHARDS),
            large: shards(SHARDS),
            packs: shards(SHARDS),
            next_slot: AtomicU32::new(0),
            objects: AtomicU64::new(0),
            dead: AtomicU64::new(0),
        }
    }

    /// A small object and its pack.
    pub(crate) fn small(&self, id: ContentId) -> Option<(Arc<Pack>, SmallPlace)> {
        let place = *self.small_shard(id).read().get(&key(id))?;
        Some((self.pack(place.pack)?, place))
    }

    /// Adds a small object. False if it is here already.
    pub(crate) fn insert_small(&self, id: ContentId, place: SmallPlace, pack: &Pack) -> bool {
        match self.small_shard(id).write().entry(key(id)) {
            Entry::Occupied(old) if self.pack(old.get().pack).is_some() => return false,
            Entry::Occupied(mut dead) => {
                dead.insert(place);
                sub(&self.dead, 1);
            }
            Entry::Vacant(new) => {
                new.insert(place);
            }
        }
        pack.objects.fetch_add(1, Ordering::Relaxed);
        self.objects.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Takes a small object out, if it still lies at that place of that pack.
    pub(crate) fn remove_small(&self, id: ContentId, place: SmallPlace, pack: &Pack) -> bool {
        let mut shard = self.small_shard(id).write();
        let here = shard.get(&key(id)).is_some_and(|known| (known.pack, known.offset) == (place.pack, place.offset));
        // Under the shard's lock, the pack's removal is either before this (then it is counted as dead) or after.
        if here && shard.remove(&key(id)).is_some() {
            pack.objects.fetch_sub(1, Ordering::Relaxed);
            sub(&self.objects, 1);
        }
        here
    }

    /// Remembers that a small object was checked.
    pub(crate) fn mark_verified(&self, id: ContentId, place: SmallPlace) {
        if let Some(known) = self.small_shard(id).write().get_mut(&key(id))
            && (known.pack, known.offset) == (place.pack, place.offset)
        {
            known.len_and_verified |= SmallPlace::VERIFIED;
        }
    }

    /// Calls `each` with all small objects, a shard's worth at a time; no lock is held meanwhile.
    pub(crate) fn for_each_small<E>(
        &self,
        mut each: impl FnMut(ContentId, SmallPlace) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut copy = Vec::new();
        for shard in &self.small {
            copy.clear();
            copy.extend(shard.read().iter().map(|(id, place)| (*id, *place)));
            for (id, place) in &copy {
                each(ContentId::from_u128(u128::from_le_bytes(*id)), *place)?;
            }
        }
        Ok(())
    }

    /// A slot that no pack of this process has had.
    pub(crate) fn new_slot(&self) -> u32 {
        self.next_slot.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn pack(&self, slot: u32) -> Option<Arc<Pack>> {
        self.pack_shard(slot).read().get(&slot).cloned()
    }

    pub(crate) fn insert_pack(&self, pack: Arc<Pack>) {
        self.pack_shard(pack.slot).write().insert(pack.slot, pack);
    }

    /// Takes a pack out, and with it all its objects. False if it was out already.
    pub(crate) fn remove_pack(&self, pack: &Pack) -> bool {
        if self.pack_shard(pack.slot).write().remove(&pack.slot).is_none() {
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
        for shard in &self.small {
            let mut shard = shard.write();
            let before = shard.len();
            shard.retain(|_, place| self.pack_shard(place.pack).read().contains_key(&place.pack));
            sub(&self.dead, (before - shard.len()) as u64);
            if shard.capacity() > 4 * shard.len() {
                shard.shrink_to_fit();
            }
        }
    }

    /// The packs of a directory.
    pub(crate) fn packs_of(&self, directory: usize) -> Vec<Arc<Pack>> {
        let packs = self.packs.iter().flat_map(|shard| shard.read().values().cloned().collect::<Vec<_>>());
        packs.filter(|pack| pack.directory == directory).collect()
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

    fn small_shard(&self, id: ContentId) -> &RwLock<Small> {
        // Bits that the maps use neither for buckets (the lowest) nor for tags (the highest 7).
        &self.small[(mix(id.as_u128()) >> 48) as usize % SMALL_SHARDS]
    }

    fn large_shard(&self, id: ContentId) -> &RwLock<Larges> {
        &self.large[(mix(id.as_u128()) >> 48) as usize % SHARDS]
    }

    fn pack_shard(&self, slot: u32) -> &RwLock<Packs> {
        &self.packs[slot as usize % SHARDS]
    }
}

/// Counters that a race may bring below zero for a moment stop at zero.
fn sub(counter: &AtomicU64, amount: u64) {
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(amount)));
}

/// An id as a key of alignment 1, which saves a map's entry 4 bytes.
fn key(id: ContentId) -> [u8; 16] {
    id.as_u128().to_le_bytes()
}

/// Ids are hashes already; this only spreads those that tests make by counting.
fn mix(id: u128) -> u64 {
    ((id >> 64) as u64 ^ id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Hashes ids by [`mix`].
#[derive(Clone, Copy, Debug, Default)]
struct ById;

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
        if let Ok(id) = bytes.try_into() {
            self.0 = mix(u128::from_le_bytes(id));
        }
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = mix(id);
    }

    /// The length prefix of an array tells nothing apart.
    fn write_usize(&mut self, _: usize) {}
}

const _: () = assert!(size_of::<([u8; 16], SmallPlace)>() == 28, "the map's entry of a small object");
