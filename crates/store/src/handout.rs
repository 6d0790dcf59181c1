//! Descriptors of whole contents, handed out of the store, and how many bytes they may bind.
//!
//! Each is an open file description of its own: the kernel's write lease sees it, wherever it was passed, after this
//! process has died too. The lease here is bookkeeping only: it keeps eviction from choosing what cannot give room back.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::large::Large;

/// The share of a store's capacity that may be handed out at once, in percent.
pub(crate) const MAX_SHARE: u8 = 80;

/// A whole, verified content, to be read through its descriptor.
#[derive(Debug)]
pub struct Descriptor {
    /// The file, opened for reading only; its first `size` bytes are the content.
    pub file: Arc<OwnedFd>,
    /// Size of the content in bytes.
    pub size: u64,
    /// Ends the accounting when dropped. The bytes stay for whoever still has the file open.
    pub lease: HandoutLease,
}

/// Counts a content as handed out until it is dropped.
#[derive(Debug)]
pub struct HandoutLease {
    large: Arc<Large>,
    total: Arc<HandedOut>,
}

/// Bytes of contents that are handed out; a content counts once.
#[derive(Debug)]
pub(crate) struct HandedOut {
    bytes: Mutex<u64>,
    max: u64,
}

impl HandedOut {
    pub(crate) fn new(max: u64) -> Self {
        Self { bytes: Mutex::new(0), max }
    }

    pub(crate) fn bytes(&self) -> u64 {
        *self.bytes.lock()
    }

    /// Counts one more descriptor of `large`. None above the limit.
    pub(crate) fn lease(self: &Arc<Self>, large: &Arc<Large>) -> Option<HandoutLease> {
        let mut bytes = self.bytes.lock();
        if large.handouts.load(Ordering::Acquire) == 0 {
            *bytes = bytes.checked_add(large.size).filter(|bytes| *bytes <= self.max)?;
        }
        // Changed under the lock only; read without it by eviction.
        large.handouts.fetch_add(1, Ordering::AcqRel);
        Some(HandoutLease { large: Arc::clone(large), total: Arc::clone(self) })
    }
}

impl Drop for HandoutLease {
    fn drop(&mut self) {
        let mut bytes = self.total.bytes.lock();
        if self.large.handouts.fetch_sub(1, Ordering::AcqRel) == 1 {
            *bytes -= self.large.size;
        }
    }
}
