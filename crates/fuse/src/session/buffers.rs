//! Buffers of replies: one for each thread that ever fills one, reused for every reply.
//!
//! Bounded: the threads that send replies (the session's own and the runtime's workers) times the largest reply, of which
//! only what was ever touched takes memory. A buffer is held for one fill and one write to the kernel, and no wait lies
//! between, so that a pool could not do with fewer.

use std::cell::RefCell;

/// The largest read that the kernel is told to send, and so the largest buffer that a thread keeps.
pub(crate) const REPLY_MAX: usize = 1 << 20;

/// Buffers begin at a multiple of this, so that the store can let the disk write into them.
const ALIGN: usize = 4096;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends `work` this thread's buffer, `len` bytes of unspecified contents.
pub(crate) fn with_buffer<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with(|buffer| match buffer.try_borrow_mut() {
        Ok(mut buffer) if len <= REPLY_MAX => {
            if buffer.len() < len + ALIGN {
                // To the next power of two: a thread soon holds what its largest reply needs.
                buffer.resize(len.next_power_of_two() + ALIGN, 0);
            }
            let start = buffer.as_ptr().align_offset(ALIGN);
            work(&mut buffer[start..start + len])
        }
        // Larger than agreed on with the kernel, or lent already: right all the same.
        Ok(_) | Err(_) => work(&mut vec![0; len]),
    })
}
