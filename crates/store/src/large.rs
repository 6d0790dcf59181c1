//! Large contents: one sparse file each, and in memory which of its pages are resident (`residency`).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use forebay_model::{
    BLOCKS_PER_PAGE, ContentId, EXTENT, ExtentIndex, PAGE, PAGES_PER_EXTENT, PageIndex, block_count, page_count,
    page_len,
};
use parking_lot::{Mutex, RwLock};

use crate::device::Root;
use crate::directory::Holder;
use crate::eviction::{Owner, Unit};
use crate::files::{Barred, FileSlot, OpenFiles};
use crate::residency::{Pages, Residency};

/// The folder of large contents in a directory.
pub(crate) const LARGE: &str = "large";

/// A large content on one directory.
#[derive(Debug)]
pub(crate) struct Large {
    pub(crate) id: ContentId,
    pub(crate) size: u64,
    pub(crate) group: u64,
    /// The directory that holds it.
    pub(crate) directory: usize,
    /// Part of the file's name; a new one with every hole that is punched, so that an index that has forgotten a hole
    /// does not find the file.
    pub(crate) generation: AtomicU64,
    /// Its descriptor: the only one that this process has of it, beside `direct` and those handed out.
    pub(crate) file: Arc<FileSlot>,
    /// Its descriptor for reading past the page cache: barred while the kernel is asked for a write lease.
    pub(crate) direct: Arc<FileSlot>,
    /// What is resident. An extent that has no page resident or being written is not in it.
    pub(crate) extents: RwLock<BTreeMap<u32, Arc<Extent>>>,
    /// How many are, and the gate of those who read them.
    pub(crate) pages: Pages,
    /// Descriptors handed out by this process and not given back.
    pub(crate) handouts: AtomicU32,
    /// The file is unlinked or about to be.
    pub(crate) gone: AtomicBool,
    /// When it was made, or recovered.
    pub(crate) begun: Mutex<Instant>,
    /// Bytes read since it was last asked for by a faster directory. Counted only if there is one.
    pub(crate) read: AtomicU64,
    /// It is being copied to another directory.
    pub(crate) is_moving: AtomicBool,
    /// Whether what the log says of its pages being verified can be relied on hangs on when its file was changed.
    pub(crate) is_unproved: AtomicBool,
}

/// One extent of a content.
#[derive(Debug)]
pub(crate) struct Extent {
    pub(crate) unit: Arc<Unit>,
    pub(crate) residency: Residency,
    sums: Box<[AtomicU64]>,
}

impl Large {
    pub(crate) fn new(
        (id, size, group): (ContentId, u64, u64),
        directory: usize,
        generation: u64,
        file: Arc<FileSlot>,
    ) -> Self {
        Self {
            id,
            size,
            group,
            directory,
            generation: AtomicU64::new(generation),
            file,
            direct: Arc::default(),
            extents: RwLock::new(BTreeMap::new()),
            pages: Pages::new(),
            handouts: AtomicU32::new(0),
            gone: AtomicBool::new(false),
            begun: Instant::now().into(),
            read: AtomicU64::new(0),
            is_moving: AtomicBool::new(false),
            is_unproved: AtomicBool::new(false),
        }
    }

    /// Its file's name now.
    pub(crate) fn name(&self) -> String {
        name(self.id, self.generation.load(Ordering::Acquire))
    }

    /// Believes the log if the file was not changed since that was: after it somebody else did, and every page is to be
    /// compared again. False if it was.
    pub(crate) fn prove(&self, root: &Root, log_written_ns: i128) -> bool {
        if !self.is_unproved.load(Ordering::Acquire) {
            return true;
        }
        let is_as_it_was = root.changed_ns(&self.name()).is_some_and(|changed| changed < log_written_ns);
        if !is_as_it_was {
            self.forget_verified();
        }
        self.is_unproved.store(false, Ordering::Release);
        is_as_it_was
    }

    /// Every page is to be compared with its sums when it is next read.
    pub(crate) fn forget_verified(&self) {
        for extent in self.extents.read().values() {
            extent.residency.forget_verified();
        }
    }

    /// Its file.
    pub(crate) fn open(&self, root: &Root, files: &OpenFiles) -> io::Result<Arc<OwnedFd>> {
        self.file.get(files, || root.open_own(&self.name()))
    }

    /// Its file, for reading past the page cache; none while that must stay closed. The gate is held.
    pub(crate) fn open_direct(&self, root: &Root, files: &OpenFiles) -> io::Result<Option<Arc<OwnedFd>>> {
        self.direct.get_unless_barred(files, || root.open_direct(&self.name()))
    }

    /// Leaves `file` as this process's only description of the file until the guard is dropped. Passes the gate, so that
    /// nobody still reads by another.
    pub(crate) fn bar_direct(&self) -> Barred<'_> {
        let barred = self.direct.bar();
        self.pages.pass();
        barred
    }

    /// Lets go of its files.
    pub(crate) fn close(&self) {
        self.file.close();
        self.direct.close();
    }

    pub(crate) fn extent(&self, extent: ExtentIndex) -> Option<Arc<Extent>> {
        self.extents.read().get(&extent.0).cloned()
    }

    pub(crate) fn has_page(&self, page: PageIndex) -> bool {
        self.extents.read().get(&page.extent().0).is_some_and(|extent| extent.is_resident(page))
    }

    /// Whether every page is resident, and verified since the machine started.
    pub(crate) fn is_whole_and_verified(&self) -> bool {
        if !self.is_whole() {
            return false;
        }
        let extents = self.extents.read();
        extents.len() as u64 == self.size.div_ceil(EXTENT)
            && extents.iter().all(|(index, extent)| {
                let all = self.all_pages(ExtentIndex(*index));
                extent.residency.resident() == all && extent.residency.verified() == all
            })
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.pages.resident() == page_count(self.size)
    }

    /// The bits of all pages of an extent.
    pub(crate) fn all_pages(&self, extent: ExtentIndex) -> u64 {
        match page_count(self.size).saturating_sub(extent.first_page().0) {
            pages if pages >= PAGES_PER_EXTENT => u64::MAX,
            pages => (1 << pages) - 1,
        }
    }

    /// Makes a page readable. Its bytes, sums and record are written.
    pub(crate) fn publish(&self, extent: &Extent, page: PageIndex) {
        self.pages.publish(&extent.residency, bit(page));
    }

    /// Makes a page absent. True if it was resident.
    pub(crate) fn withdraw(&self, extent: &Extent, page: PageIndex) -> bool {
        self.pages.withdraw(&extent.residency, bit(page))
    }

    /// Takes an extent out: all its pages are absent from now on. Passes the gate, so that nobody reads them any more.
    pub(crate) fn take_extent(&self, extent: ExtentIndex) -> Option<Arc<Extent>> {
        let taken = self.extents.write().remove(&extent.0)?;
        self.pages.withdraw_all(&taken.residency);
        self.pages.pass();
        Some(taken)
    }

    /// Bytes of the resident or written pages of an extent.
    pub(crate) fn bytes_of(&self, extent: ExtentIndex, mask: u64) -> u64 {
        pages_in(extent, mask).map(|page| page_len(self.size, page)).sum()
    }
}

impl Extent {
    /// An extent of `large` on `holder`, with nothing resident.
    pub(crate) fn new(holder: &dyn Holder, large: &Arc<Large>, extent: ExtentIndex) -> Self {
        let unit = holder.new_unit(Owner::Extent(Arc::downgrade(large), extent), large.group);
        let blocks = block_count(large.size.saturating_sub(extent.start()).min(EXTENT));
        Self { unit, residency: Residency::new(), sums: (0..blocks).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(crate) fn is_resident(&self, page: PageIndex) -> bool {
        self.residency.resident() & bit(page) != 0
    }

    pub(crate) fn is_verified(&self, page: PageIndex) -> bool {
        self.residency.verified() & bit(page) != 0
    }

    /// The sums of a page's blocks.
    pub(crate) fn sums(&self, page: PageIndex) -> &[AtomicU64] {
        let first = (page.0 % PAGES_PER_EXTENT) as usize * BLOCKS_PER_PAGE;
        &self.sums[first..self.sums.len().min(first + BLOCKS_PER_PAGE)]
    }
}

/// The bit of a page in its extent.
pub(crate) fn bit(page: PageIndex) -> u64 {
    1 << (page.0 % PAGES_PER_EXTENT)
}

/// The pages whose bits are set.
pub(crate) fn pages_in(extent: ExtentIndex, mask: u64) -> impl Iterator<Item = PageIndex> {
    (0..PAGES_PER_EXTENT).filter(move |n| mask & (1 << n) != 0).map(move |n| PageIndex(extent.first_page().0 + n))
}

/// The folder of a content's file, from the directory.
pub(crate) fn folder(id: ContentId) -> String {
    format!("{LARGE}/{:02x}", id.as_u128() >> 120)
}

/// The name of a content's file in its directory.
pub(crate) fn name(id: ContentId, generation: u64) -> String {
    format!("{}/{id}.{generation:016x}", folder(id))
}

/// The id and generation in a file name. A name that the store does not give has none.
pub(crate) fn parse_name(file_name: &str) -> Option<(ContentId, u64)> {
    let (id, generation) = file_name.split_once('.')?;
    let id = ContentId::from_u128(u128::from_str_radix(id, 16).ok()?);
    let generation = u64::from_str_radix(generation, 16).ok()?;
    (name(id, generation) == format!("{}/{file_name}", folder(id))).then_some((id, generation))
}

const _: () = assert!(EXTENT / PAGE == 64, "residency of an extent is one u64");

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let id = ContentId::from_u128(0xab << 120 | 5);
        assert_eq!(folder(id), "large/ab");
        let name = name(id, 9);
        assert_eq!(parse_name(name.rsplit('/').next().unwrap()), Some((id, 9)));
        assert_eq!(parse_name("index.log"), None);
        let id = id.to_string();
        for other in [
            format!("+{}.0000000000000009", &id[1..]),
            format!("{}.0000000000000009", id.to_uppercase()),
            format!("{id}.9"),
        ] {
            assert_eq!(parse_name(&other), None, "{other}");
        }
    }

    #[test]
    fn the_last_extent_has_the_pages_that_are_left() {
        let large = |size| Large::new((ContentId::from_u128(1), size, 0), 0, 0, Arc::default());
        assert_eq!(large(EXTENT).all_pages(ExtentIndex(0)), u64::MAX);
        assert_eq!(large(EXTENT + 1).all_pages(ExtentIndex(1)), 1);
        assert_eq!(large(EXTENT).all_pages(ExtentIndex(1)), 0);
        assert_eq!(large(PAGE + 1).all_pages(ExtentIndex(0)), 0b11);
    }
}
