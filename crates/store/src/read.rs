//! Reading: from residency to bytes, and what a damaged block does.
//!
//! Always true: a reader gets the bytes that were kept, or `Absent`. What was not checked since the machine started is
//! checked before it is given out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use forebay_model::{
    BLOCK, BlockSum, ByteRange, ContentId, ExtentIndex, PAGE, PAGES_PER_EXTENT, PageIndex, block_sum, is_small,
    page_len, pages_of,
};

use crate::device;
use crate::files::FileSlot;
use crate::handout::Descriptor;
use crate::index::{PackUse, SmallPlace};
use crate::large::{Extent, Large, bit};
use crate::metrics::Counters;
use crate::pack::{self, Pack};
use crate::past_cache::Space;
use crate::queue::Order;
use crate::shared::Shared;

/// Ranges of large contents from this length on are read past the page cache if asked to. Shorter ones come from readers
/// whose own read-ahead is small: the kernel's serves them better.
const DIRECT_MIN: u64 = 256 << 10;

/// How often a content that is to be forgotten is looked for again: each move makes one more try.
pub(crate) const FORGET_TRIES: usize = 4;

/// How much of a content is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// Nothing.
    None,
    /// Some pages.
    Partial,
    /// All of it.
    Whole,
}

/// What the kernel's page cache is to do with the bytes of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Keep them: they are likely to be read here again.
    Keep,
    /// Drop them: whoever asks keeps them himself (the kernel's page cache of a mount).
    Drop,
}

/// The outcome of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The buffer holds the bytes.
    Filled,
    /// Some byte is not here, or not any more; the buffer's contents mean nothing.
    Absent,
}

/// Where a read may take its bytes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach {
    /// Wherever they are.
    Disk(Caching),
    /// The kernel's page cache, without waiting for anything.
    Memory,
}

/// Why a read came to nothing. Each is handled before the caller hears of it.
pub(crate) enum Failure {
    /// Not here.
    Absent,
    /// It would have to wait, and may not.
    Waits,
    /// The file is not there any more.
    Missing,
    /// The bytes are not those that were written, or are cut off.
    Damaged,
    /// The device failed.
    Device(io::Error),
    /// The file cannot be opened.
    Unopenable(io::Error),
}

impl Failure {
    fn of_opening(error: io::Error) -> Self {
        match Self::from(error) {
            Self::Device(error) => Self::Unopenable(error),
            failure => failure,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            // Somebody outside holds a kernel lease on the file, or this process has no descriptor left: not the
            // bytes' fault.
            io::ErrorKind::WouldBlock => Self::Absent,
            _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => Self::Absent,
            _ => Self::Device(error),
        }
    }
}

impl Shared {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn residency(&self, id: ContentId, size: u64) -> Residency {
        if size == 0 {
            return Residency::Whole;
        }
        if is_small(size) {
            return if self.small_here(id, size).is_some() { Residency::Whole } else { Residency::None };
        }
        match self.large_here(id, size) {
            None => Residency::None,
            Some(large) if large.is_whole() => Residency::Whole,
            Some(large) if large.pages.resident() > 0 => Residency::Partial,
            Some(_) => Residency::None,
        }
    }

    pub(crate) fn has_page(&self, id: ContentId, page: PageIndex) -> bool {
        match self.index.large(id) {
            Some(large) => self.is_readable(large.directory) && large.has_page(page),
            None => page.0 == 0 && self.index.small(id).is_some_and(|(pack, _)| self.is_readable(pack.directory)),
        }
    }

    pub(crate) fn is_readable(&self, directory: usize) -> bool {
        !self.is_closed() && !self.directories[directory].is_down()
    }

    fn large_here(&self, id: ContentId, size: u64) -> Option<Arc<Large>> {
        let large = self.index.large(id).filter(|large| large.size == size && self.is_readable(large.directory))?;
        let _ = self.directories[large.directory].prove_large(&large);
        Some(large)
    }

    /// A small object and its pack, if it is of that size and can be read.
    pub(crate) fn small_here(&self, id: ContentId, size: u64) -> Option<(PackUse, SmallPlace)> {
        let (pack, place) = self.index.small(id)?;
        if u64::from(place.len()) != size || !self.is_readable(pack.directory) {
            return None;
        }
        if pack.is_unproved() {
            let _ = self.directories[pack.directory].prove_pack(&pack);
        }
        let place = place.in_pack(&pack);
        Some((pack, place))
    }

    pub(crate) fn read(
        &self,
        id: ContentId,
        size: u64,
        range: ByteRange,
        buffer: &mut [u8],
        caching: Caching,
    ) -> ReadOutcome {
        self.read_by(Reach::Disk(caching), id, size, range, buffer).unwrap_or(ReadOutcome::Absent)
    }

    /// As `read`, by that way. None: it would have to wait.
    pub(crate) fn read_by(
        &self,
        reach: Reach,
        id: ContentId,
        size: u64,
        range: ByteRange,
        buffer: &mut [u8],
    ) -> Option<ReadOutcome> {
        assert!(
            range.end <= size && buffer.len() as u64 == range.len(),
            "the range lies in the content and fills the buffer"
        );
        if range.is_empty() {
            return Some(ReadOutcome::Filled);
        }
        let outcome = if is_small(size) {
            self.read_small(id, size, range, buffer, reach)
        } else {
            self.read_large(id, size, range, buffer, reach)
        };
        match outcome {
            Ok(()) => {
                Counters::add(&self.counters.bytes_read, range.len());
                Some(ReadOutcome::Filled)
            }
            Err(Failure::Waits) => None,
            Err(_) => {
                Counters::add(&self.counters.misses, 1);
                Some(ReadOutcome::Absent)
            }
        }
    }

    fn read_small(
        &self,
        id: ContentId,
        size: u64,
        range: ByteRange,
        buffer: &mut [u8],
        reach: Reach,
    ) -> Result<(), Failure> {
        let (pack, place) = self.small_here(id, size).ok_or(Failure::Absent)?;
        self.try_small(&pack, id, place, range, buffer, reach)
            .inspect(|()| self.small_was_read(&pack, id, place, range.len()))
            .inspect_err(|failure| self.small_failed(&pack, id, place, failure))
    }

    /// Counts a read of a small object, all of which was proved.
    pub(crate) fn small_was_read(&self, pack: &Arc<Pack>, id: ContentId, place: SmallPlace, bytes: u64) {
        let directory = &self.directories[pack.directory];
        pack.unit.hit(bytes, directory.clock());
        self.counters.hit(directory.class);
        if self.index.mark_read(id, place, pack) && self.has_tiers {
            self.promote_small(pack, id, place);
        }
    }

    /// Does what the failed read of a small object calls for.
    pub(crate) fn small_failed(&self, pack: &Arc<Pack>, id: ContentId, place: SmallPlace, failure: &Failure) {
        match failure {
            Failure::Absent | Failure::Waits => {}
            // A later record may say that it is gone: whoever asks for it then finds out.
            _ if self.directories[pack.directory].is_recovering() => {}
            Failure::Missing => self.pack_missing(pack),
            Failure::Damaged => self.small_damaged(pack, id, place),
            Failure::Unopenable(error) => {
                self.directories[pack.directory].read_failed(error);
                self.pack_missing(pack);
            }
            Failure::Device(error) => {
                self.directories[pack.directory].read_failed(error);
                self.small_damaged(pack, id, place);
            }
        }
    }

    fn try_small(
        &self,
        pack: &Pack,
        id: ContentId,
        place: SmallPlace,
        range: ByteRange,
        buffer: &mut [u8],
        reach: Reach,
    ) -> Result<(), Failure> {
        let len = u64::from(place.len());
        if place.is_verified() {
            let offset = u64::from(place.offset) + pack::header_len(len) as u64 + range.start;
            return self.read_pack(pack, buffer, offset, reach);
        }
        let mut entry = vec![0; pack::entry_len(len) as usize];
        self.read_pack(pack, &mut entry, place.offset.into(), reach)?;
        let data = pack::verify_entry(&entry, id, pack.group, len).ok_or(Failure::Damaged)?;
        buffer.copy_from_slice(&data[range.start as usize..range.end as usize]);
        Ok(())
    }

    /// Fills `space` from `offset` of a pack's file.
    pub(crate) fn read_pack<'a>(
        &self,
        pack: &Pack,
        space: impl Into<Space<'a>>,
        offset: u64,
        reach: Reach,
    ) -> Result<(), Failure> {
        let mut space = space.into();
        let directory = &self.directories[pack.directory];
        let Reach::Disk(caching) = reach else { return read_cached(&pack.file, space.bytes(), offset) };
        let file = pack.open(&directory.root, &self.files).map_err(Failure::of_opening)?;
        let open_direct = || pack.open_direct(&directory.root, &self.files);
        let past_cache = caching == Caching::Drop && directory.past_cache.fill(&file, open_direct, &mut space, offset);
        match past_cache || directory.root.read_at(&file, space.bytes(), offset, caching)? {
            true => Ok(()),
            // The file ends before.
            false => Err(Failure::Damaged),
        }
    }

    fn small_damaged(&self, pack: &Pack, id: ContentId, place: SmallPlace) {
        // Counted when nobody can read it any more.
        if self.index.remove_small(id, place, pack) {
            Counters::add(&self.counters.blocks_damaged, 1);
            self.directories[pack.directory].queue.order(Order::DropSmall(id, place));
        }
    }

    pub(crate) fn pack_missing(&self, pack: &Arc<Pack>) {
        let directory = &self.directories[pack.directory];
        directory.file_missing();
        // Not without its order: the room that it took would be counted for ever.
        if directory.queue.order(Order::DropPack(Arc::clone(pack))) && self.index.remove_pack(pack) {
            Counters::add(&self.counters.blocks_damaged, 1);
        }
    }

    fn read_large(
        &self,
        id: ContentId,
        size: u64,
        range: ByteRange,
        buffer: &mut [u8],
        reach: Reach,
    ) -> Result<(), Failure> {
        let large = self.large_here(id, size).ok_or(Failure::Absent)?;
        let outcome = match reach {
            Reach::Disk(caching) => self.try_large(&large, range, buffer, caching),
            Reach::Memory => self.try_large_cached(&large, range, buffer),
        };
        outcome
            .inspect(|()| self.large_was_read(&large, range.len()))
            .inspect_err(|failure| self.large_failed(&large, failure))
    }

    fn large_was_read(&self, large: &Arc<Large>, bytes: u64) {
        self.counters.hit(self.directories[large.directory].class);
        if self.has_tiers {
            self.promote_large(large, bytes);
        }
    }

    /// As `try_large`, without waiting.
    fn try_large_cached(&self, large: &Arc<Large>, range: ByteRange, buffer: &mut [u8]) -> Result<(), Failure> {
        let _gate = large.pages.try_reading().ok_or(Failure::Waits)?;
        self.prove_pages(large, range, |_, _| Err(Failure::Waits))?;
        read_cached(&large.file, buffer, range.start)
    }

    /// Does what the failed read of a large content calls for, beside what was done about the pages themselves.
    pub(crate) fn large_failed(&self, large: &Arc<Large>, failure: &Failure) {
        match failure {
            Failure::Absent | Failure::Waits | Failure::Damaged => {}
            Failure::Missing => self.large_missing(large),
            // Its pages are withdrawn; the others are as good as before.
            Failure::Device(error) => self.directories[large.directory].read_failed(error),
            Failure::Unopenable(error) => {
                self.directories[large.directory].read_failed(error);
                self.large_missing(large);
            }
        }
    }

    fn try_large(
        &self,
        large: &Arc<Large>,
        range: ByteRange,
        buffer: &mut [u8],
        caching: Caching,
    ) -> Result<(), Failure> {
        let directory = &self.directories[large.directory];
        // Until the bytes are in the buffer: a hole is punched only after everybody who saw the bits has left.
        let _gate = large.pages.reading();
        self.prove_pages(large, range, |extent, page| self.verify_page(large, extent, page, caching))?;
        let file = large.open(&directory.root, &self.files).map_err(Failure::of_opening)?;
        let open_direct = || large.open_direct(&directory.root, &self.files);
        if caching == Caching::Drop
            && range.len() >= DIRECT_MIN
            && directory.past_cache.fill(&file, open_direct, &mut buffer.into(), range.start)
        {
            return Ok(());
        }
        match directory.root.read_at(&file, buffer, range.start, caching).map_err(Failure::from) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(failure) => {
                if matches!(failure, Failure::Device(_)) {
                    self.pages_unreadable(large, range);
                }
                return Err(failure);
            }
        }
        // The file is shorter than its pages: somebody cut it.
        for page in pages_of(range) {
            if let Some(extent) = large.extent(page.extent()) {
                self.page_damaged(large, &extent, page);
            }
        }
        Err(Failure::Damaged)
    }

    /// Checks that all pages of `range` are resident, and has those verified that were not since the machine started. The
    /// gate is held.
    fn prove_pages(
        &self,
        large: &Large,
        range: ByteRange,
        verify: impl Fn(&Extent, PageIndex) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let clock = self.directories[large.directory].clock();
        let mut extent: Option<(ExtentIndex, Arc<Extent>)> = None;
        for page in pages_of(range) {
            let known = match extent.take() {
                Some((index, known)) if index == page.extent() => known,
                _ => large.extent(page.extent()).ok_or(Failure::Absent)?,
            };
            if !known.is_resident(page) {
                return Err(Failure::Absent);
            }
            if !known.is_verified(page) {
                verify(&known, page)?;
            }
            let bytes = range.intersect(ByteRange::at(page.start(), PAGE, large.size)).len();
            known.unit.hit(bytes, clock);
            extent = Some((page.extent(), known));
        }
        Ok(())
    }

    /// Reads a whole page and compares it with its sums. The gate is held.
    pub(crate) fn verify_page(
        &self,
        large: &Arc<Large>,
        extent: &Extent,
        page: PageIndex,
        caching: Caching,
    ) -> Result<(), Failure> {
        self.read_page(large, extent, page, caching).map(|_| ())
    }

    /// A whole page, compared with its sums. The gate is held.
    pub(crate) fn read_page(
        &self,
        large: &Arc<Large>,
        extent: &Extent,
        page: PageIndex,
        caching: Caching,
    ) -> Result<Vec<u8>, Failure> {
        let root = &self.directories[large.directory].root;
        let file = large.open(root, &self.files).map_err(Failure::of_opening)?;
        let mut bytes = vec![0; page_len(large.size, page) as usize];
        let whole = match root.read_at(&file, &mut bytes, page.start(), caching).map_err(Failure::from) {
            Ok(whole) => whole,
            Err(failure) => {
                if matches!(failure, Failure::Device(_)) {
                    self.pages_unreadable(large, ByteRange::at(page.start(), PAGE, large.size));
                }
                return Err(failure);
            }
        };
        let sums = extent.sums(page).iter().map(|sum| BlockSum(sum.load(Ordering::Relaxed)));
        if !whole || !bytes.chunks(BLOCK as usize).map(block_sum).eq(sums) {
            self.page_damaged(large, extent, page);
            return Err(Failure::Damaged);
        }
        extent.residency.verify(bit(page));
        Ok(bytes)
    }

    /// Withdraws the pages of a range that the device cannot read. They are written anew when they are next fetched, and
    /// their extent with them, for a page is never written again in place; until then the rest of it serves.
    fn pages_unreadable(&self, large: &Large, range: ByteRange) {
        for page in pages_of(range) {
            if let Some(extent) = large.extent(page.extent())
                && large.withdraw(&extent, page)
            {
                Counters::add(&self.counters.blocks_damaged, 1);
            }
        }
    }

    fn page_damaged(&self, large: &Arc<Large>, extent: &Extent, page: PageIndex) {
        // Other pages of the extent stay readable until the writer lets it go.
        if large.withdraw(extent, page) {
            Counters::add(&self.counters.blocks_damaged, 1);
            let order = Order::DropExtent(Arc::clone(large), page.extent());
            self.directories[large.directory].queue.order(order);
        }
    }

    fn large_missing(&self, large: &Arc<Large>) {
        let directory = &self.directories[large.directory];
        directory.file_missing();
        if directory.queue.order(Order::DropLarge(Arc::clone(large))) && self.index.remove_large(large) {
            Counters::add(&self.counters.blocks_damaged, 1);
        }
    }

    pub(crate) fn descriptor(&self, id: ContentId, size: u64) -> Option<Descriptor> {
        if is_small(size) {
            return None;
        }
        let large = self.large_here(id, size)?;
        let directory = &self.directories[large.directory];
        // As in reading: once the descriptor is open the kernel sees it, and until then the gate keeps the pages here.
        let _gate = large.pages.reading();
        if !large.is_whole_and_verified() {
            return None;
        }
        let lease = self.handed_out.lease(&large)?;
        // Opened by name while this process has the file open or not: the name is that of this generation, for it
        // changes only after an extent was taken out, which waits for the gate.
        let file = directory.root.open_to_read(&large.name()).ok()?;
        let clock = directory.clock();
        for extent in large.extents.read().values() {
            extent.unit.touch(clock);
        }
        if self.has_tiers {
            self.promote_large(&large, size);
        }
        Some(Descriptor { file: Arc::new(file), size, lease })
    }

    pub(crate) fn forget(&self, id: ContentId) {
        // First, so that what becomes known meanwhile is found here or there.
        for directory in self.directories.iter().filter(|directory| directory.is_recovering()) {
            directory.queue.order(Order::Forget(id));
        }
        // What is just being moved is found where it went.
        for _ in 0..FORGET_TRIES {
            let small = self.index.small(id);
            if let Some((pack, place)) = &small
                && self.directories[pack.directory].queue.order(Order::DropSmall(id, *place))
            {
                self.index.remove_small(id, *place, pack);
            }
            let large = self.index.large(id);
            if let Some(large) = &large
                && self.directories[large.directory].queue.order(Order::DropLarge(Arc::clone(large)))
            {
                self.index.remove_large(large);
            }
            if small.is_none() && large.is_none() {
                break;
            }
        }
    }
}

/// Fills `buffer` from the page cache, if the file is open and all of it is there.
fn read_cached(file: &FileSlot, buffer: &mut [u8], offset: u64) -> Result<(), Failure> {
    let file = file.opened().ok_or(Failure::Waits)?;
    if device::read_cached(&file, buffer, offset) { Ok(()) } else { Err(Failure::Waits) }
}

const _: () = assert!(PAGES_PER_EXTENT == 64, "a page's bit is in one u64");
