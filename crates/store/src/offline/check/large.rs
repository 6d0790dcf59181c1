//! Large contents: whether the pages that the log knows are there and as they were written.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use forebay_model::{BLOCK, BlockSum, ExtentIndex, PAGE, PageIndex, block_sum, page_len};

use super::{Check, Level, block, fate};
use crate::large::{Extent, Large, pages_in};
use crate::offline::{Event, Fate, Finding, Flaw, Flow, Lost, content_of};
use crate::read::Caching;

/// A large content's file.
struct LargeFile<'a> {
    large: &'a Large,
    name: String,
    file: OwnedFd,
    len: u64,
}

impl Check<'_> {
    pub(super) fn large(&mut self, large: &Large) -> Flow {
        let content = content_of(large);
        self.summary.contents += 1;
        self.summary.bytes_resident += content.bytes_resident;
        let lost = match self.open(&content.file) {
            Ok((file, len)) => self.extents(&LargeFile { large, name: content.file.clone(), file, len })?,
            Err(flaw) => {
                let (file, bytes) = (content.file.clone(), content.bytes_resident);
                let (content, fate, lost) = (Some(large.id), Fate::Dropped, Lost::Content);
                self.found(&Finding { file, offset: 0, bytes, content, flaw, fate, lost })?;
                bytes
            }
        };
        if lost > 0 {
            self.loses(lost);
        }
        (self.each)(Event::Large(&content))
    }

    /// Bytes of a content that would be dropped.
    fn extents(&mut self, file: &LargeFile<'_>) -> ControlFlow<(), u64> {
        let mut lost = 0;
        let mut buffer = vec![0; if self.level == Level::Data { PAGE as usize } else { 0 }];
        for (index, extent) in file.large.extents.read().iter() {
            lost += self.extent(file, ExtentIndex(*index), extent, &mut buffer)?;
        }
        ControlFlow::Continue(lost)
    }

    /// Bytes of an extent that would be dropped.
    fn extent(
        &mut self,
        file: &LargeFile<'_>,
        index: ExtentIndex,
        extent: &Extent,
        buffer: &mut [u8],
    ) -> ControlFlow<(), u64> {
        let large = file.large;
        let resident = extent.residency.resident();
        let (mut is_dropped, mut pages_lost) = (false, 0);
        for page in pages_in(index, resident) {
            let (start, end) = (page.start(), page.start() + page_len(large.size, page));
            if end > file.len {
                is_dropped = true;
                let offset = file.len.max(start);
                let what = (Flaw::Short, Fate::Dropped, Lost::Extent(index.0));
                self.found(&file.finding(offset, end - offset, what))?;
                continue;
            }
            if self.level == Level::Files {
                continue;
            }
            let bytes = &mut buffer[..(end - start) as usize];
            match self.of.root.read_at(&file.file, bytes, start, Caching::Drop) {
                Ok(true) => {
                    let wrong = damaged(extent, page, bytes);
                    self.compared(end - start)?;
                    let fate = fate(extent.is_verified(page));
                    for (offset, bytes) in wrong {
                        is_dropped |= fate == Fate::Dropped;
                        let what = (Flaw::Data, fate, Lost::Extent(index.0));
                        self.found(&file.finding(start + offset, bytes, what))?;
                    }
                }
                // It was cut since.
                Ok(false) => {
                    is_dropped = true;
                    let what = (Flaw::Short, Fate::Dropped, Lost::Extent(index.0));
                    self.found(&file.finding(start, end - start, what))?;
                }
                // The others of the extent serve until it is fetched anew.
                Err(error) => {
                    pages_lost += end - start;
                    let what = (Flaw::Unreadable(error.to_string()), Fate::Dropped, Lost::Page);
                    self.found(&file.finding(start, end - start, what))?;
                }
            }
        }
        ControlFlow::Continue(if is_dropped { large.bytes_of(index, resident) } else { pages_lost })
    }
}

impl LargeFile<'_> {
    fn finding(&self, offset: u64, bytes: u64, (flaw, fate, lost): (Flaw, Fate, Lost)) -> Finding {
        Finding { file: self.name.clone(), offset, bytes, content: Some(self.large.id), flaw, fate, lost }
    }
}

/// The blocks of a page that have other sums than those that the log has: where in the page, and their lengths.
fn damaged(extent: &Extent, page: PageIndex, bytes: &[u8]) -> Vec<(u64, u64)> {
    let sums = extent.sums(page).iter().map(|sum| BlockSum(sum.load(Ordering::Relaxed)));
    let pairs = bytes.chunks(BLOCK as usize).zip(sums).enumerate();
    let wrong = pairs.filter(|(_, (bytes, sum))| block_sum(bytes) != *sum);
    wrong.map(|(number, _)| block(number, bytes.len() as u64)).collect()
}
