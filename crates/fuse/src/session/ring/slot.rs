//! One request that a ring brought, until it is answered.

#![expect(unsafe_code, reason = "memory that is shared with the kernel is reached by pointers")]

use std::slice;
use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::abi::{ReplyHeader, RequestHeader};
use super::queue::Queue;
use crate::errno::Errno;
use crate::session::buffers::REPLY_MAX;

/// A request, and the right to the memory of its entry. There is one for an entry at a time, from when the kernel gave
/// the entry until it gets it back by an answer. Dropped, it answers with EIO.
pub(super) struct Slot {
    queue: Arc<Queue>,
    entry: u16,
    commit_id: u64,
    is_answered: bool,
}

impl Slot {
    /// Takes over `entry`, which the kernel has just filled.
    ///
    /// # Safety
    /// The kernel has given the entry, and no other slot of it lives.
    pub(super) unsafe fn new(queue: Arc<Queue>, entry: u16) -> Self {
        let mut slot = Self { queue, entry, commit_id: 0, is_answered: false };
        slot.commit_id = slot.header().ring.commit_id;
        slot.queue.begun();
        slot
    }

    fn header(&self) -> &super::abi::EntryHeader {
        // SAFETY: mapped and aligned; this slot alone has the entry, so nobody writes to it while it is borrowed.
        unsafe { self.queue.memory.header(self.entry).as_ref() }
    }

    fn header_mut(&mut self) -> &mut super::abi::EntryHeader {
        // SAFETY: as in `header`, and borrowed for this one use.
        unsafe { self.queue.memory.header(self.entry).as_mut() }
    }

    pub(super) fn request(&self) -> RequestHeader {
        prefix(&self.header().in_out)
    }

    /// The first argument of the request.
    pub(super) fn argument<T: FromBytes + KnownLayout + Immutable>(&self) -> T {
        prefix(&self.header().op_in)
    }

    /// What the kernel sent beside headers.
    pub(super) fn sent(&self) -> &[u8] {
        let len = (self.header().ring.payload_len as usize).min(REPLY_MAX);
        // SAFETY: mapped, `len` fits, and this slot alone has the entry.
        unsafe { slice::from_raw_parts(self.queue.memory.payload(self.entry).as_ptr(), len) }
    }

    /// Where the payload of the reply goes: [`REPLY_MAX`] bytes of unspecified contents that begin on a page.
    pub(super) fn payload(&mut self) -> &mut [u8] {
        // SAFETY: mapped, of this length, and this slot alone has the entry.
        unsafe { slice::from_raw_parts_mut(self.queue.memory.payload(self.entry).as_ptr(), REPLY_MAX) }
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Answers with the first `len` bytes of the payload.
    pub(super) fn send(mut self, len: usize) {
        assert!(len <= REPLY_MAX, "a reply of {len} bytes");
        self.answer(0, len);
    }

    /// Answers with `message`.
    pub(super) fn send_message(mut self, message: &(impl IntoBytes + Immutable)) {
        let bytes = message.as_bytes();
        self.payload()[..bytes.len()].copy_from_slice(bytes);
        self.answer(0, bytes.len());
    }

    pub(super) fn fail(mut self, errno: Errno) {
        self.answer(-errno.number(), 0);
    }

    fn answer(&mut self, error: i32, len: usize) {
        let commit_id = self.commit_id;
        let header = self.header_mut();
        let reply = ReplyHeader { len: (size_of::<ReplyHeader>() + len) as u32, error, unique: commit_id };
        header.in_out[..size_of::<ReplyHeader>()].copy_from_slice(reply.as_bytes());
        header.ring.payload_len = len as u32;
        self.is_answered = true;
        self.queue.answered(self.entry, commit_id);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.is_answered {
            self.answer(-Errno::IO.number(), 0);
        }
    }
}

fn prefix<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8; 128]) -> T {
    const { assert!(size_of::<T>() <= 128) };
    match T::read_from_prefix(bytes) {
        Ok((value, _)) => value,
        Err(_) => T::new_zeroed(),
    }
}
