//! Who gives the process its memory: jemalloc, which hands back what is free. The allocator of the C library keeps holes
//! of pages in an arena for each thread, twice what is in use (decision 16).
//!
//! Always true here: memory that was freed is the kernel's again about a second later, and no request waits for that.
//!
//! Not here: how much the process may use (`up/limits.rs`).
#![expect(unsafe_code, reason = "jemalloc reads its options from a symbol of this name")]

use tikv_jemallocator::Jemalloc;

/// For every thread of the process.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Its options, ended by a zero. A thread of its own gives back what has been free for a second. What `_RJEM_MALLOC_CONF`
/// in the environment says stands above them.
// SAFETY: the name and the type (a pointer to characters that a zero ends) are those that jemalloc declares.
#[used]
#[unsafe(export_name = "_rjem_malloc_conf")]
static OPTIONS: &[u8; 60] = b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0\0";
