//! Reads and writes whose bytes the kernel's page cache is not to keep, because whoever asks keeps them himself (a mount).
//!
//! What is in the page cache already is taken from there: just written pages are. The rest is read from the disk by
//! `O_DIRECT`: no page is made and thrown away, which costs less, and leaves the pages that the reader is about to fill in
//! the order in which they are free. (Pages just thrown away are handed out again last first, and a hot file that lies
//! backwards in memory is read a fifth slower: `docs/decisions/0003-reads-past-the-page-cache.md`.)
//!
//! Always true: this is a short cut only. Whatever goes wrong in a read here, the caller reads through the store's own
//! descriptor and learns there what is the matter; and where it cannot be done at all he is told so, once and for all.
#![expect(unsafe_code, reason = "no crate wraps cachestat")]

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

#[cfg(test)]
use crate::device::journal;
use crate::scratch::{self, PIECE, Region};

/// What `O_DIRECT` wants offsets, lengths and addresses to be multiples of: no disk asks for more.
pub(crate) const ALIGN: usize = 4096;
/// Bytes of one read into a piece of scratch memory, which has a page more at either end.
pub(crate) const READ_MAX: usize = PIECE - 2 * ALIGN;
/// `cachestat(2)` of Linux 6.5: the same number on every architecture.
const SYS_CACHESTAT: libc::c_long = 451;

thread_local! {
    /// Where a writer's thread puts the parts of a page together.
    static WHOLE: RefCell<Option<Region>> = const { RefCell::new(None) };
}

/// What a directory's file system and kernel can do of this.
#[derive(Debug)]
pub(crate) struct PastCache {
    works: AtomicBool,
    /// Off for a file system that takes such writes and puts them into the page cache all the same.
    writes: AtomicBool,
}

/// Where bytes are to lie: somewhere in memory whose rest may be written over.
pub(crate) struct Space<'a> {
    memory: &'a mut [u8],
    range: Range<usize>,
}

impl<'a> Space<'a> {
    /// `range` of `memory`.
    pub(crate) fn within(memory: &'a mut [u8], range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= memory.len(), "{range:?} lies in the memory");
        Self { memory, range }
    }

    /// The bytes themselves.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.range.clone()]
    }

    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// The memory in whole blocks that a read from `offset` on takes, if the bytes lie in it as they do on the disk.
    fn blocks(&mut self, offset: u64) -> Option<&mut [u8]> {
        let start = self.range.start.checked_sub(offset as usize % ALIGN)?;
        let end = start + (self.range.end - start).next_multiple_of(ALIGN);
        self.memory.get_mut(start..end).filter(|blocks| is_aligned(blocks.as_ptr() as usize))
    }
}

impl<'a> From<&'a mut [u8]> for Space<'a> {
    fn from(memory: &'a mut [u8]) -> Self {
        let range = 0..memory.len();
        Self { memory, range }
    }
}

impl<'a> From<&'a mut Vec<u8>> for Space<'a> {
    fn from(memory: &'a mut Vec<u8>) -> Self {
        memory.as_mut_slice().into()
    }
}

#[repr(C)]
struct CachestatRange {
    off: u64,
    len: u64,
}

#[repr(C)]
struct Cachestat {
    cache: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

impl PastCache {
    pub(crate) fn new() -> Self {
        Self { works: AtomicBool::new(true), writes: AtomicBool::new(true) }
    }

    /// Writes `parts` at `offset`; they are `len` bytes, and both are multiples of a disk's sector. False: they have not
    /// reached the disk, for this cannot be done here; `own` is asked whether they are in the page cache instead.
    pub(crate) fn write<'a>(
        &self,
        (own, direct): (&OwnedFd, &OwnedFd),
        parts: impl Iterator<Item = &'a [u8]>,
        len: usize,
        offset: u64,
    ) -> io::Result<bool> {
        if !self.works.load(Ordering::Relaxed) || !self.writes.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let outcome = WHOLE.with_borrow_mut(|region| {
            if region.is_none() {
                *region = Region::new();
            }
            let all = region.as_mut().and_then(|region| region.get_mut(..len)).ok_or(Errno::NOMEM)?;
            let mut at = 0;
            for part in parts {
                all[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            write_all(direct, all, offset)
        });
        match outcome {
            Ok(()) => {
                let is_there = cached_pages(own, offset, len as u64).is_ok_and(|pages| pages == (len / ALIGN) as u64);
                if is_there {
                    self.writes.store(false, Ordering::Relaxed);
                }
                Ok(!is_there)
            }
            Err(errno) if is_unable(errno) => {
                self.works.store(false, Ordering::Relaxed);
                Ok(false)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Fills `space` from `offset`, from the disk. False: not tried, or not done; its contents mean nothing then.
    /// `own` is asked what the page cache has; `open` gives the descriptor with `O_DIRECT`, or none while it must stay
    /// closed.
    pub(crate) fn fill(
        &self,
        own: &OwnedFd,
        open: impl FnOnce() -> io::Result<Option<Arc<OwnedFd>>>,
        space: &mut Space<'_>,
        offset: u64,
    ) -> bool {
        if !self.works.load(Ordering::Relaxed) {
            return false;
        }
        let attempt = || {
            if cached_pages(own, offset, space.len() as u64)? > 0 {
                return Ok(false);
            }
            match open()? {
                Some(file) => read(&file, space, offset),
                None => Ok(false),
            }
        };
        attempt().unwrap_or_else(|error: io::Error| {
            if Errno::from_io_error(&error).is_some_and(is_unable) {
                self.works.store(false, Ordering::Relaxed);
            }
            false
        })
    }
}

/// How many pages of a range are in the page cache. Dirty ones would have to be written before a direct read, and clean ones
/// are there for nothing.
pub(crate) fn cached_pages(file: &OwnedFd, offset: u64, len: u64) -> io::Result<u64> {
    let range = CachestatRange { off: offset, len };
    let mut answer = MaybeUninit::<Cachestat>::zeroed();
    // SAFETY: both structures have the kernel's layout and live through the call; the descriptor is open, for `file` owns it.
    let result = unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const range, answer.as_mut_ptr(), 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was zeroed, which is a value of this type.
    Ok(unsafe { answer.assume_init() }.cache)
}

/// Fills `space` from `offset`. False: the file ends before that.
fn read(file: &OwnedFd, space: &mut Space<'_>, offset: u64) -> io::Result<bool> {
    let (skip, len) = (offset as usize % ALIGN, space.len());
    if let Some(blocks) = space.blocks(offset) {
        return Ok(read_up_to(file, blocks, offset - skip as u64)? >= skip + len);
    }
    let buffer = space.bytes();
    let Some(mut scratch) = scratch::lend() else { return Ok(false) };
    let mut done = 0;
    while done < buffer.len() {
        let at = offset + done as u64;
        let skip = at as usize % ALIGN;
        let take = (buffer.len() - done).min(READ_MAX);
        let piece = &mut scratch[..(skip + take).next_multiple_of(ALIGN)];
        if read_up_to(file, piece, at - skip as u64)? < skip + take {
            return Ok(false);
        }
        buffer[done..done + take].copy_from_slice(&piece[skip..skip + take]);
        done += take;
    }
    Ok(true)
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    #[cfg(test)]
    journal::on_file(file, |file| journal::written(file, offset, &[bytes]));
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Whether an error says that the kernel or the file system has no such thing.
fn is_unable(errno: Errno) -> bool {
    [Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS, Errno::PERM].contains(&errno)
}

/// Reads until `buffer` is full or the file ends. How much it was.
fn read_up_to(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(file, &mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        if !is_aligned(done) {
            // Only the end of the file is not.
            break;
        }
    }
    Ok(done)
}

fn is_aligned(number: usize) -> bool {
    number.is_multiple_of(ALIGN)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    /// A file of `len` bytes that the page cache has nothing of.
    fn file(len: usize) -> (tempfile::TempDir, Vec<u8>, OwnedFd, Arc<OwnedFd>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let bytes: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let own = File::open(&path).unwrap();
        own.sync_all().unwrap();
        let own = OwnedFd::from(own);
        rustix::fs::fadvise(&own, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let direct = File::options().read(true).write(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
        (directory, bytes, own, Arc::new(direct.into()))
    }

    #[test]
    fn every_range_has_its_bytes() {
        let len = 3 * (1 << 20) + 1234;
        let (_directory, bytes, own, direct) = file(len);
        let past = PastCache::new();
        let ranges = [
            (0, 1),
            (0, 4096),
            (4096, 8192),
            (1, 4096),
            (4095, 4098),
            (100, 1 << 20),
            (8191, (1 << 20) + 8192),
            (0, len),
            (17, len),
            (len - 1, len),
            (len - 1234, len),
            (1 << 20, 2 << 20),
        ];
        for (start, end) in ranges {
            let mut buffer = vec![0; end - start];
            assert!(
                past.fill(&own, || Ok(Some(direct.clone())), &mut Space::from(&mut buffer), start as u64),
                "{start}..{end}"
            );
            assert!(buffer == bytes[start..end], "{start}..{end}");
        }
        let mut past_the_end = vec![0; 10];
        assert!(!past.fill(&own, || Ok(Some(direct.clone())), &mut Space::from(&mut past_the_end), len as u64 - 5));
        assert!(!past.fill(&own, || Ok(Some(direct)), &mut Space::from(&mut past_the_end), len as u64 + 4096));
    }

    #[test]
    fn bytes_that_lie_in_memory_as_on_the_disk_come_without_a_copy() {
        let (_directory, bytes, own, direct) = file(1 << 20);
        let past = PastCache::new();
        let mut memory = scratch::lend().unwrap();
        for (start, end) in [(4096, 8192), (5000, 5001), (4095, 4097), (8191, 250_000), ((1 << 20) - 10, 1 << 20)] {
            let skip = start % ALIGN;
            let mut space = Space::within(&mut memory, skip..skip + end - start);
            assert_eq!(space.blocks(start as u64).unwrap().len() % ALIGN, 0, "{start}..{end}");
            assert!(past.fill(&own, || Ok(Some(direct.clone())), &mut space, start as u64), "{start}..{end}");
            assert!(space.bytes() == &bytes[start..end], "{start}..{end}");
        }
        let mut other = Space::within(&mut memory, 100..200);
        assert!(other.blocks(99).is_none() && other.blocks(101).is_none() && other.blocks(4096 + 100).is_some());
        assert!(past.fill(&own, || Ok(Some(direct.clone())), &mut other, 99));
        assert!(other.bytes() == &bytes[99..199]);
        let mut beyond = Space::within(&mut memory, 4090..4100);
        assert!(!past.fill(&own, || Ok(Some(direct)), &mut beyond, (1 << 20) - 6), "the file ends before");
    }

    #[test]
    fn what_is_cached_is_left_to_the_page_cache() {
        let (directory, bytes, own, direct) = file(100_000);
        let past = PastCache::new();
        assert_eq!(std::fs::read(directory.path().join("f")).unwrap(), bytes);
        let mut buffer = vec![0; 100_000];
        assert!(!past.fill(&own, || panic!("not to be opened"), &mut Space::from(&mut buffer), 0));
        rustix::fs::fadvise(&own, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert!(!past.fill(&own, || Ok(None), &mut Space::from(&mut buffer), 0), "barred");
        assert!(past.fill(&own, || Ok(Some(direct)), &mut Space::from(&mut buffer), 0));
    }

    #[test]
    fn a_write_that_ended_in_the_page_cache_is_not_called_written() {
        let (_directory, bytes, own, direct) = file(4 << 20);
        let past = PastCache::new();
        let parts = || bytes[..1 << 20].chunks(100_001);
        assert!(past.write((&own, &direct), parts(), 1 << 20, 1 << 20).unwrap());
        let mut buffer = vec![0; 1 << 20];
        assert!(past.fill(&own, || Ok(Some(direct.clone())), &mut Space::from(&mut buffer), 1 << 20));
        assert!(buffer == bytes[..1 << 20]);
        // A descriptor without O_DIRECT does what such a file system does.
        let other = File::options().write(true).open(format!("/proc/self/fd/{}", own.as_raw_fd())).unwrap();
        let other = OwnedFd::from(other);
        assert!(!past.write((&own, &other), parts(), 1 << 20, 2 << 20).unwrap());
        assert!(!past.write((&own, &direct), parts(), 1 << 20, 3 << 20).unwrap(), "not tried again");
    }

    #[test]
    fn a_file_system_that_cannot_is_asked_once() {
        let (_directory, _, own, _) = file(10_000);
        let past = PastCache::new();
        let mut buffer = vec![0; 10_000];
        assert!(!past.fill(&own, || Err(Errno::INVAL.into()), &mut Space::from(&mut buffer), 0));
        assert!(!past.fill(&own, || panic!("asked again"), &mut Space::from(&mut buffer), 0));
    }
}
