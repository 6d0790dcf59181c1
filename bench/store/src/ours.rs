//! The page store (`crates/store`) as one side.

use std::io::{Error, Result};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay_model::{ByteSize, Capacity, block_sums};
use forebay_store::{
    Caching, DirectoryOptions, Fill, Group, Kept, NotKept, ReadOutcome, Reserve, Store, StoreOptions, StoreStats,
};

use crate::data::Data;
use crate::side::{Keeps, Reads, Room, absent, wrong};

/// Bytes under way: less than the write queue takes (64 MiB), so that nothing is refused.
const UNDER_WAY: u64 = 48 << 20;
/// A name for messages.
const NAME: &str = "forebay-store";

/// A store with one directory.
pub(crate) struct Ours {
    store: Store,
    data: Data,
    caching: Caching,
    room: Arc<Room>,
    kept: Arc<AtomicU64>,
    /// Objects kept when `settle` was last called.
    settled: AtomicU64,
}

impl Ours {
    /// Opens the store in `directory` and waits until all that lies there is known.
    pub(crate) fn open(directory: &Path, capacity: u64, data: &Data, caching: Caching) -> Result<Self> {
        Self::open_to_fill(directory, capacity, data, (caching, Caching::Keep))
    }

    /// The same; what the page cache is to do with what is read, and with what is inserted.
    pub(crate) fn open_to_fill(
        directory: &Path,
        capacity: u64,
        data: &Data,
        (caching, fills): (Caching, Caching),
    ) -> Result<Self> {
        let directory = DirectoryOptions::new(directory.to_owned(), Capacity::Bytes(ByteSize(capacity)));
        let options =
            StoreOptions { reserve: Reserve::Bytes(ByteSize(0)), fills, ..StoreOptions::new(vec![directory]) };
        let (store, _) = Store::open(&options).map_err(Error::other)?;
        let (room, kept) = (Arc::new(Room::new(UNDER_WAY)), Arc::default());
        Ok(Self { store, data: data.clone(), caching, room, kept, settled: AtomicU64::new(0) })
    }

    pub(crate) fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    /// Reads the n-th object; false if it is not there.
    pub(crate) fn read(&self, n: u64, buffer: &mut [u8]) -> bool {
        let place = self.data.place(n);
        let buffer = &mut buffer[..place.range.len() as usize];
        self.store.read(place.id, place.size, place.range, buffer, self.caching) == ReadOutcome::Filled
    }

    /// Closes in order: all is on its way to the disk then.
    pub(crate) fn close(self) -> Result<()> {
        self.store.close().map_err(Error::other)
    }
}

impl Reads for Ours {
    fn get(&self, n: u64, buffer: &mut [u8]) -> Result<()> {
        if self.read(n, buffer) { Ok(()) } else { Err(absent(NAME, n)) }
    }

    fn prove(&self, n: u64, buffer: &mut [u8]) -> Result<()> {
        self.get(n, buffer)?;
        let right = self.data.bytes(n);
        if buffer[..right.len()] == right[..] { Ok(()) } else { Err(wrong(NAME, n)) }
    }
}

impl Keeps for Ours {
    fn insert(&self, n: u64) -> Result<()> {
        let (bytes, place) = (self.data.bytes(n), self.data.place(n));
        let len = bytes.len() as u64;
        self.room.take(len);
        // Made where the bytes come from; the rival makes its own while it writes.
        let sums = block_sums(&bytes);
        let fill =
            Fill { id: place.id, size: place.size, group: Group(0), page: place.page, chunks: vec![bytes], sums };
        let (room, kept) = (Arc::clone(&self.room), Arc::clone(&self.kept));
        let done = move |outcome| {
            if outcome == Kept::Yes {
                kept.fetch_add(1, Ordering::Relaxed);
            }
            room.give(len);
        };
        self.store.keep(fill, Box::new(done)).map_err(|reason: NotKept| {
            self.room.give(len);
            Error::other(format!("{NAME}: object {n} is not kept: {reason}"))
        })
    }

    fn settle(&self, _range: Range<u64>) -> Result<u64> {
        self.room.wait_empty();
        let kept = self.kept.load(Ordering::Relaxed);
        Ok(kept - self.settled.swap(kept, Ordering::Relaxed))
    }
}
