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

use crate::handout::Descriptor;
use crate::index::{PackUse, SmallPlace};
use crate::large::{Extent, Large, bit};
use crate::metrics::Counters;
use crate::pack::{self, Pack};
use crate::queue::Order;
use crate::shared::Shared;

/// Ranges of large contents from this length on are read past the page cache if asked to. Shorter ones come from readers
/// whose own read-ahead is small: the kernel's serves them better.
const DIRECT_MIN: u64 = 256 << 10;

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

/// Why a read came to nothing. Each is handled before the caller hears of it.
enum Failure {
    /// Not here.
    Absent,
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
            return if self.small_is_here(id, size) { Residency::Whole } else { Residency::None };
        }
        match self.large_here(id, size) {
            None => Residency::None,
            Some(large) if large.is_whole() => Residency::Whole,
            Some(large) if large.resident.load(Ordering::Acquire) > 0 => Residency::Partial,
            Some(_) => Residency::None,
        }
    }

    pub(crate) fn has_page(&self, id: ContentId, page: PageIndex) -> bool {
        match self.index.large(id) {
            Some(large) => self.is_readable(large.directory) && large.has_page(page),
            None => page.0 == 0 && self.index.small(id).is_some_and(|(pack, _)| self.is_readable(pack.directory)),
        }
    }

    fn is_readable(&self, directory: usize) -> bool {
        !self.is_closed() && !self.directories[directory].is_down()
    }

    fn small_is_here(&self, id: ContentId, size: u64) -> bool {
        let here =
            |(pack, place): (PackUse, SmallPlace)| u64::from(place.len()) == size && self.is_readable(pack.directory);
        self.index.small(id).is_some_and(here)
    }

    fn large_here(&self, id: ContentId, size: u64) -> Option<Arc<Large>> {
        self.index.large(id).filter(|large| large.size == size && self.is_readable(large.directory))
    }

    pub(crate) fn read(
        &self,
        id: ContentId,
        size: u64,
        range: ByteRange,
        buffer: &mut [u8],
        caching: Caching,
    ) -> ReadOutcome {
        assert!(
            range.end <= size && buffer.len() as u64 == range.len(),
            "the range lies in the content and fills the buffer"
        );
        if range.is_empty() {
            return ReadOutcome::Filled;
        }
        let filled = if is_small(size) {
            self.read_small(id, size, range, buffer, caching)
        } else {
            self.read_large(id, size, range, buffer, caching)
        };
        if filled {
            Counters::add(&self.counters.hits, 1);
            Counters::add(&self.counters.bytes_read, range.len());
            ReadOutcome::Filled
        } else {
            Counters::add(&self.counters.misses, 1);
            ReadOutcome::Absent
        }
    }

    fn read_small(&self, id: ContentId, size: u64, range: ByteRange, buffer: &mut [u8], caching: Caching) -> bool {
        let Some((pack, place)) = self.index.small(id) else { return false };
        if u64::from(place.len()) != size || !self.is_readable(pack.directory) {
            return false;
        }
        match self.try_small(&pack, id, place, range, buffer, caching) {
            Ok(()) => {
                pack.unit.hit(range.len(), self.directories[pack.directory].clock());
                return true;
            }
            Err(Failure::Absent) => {}
            // A later record may say that it is gone: whoever asks for it then finds out.
            Err(_) if self.directories[pack.directory].is_recovering() => {}
            Err(Failure::Missing) => self.pack_missing(&pack),
            Err(Failure::Damaged) => self.small_damaged(&pack, id, place),
            Err(Failure::Unopenable(error)) => {
                self.directories[pack.directory].read_failed(&error);
                self.pack_missing(&pack);
            }
            Err(Failure::Device(error)) => {
                self.directories[pack.directory].read_failed(&error);
                self.small_damaged(&pack, id, place);
            }
        }
        false
    }

    fn try_small(
        &self,
        pack: &Pack,
        id: ContentId,
        place: SmallPlace,
        range: ByteRange,
        buffer: &mut [u8],
        caching: Caching,
    ) -> Result<(), Failure> {
        let directory = &self.directories[pack.directory];
        let file = pack.open(&directory.root, &self.files).map_err(Failure::of_opening)?;
        let read_at = |buffer: &mut [u8], offset| {
            let open_direct = || pack.open_direct(&directory.root, &self.files);
            match caching == Caching::Drop && directory.past_cache.fill(&file, open_direct, buffer, offset)
                || directory.root.read_at(&file, buffer, offset, caching)?
            {
                true => Ok(()),
                false => Err(Failure::Damaged),
            }
        };
        let len = u64::from(place.len());
        if place.is_verified() {
            let offset = u64::from(place.offset) + pack::header_len(len) as u64 + range.start;
            return read_at(buffer, offset);
        }
        let mut entry = vec![0; pack::entry_len(len) as usize];
        read_at(&mut entry, place.offset.into())?;
        let data = pack::verify_entry(&entry, id, pack.group, len).ok_or(Failure::Damaged)?;
        buffer.copy_from_slice(&data[range.start as usize..range.end as usize]);
        self.index.mark_verified(id, place);
        Ok(())
    }

    fn small_damaged(&self, pack: &Pack, id: ContentId, place: SmallPlace) {
        Counters::add(&self.counters.blocks_damaged, 1);
        if self.index.remove_small(id, place, pack) {
            self.directories[pack.directory].queue.order(Order::DropSmall(id, place));
        }
    }

    fn pack_missing(&self, pack: &Arc<Pack>) {
        let directory = &self.directories[pack.directory];
        directory.file_missing();
        // Not without its order: the room that it took would be counted for ever.
        if directory.queue.order(Order::DropPack(Arc::clone(pack))) && self.index.remove_pack(pack) {
            Counters::add(&self.counters.blocks_damaged, 1);
        }
    }

    fn read_large(&self, id: ContentId, size: u64, range: ByteRange, buffer: &mut [u8], caching: Caching) -> bool {
        let Some(large) = self.large_here(id, size) else { return false };
        match self.try_large(&large, range, buffer, caching) {
            Ok(()) => return true,
            Err(Failure::Absent | Failure::Damaged) => {}
            Err(Failure::Missing) => self.large_missing(&large),
            // Its pages are withdrawn; the others are as good as before.
            Err(Failure::Device(error)) => self.directories[large.directory].read_failed(&error),
            Err(Failure::Unopenable(error)) => {
                self.directories[large.directory].read_failed(&error);
                self.large_missing(&large);
            }
        }
        false
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
        let _gate = large.gate.read();
        self.prove_pages(large, range, caching)?;
        let file = large.open(&directory.root, &self.files).map_err(Failure::of_opening)?;
        let open_direct = || large.open_direct(&directory.root, &self.files);
        if caching == Caching::Drop
            && range.len() >= DIRECT_MIN
            && directory.past_cache.fill(&file, open_direct, buffer, range.start)
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

    /// Checks that all pages of `range` are resident, and verifies those that were not since the machine started. The
    /// gate is held.
    fn prove_pages(&self, large: &Arc<Large>, range: ByteRange, caching: Caching) -> Result<(), Failure> {
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
                self.verify_page(large, &known, page, caching)?;
            }
            let bytes = range.intersect(ByteRange::at(page.start(), PAGE, large.size)).len();
            known.unit.hit(bytes, clock);
            extent = Some((page.extent(), known));
        }
        Ok(())
    }

    /// Reads a whole page and compares it with its sums. The gate is held.
    fn verify_page(
        &self,
        large: &Arc<Large>,
        extent: &Extent,
        page: PageIndex,
        caching: Caching,
    ) -> Result<(), Failure> {
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
        extent.verified.fetch_or(bit(page), Ordering::Release);
        Ok(())
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
        let _gate = large.gate.read();
        if !large.is_whole_and_verified() {
            return None;
        }
        let lease = self.handed_out.lease(&large)?;
        // Opened by name while this process has the file open or not: the name is that of this generation, for it
        // changes only after an extent was taken out, which waits for the gate.
        let file = directory.root.open_to_hand_out(&large.name()).ok()?;
        let clock = directory.clock();
        for extent in large.extents.read().values() {
            extent.unit.touch(clock);
        }
        Some(Descriptor { file: Arc::new(file), size, lease })
    }

    pub(crate) fn forget(&self, id: ContentId) {
        // First, so that what becomes known meanwhile is found here or there.
        for directory in self.directories.iter().filter(|directory| directory.is_recovering()) {
            directory.queue.order(Order::Forget(id));
        }
        if let Some((pack, place)) = self.index.small(id)
            && self.directories[pack.directory].queue.order(Order::DropSmall(id, place))
        {
            self.index.remove_small(id, place, &pack);
        }
        if let Some(large) = self.index.large(id)
            && self.directories[large.directory].queue.order(Order::DropLarge(Arc::clone(&large)))
        {
            self.index.remove_large(&large);
        }
    }
}

const _: () = assert!(PAGES_PER_EXTENT == 64, "a page's bit is in one u64");
