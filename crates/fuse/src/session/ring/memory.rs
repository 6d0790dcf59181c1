//! Memory of a queue that the kernel reads and writes: for each entry a header and room for the largest message.
//!
//! An entry belongs to one side at a time: to the kernel while it waits for a request, and to the one
//! [`Slot`](super::slot::Slot) of that request until it is answered. Only what messages ever filled takes memory, in huge
//! pages where there are any: a disk fills one run of memory sooner than many.

#![expect(unsafe_code, reason = "memory that is shared with the kernel is reached by pointers")]

use std::io;
use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::abi::EntryHeader;
use crate::session::buffers::REPLY_MAX;

const PAGE: usize = 4096;
/// Payloads begin at a multiple of this.
const HUGE_PAGE: usize = 2 << 20;

/// The memory of one queue's entries, and a word beside them.
pub(super) struct Memory {
    start: NonNull<u8>,
    len: usize,
    payloads: NonNull<u8>,
    entries: u16,
}

// SAFETY: it is plain memory that lives as long as this; who may touch which part is settled by the methods' contracts.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn new(entries: u16) -> io::Result<Self> {
        // A page for the word and one for each header, and then the payloads.
        let headers = PAGE * (1 + usize::from(entries));
        let payloads = REPLY_MAX * usize::from(entries);
        let len = headers + HUGE_PAGE + payloads;
        // SAFETY: a new private map, at a place of the kernel's choice.
        let start =
            unsafe { mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)? };
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the map has room for the headers, for what alignment skips (less than a huge page), and the payloads.
        let payloads_start = unsafe {
            let after = start.add(headers);
            after.add(after.as_ptr().align_offset(HUGE_PAGE))
        };
        // SAFETY: within the map. Where there are no huge pages ordinary ones do.
        let _ = unsafe { madvise(payloads_start.as_ptr().cast(), payloads, Advice::LinuxHugepage) };
        Ok(Self { start, len, payloads: payloads_start, entries })
    }

    /// The word beside the entries, for whatever the ring reads to be woken.
    pub(super) fn word(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The header of an entry; the whole of it is mapped and aligned.
    pub(super) fn header(&self, entry: u16) -> NonNull<EntryHeader> {
        assert!(entry < self.entries, "entry {entry} of {}", self.entries);
        // SAFETY: within the map, by the assertion and the arithmetic of `new`.
        unsafe { self.start.add(PAGE * (1 + usize::from(entry))) }.cast()
    }

    /// The first of [`REPLY_MAX`] bytes of an entry's payload.
    pub(super) fn payload(&self, entry: u16) -> NonNull<u8> {
        assert!(entry < self.entries, "entry {entry} of {}", self.entries);
        // SAFETY: as above.
        unsafe { self.payloads.add(REPLY_MAX * usize::from(entry)) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the map that `new` made; whoever points into it holds this.
        if let Err(error) = unsafe { munmap(self.start.as_ptr().cast(), self.len) } {
            tracing::warn!(%error, "memory of a queue could not be given back");
        }
    }
}
