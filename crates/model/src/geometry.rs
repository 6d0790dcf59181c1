//! Blocks, pages, extents and ranges: pure arithmetic over offsets.

use serde::{Deserialize, Serialize};

/// The unit of checksum: 64 KiB.
pub const BLOCK: u64 = 64 << 10;
/// The unit of fetch and of residency: 1 MiB.
pub const PAGE: u64 = 1 << 20;
/// The unit of placement and of eviction of large contents: 64 MiB.
pub const EXTENT: u64 = 64 << 20;
/// Blocks in a whole page.
pub const BLOCKS_PER_PAGE: usize = (PAGE / BLOCK) as usize;
/// Pages in a whole extent.
pub const PAGES_PER_EXTENT: u32 = (EXTENT / PAGE) as u32;
/// The largest content that is a small object, in bytes: one page.
pub const SMALL_MAX: u64 = PAGE;

/// The largest content, in bytes: 2^32 - 1 pages. Larger objects are not shown.
pub const CONTENT_MAX: u64 = (u32::MAX as u64) * PAGE;

/// The number of a page in its content, from 0. At 2^32 pages a content may have 4 PiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PageIndex(pub u32);

/// The number of an extent in its content, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExtentIndex(pub u32);

/// Bytes `start..end` of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte; never below `start`.
    pub end: u64,
}

impl PageIndex {
    /// The page that holds byte `offset`.
    pub fn of(offset: u64) -> Self {
        Self(narrow(offset / PAGE))
    }

    /// Offset of its first byte.
    pub fn start(self) -> u64 {
        u64::from(self.0) * PAGE
    }

    /// The extent that it belongs to.
    pub fn extent(self) -> ExtentIndex {
        ExtentIndex(self.0 / PAGES_PER_EXTENT)
    }

    /// The page after it.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl ExtentIndex {
    /// Its first page.
    pub fn first_page(self) -> PageIndex {
        PageIndex(self.0 * PAGES_PER_EXTENT)
    }

    /// Offset of its first byte.
    pub fn start(self) -> u64 {
        u64::from(self.0) * EXTENT
    }
}

impl ByteRange {
    /// Bytes `start..end`; empty where `end` is below `start`.
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, end: end.max(start) }
    }

    /// `len` bytes from `start`, cut at `size`: what a read of that many bytes may return.
    pub fn at(start: u64, len: u64, size: u64) -> Self {
        let start = start.min(size);
        Self { start, end: start.saturating_add(len).min(size) }
    }

    /// Length in bytes.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether it holds no byte.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The part that both hold.
    pub fn intersect(self, other: Self) -> Self {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }
}

/// Whether a content of `size` bytes is a small object, kept in a pack.
pub fn is_small(size: u64) -> bool {
    size <= SMALL_MAX
}

/// Pages of a content of `size` bytes; 0 for an empty one.
pub fn page_count(size: u64) -> u32 {
    narrow(size.div_ceil(PAGE))
}

/// Length in bytes of `page` in a content of `size` bytes; 0 beyond its end.
pub fn page_len(size: u64, page: PageIndex) -> u64 {
    size.saturating_sub(page.start()).min(PAGE)
}

/// Blocks in `len` bytes that start at a block's boundary.
pub const fn block_count(len: u64) -> usize {
    len.div_ceil(BLOCK) as usize
}

/// The pages that `range` touches, in order.
pub fn pages_of(range: ByteRange) -> impl DoubleEndedIterator<Item = PageIndex> + Clone {
    let last = if range.is_empty() { 0 } else { narrow(range.end.div_ceil(PAGE)) };
    let first = if range.is_empty() { 0 } else { narrow(range.start / PAGE) };
    (first..last).map(PageIndex)
}

/// Page numbers fit in 32 bits by the limit on a content's size (4 PiB), which `Content`s are checked for where they enter.
fn narrow(pages: u64) -> u32 {
    u32::try_from(pages).expect("a content has at most 2^32 pages; larger objects are refused by the catalog")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_pages_at_their_edges() {
        for (size, pages, last) in [(0, 0, 0), (1, 1, 1), (PAGE - 1, 1, PAGE - 1), (PAGE, 1, PAGE), (PAGE + 1, 2, 1)] {
            assert_eq!(page_count(size), pages, "{size}");
            assert_eq!(page_len(size, PageIndex(pages.saturating_sub(1))), last, "{size}");
            assert_eq!(page_len(size, PageIndex(pages)), 0, "{size}");
        }
    }

    #[test]
    fn a_range_touches_the_pages_that_hold_its_bytes() {
        let pages = |start, end| pages_of(ByteRange::new(start, end)).map(|p| p.0).collect::<Vec<_>>();
        assert_eq!(pages(0, 0), Vec::<u32>::new());
        assert_eq!(pages(PAGE, PAGE), Vec::<u32>::new());
        assert_eq!(pages(0, 1), [0]);
        assert_eq!(pages(PAGE - 1, PAGE + 1), [0, 1]);
        assert_eq!(pages(PAGE, 2 * PAGE), [1]);
    }

    #[test]
    fn a_read_is_cut_at_the_end() {
        assert_eq!(ByteRange::at(10, 5, 12), ByteRange::new(10, 12));
        assert_eq!(ByteRange::at(13, 5, 12), ByteRange::new(12, 12));
        assert_eq!(ByteRange::at(u64::MAX, u64::MAX, 12), ByteRange::new(12, 12));
    }
}
