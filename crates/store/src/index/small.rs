//! Small objects by id: linear hashing over tables that are small each.
//!
//! Always true: the hash's middle bits name a shard, its lowest bits a table of that shard, its highest the place in the
//! table. A shard has one table for every 512 entries; when it needs another, one of its tables is split in two, and no
//! other is touched. So growing moves some thousand entries at most, however many there are, and what is spare does not
//! hang on how many there are.

use forebay_model::ContentId;

use super::striped::{Reading, Striped, Writing};
use super::table::{Entry, Table, tag};
use super::{SmallPlace, hash};

/// Shards: as many writers hardly ever meet.
const SHARDS: usize = 32;
/// Bits of the hash for tables: below those for shards.
const TABLE_BITS: u32 = 26;
/// Entries a table, in the mean.
const PER_TABLE: usize = 512;

/// See the file's head.
#[derive(Debug)]
pub(super) struct SmallMap(Striped<Shard>);

/// A part of the map.
#[derive(Debug, Default)]
pub(super) struct Shard {
    tables: Vec<Table>,
    len: usize,
}

impl SmallMap {
    pub(super) fn new() -> Self {
        Self(Striped::new(SHARDS))
    }

    /// Which half of the shards an id belongs to: 0 or 1.
    pub(super) fn half(id: ContentId) -> u64 {
        shard_of(hash(id)) as u64 % 2
    }

    /// The shard of an id, for reading.
    pub(super) fn reading(&self, id: ContentId) -> Reading<'_, Shard> {
        self.0.read(shard_of(hash(id)))
    }

    /// Some entry; `random` says which. None if the shard that it names is empty.
    pub(super) fn sample(&self, random: u64) -> Option<(ContentId, SmallPlace)> {
        let shard = self.0.read(random as usize % self.0.len());
        let random = random / self.0.len() as u64;
        let tables = shard.tables.len().max(1);
        let table = shard.tables.get(random as usize % tables)?;
        table.from(random as usize / tables).map(|entry| (entry.id(), entry.place))
    }

    /// The shard of an id, for changing.
    pub(super) fn shard(&self, id: ContentId) -> Writing<'_, Shard> {
        self.0.write(shard_of(hash(id)))
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = Reading<'_, Shard>> {
        (0..self.0.len()).map(|at| self.0.read(at))
    }

    pub(super) fn shards_mut(&self) -> impl Iterator<Item = Writing<'_, Shard>> {
        (0..self.0.len()).map(|at| self.0.write(at))
    }

    /// Bytes that it takes, without what the allocator adds.
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes() + self.shards().map(|shard| shard.bytes()).sum::<usize>()
    }
}

impl Shard {
    pub(super) fn get(&self, id: ContentId) -> Option<SmallPlace> {
        let hash = hash(id);
        let table = self.tables.get(self.table_of(hash))?;
        table.get(tag(hash), id).map(|entry| entry.place)
    }

    pub(super) fn get_mut(&mut self, id: ContentId) -> Option<&mut SmallPlace> {
        let hash = hash(id);
        let at = self.table_of(hash);
        self.tables.get_mut(at)?.get_mut(tag(hash), id)
    }

    /// Adds an entry whose id is not here.
    pub(super) fn insert(&mut self, id: ContentId, place: SmallPlace) {
        if self.len >= self.tables.len() * PER_TABLE {
            self.split();
        }
        let hash = hash(id);
        let at = self.table_of(hash);
        self.tables[at].insert(tag(hash), Entry::new(id, place));
        self.len += 1;
    }

    pub(super) fn remove(&mut self, id: ContentId) -> bool {
        let hash = hash(id);
        let at = self.table_of(hash);
        let removed = self.tables.get_mut(at).is_some_and(|table| table.remove(tag(hash), id));
        self.len -= usize::from(removed);
        removed
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(SmallPlace) -> bool) {
        self.tables.iter_mut().for_each(|table| table.retain(&mut keep));
        self.len = self.tables.iter().map(Table::len).sum();
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ContentId, SmallPlace)> {
        self.tables.iter().flat_map(Table::iter).map(|entry| (entry.id(), entry.place))
    }

    fn bytes(&self) -> usize {
        self.tables.capacity() * size_of::<Table>() + self.tables.iter().map(Table::bytes).sum::<usize>()
    }

    /// The table of a hash. Those that are split already go by one bit more than those that are not.
    fn table_of(&self, hash: u64) -> usize {
        let tables = self.tables.len().next_power_of_two();
        let at = (hash & ((1 << TABLE_BITS) - 1)) as usize & (tables - 1);
        if at < self.tables.len() { at } else { at - tables / 2 }
    }

    /// One table more, with the half of another that belongs into it.
    fn split(&mut self) {
        let new = self.tables.len();
        if new + 1 > 1 << TABLE_BITS {
            return;
        }
        self.tables.reserve_exact(1 + if new == self.tables.capacity() { new / 8 } else { 0 });
        self.tables.push(Table::default());
        if new == 0 {
            return;
        }
        let old = new - (new + 1).next_power_of_two() / 2;
        let (moved, stay): (Vec<Entry>, Vec<Entry>) =
            self.tables[old].iter().copied().partition(|entry| self.table_of(hash(entry.id())) == new);
        self.tables[old] = Table::of(&stay);
        self.tables[new] = Table::of(&moved);
    }
}

fn shard_of(hash: u64) -> usize {
    (hash >> TABLE_BITS) as usize % SHARDS
}

const _: () = assert!(SHARDS.is_power_of_two() && SHARDS.trailing_zeros() + TABLE_BITS <= 32, "tags have the rest");
