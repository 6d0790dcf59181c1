//! Memory for reads and writes that go past the page cache, in huge pages.
//!
//! A disk is given memory as runs of neighbouring physical pages. Ordinary memory is scattered, so that 112 KiB are 28 runs;
//! in a huge page they are one, and such a read takes two thirds of the time (`docs/decisions/0003`).
//!
//! Bounded: a piece for each read that is under way, as many as threads read at once, one for each object that is lent
//! (`lend`; a mount holds 32 at most), and one region for each thread that writes. Pieces are kept for the next reader.
#![expect(unsafe_code, reason = "memory at an aligned address, with advice to the kernel")]

use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;

use parking_lot::Mutex;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// A huge page of most machines; on others it is only a matter of speed.
const REGION: usize = 2 << 20;
/// Room for a read of 256 KiB that begins and ends in the middle of a page.
pub(crate) const PIECE: usize = 288 << 10;

static PIECES: Mutex<Vec<Piece>> = Mutex::new(Vec::new());

/// [`REGION`] bytes that begin at a multiple of that.
pub(crate) struct Region(NonNull<u8>);

/// A piece of a region that lives for ever.
pub(crate) struct Piece(&'static mut [u8]);

/// A piece that is lent out; it goes back when it is dropped.
pub(crate) struct Lent(Option<Piece>);

// SAFETY: it is plain memory that this alone owns.
unsafe impl Send for Region {}

impl Region {
    /// None if there is no memory.
    pub(crate) fn new() -> Option<Self> {
        let len = 2 * REGION;
        // SAFETY: a new private map, at a place of the kernel's choice.
        let start = unsafe {
            mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE).ok()?
        };
        let before = start.cast::<u8>().align_offset(REGION);
        // SAFETY: `before` is below REGION, so both ends lie in the map, whose rest is given back; what is kept is mapped.
        unsafe {
            let kept = start.cast::<u8>().add(before);
            if before > 0 {
                munmap(start, before).ok()?;
            }
            munmap(kept.add(REGION).cast(), len - before - REGION).ok()?;
            // Where there are no huge pages ordinary ones do.
            let _ = madvise(kept.cast(), REGION, Advice::LinuxHugepage);
            NonNull::new(kept).map(Self)
        }
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped for as long as this lives, zeroed by the kernel, and borrowed with this.
        unsafe { slice::from_raw_parts(self.0.as_ptr(), REGION) }
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and nobody else borrows it.
        unsafe { slice::from_raw_parts_mut(self.0.as_ptr(), REGION) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the map that `new` kept; nobody borrows it any more. An error would mean that it was not mapped.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), REGION) };
    }
}

/// Lends [`PIECE`] bytes of unspecified contents that begin on a page. None if there is no memory.
pub(crate) fn lend() -> Option<Lent> {
    if let Some(piece) = PIECES.lock().pop() {
        return Some(Lent(Some(piece)));
    }
    let region: &'static mut Region = Box::leak(Box::new(Region::new()?));
    let mut new = region.chunks_exact_mut(PIECE).map(Piece);
    let first = new.next();
    PIECES.lock().extend(new);
    first.map(|piece| Lent(Some(piece)))
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |piece| piece.0)
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_mut().map_or(&mut [], |piece| piece.0)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        PIECES.lock().extend(self.0.take());
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_and_each_is_lent_to_one() {
        let mut lent: Vec<Lent> = (0..20).map(|_| lend().unwrap()).collect();
        for (number, piece) in lent.iter_mut().enumerate() {
            assert!(piece.len() == PIECE && (piece.as_ptr() as usize).is_multiple_of(4096));
            piece.fill(number as u8);
        }
        for (number, piece) in lent.iter().enumerate() {
            assert!(piece.iter().all(|byte| *byte == number as u8), "piece {number} is shared");
        }
    }

    #[test]
    fn a_region_is_aligned_and_can_be_written_to_its_end() {
        let mut region = Region::new().unwrap();
        assert_eq!(region.as_ptr() as usize % REGION, 0);
        region.fill(7);
        assert!(region.iter().all(|byte| *byte == 7));
    }
}
