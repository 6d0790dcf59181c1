//! Which pages of a large content may be read: bits that readers look at without a lock, and the gate that they hold meanwhile.
//!
//! Always true: a page's bit is set only after its bytes and its log record are written, and cleared before its bytes may go.
//! Whoever reads holds the gate from the look at the bit until the bytes are in his buffer; whoever punches clears the
//! bits, then passes the gate: nobody who saw the bits is still reading. `residency_model` tries every order of steps, and
//! every order in which memory may show them to another core.

use super::sync::{AtomicU32, AtomicU64, Gate, Ordering, Reading};

/// What all extents of a content have in common.
#[derive(Debug)]
pub(crate) struct Pages {
    gate: Gate,
    /// Pages resident.
    resident: AtomicU32,
}

/// What is resident of one extent. A bit a page.
#[derive(Debug)]
pub(crate) struct Residency {
    resident: AtomicU64,
    /// Checked since the machine started, or written since.
    verified: AtomicU64,
    /// Ever written since the extent was empty: such a page is not written again.
    written: AtomicU64,
}

impl Pages {
    pub(crate) fn new() -> Self {
        Self { gate: Gate::new(), resident: AtomicU32::new(0) }
    }

    /// Held across every read of the file, from before the look at the bits.
    pub(crate) fn reading(&self) -> Reading<'_> {
        self.gate.read()
    }

    /// The same, unless somebody is just passing.
    pub(crate) fn try_reading(&self) -> Option<Reading<'_>> {
        self.gate.try_read()
    }

    /// Waits until everybody who is reading has left.
    pub(crate) fn pass(&self) {
        self.gate.pass();
    }

    /// Pages resident.
    pub(crate) fn resident(&self) -> u32 {
        self.resident.load(Ordering::Acquire)
    }

    /// Makes a page readable. Its bytes, sums and record are written.
    pub(crate) fn publish(&self, extent: &Residency, bit: u64) {
        extent.verified.fetch_or(bit, Ordering::Release);
        if extent.resident.fetch_or(bit, Ordering::AcqRel) & bit == 0 {
            self.resident.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Makes a page absent. True if it was resident.
    pub(crate) fn withdraw(&self, extent: &Residency, bit: u64) -> bool {
        let was = extent.resident.fetch_and(!bit, Ordering::AcqRel) & bit != 0;
        if was {
            self.resident.fetch_sub(1, Ordering::AcqRel);
        }
        was
    }

    /// Makes all pages of an extent absent. Those who read them may still do so until the gate is passed.
    pub(crate) fn withdraw_all(&self, extent: &Residency) {
        let pages = extent.resident.swap(0, Ordering::AcqRel).count_ones();
        self.resident.fetch_sub(pages, Ordering::AcqRel);
    }

    /// Adds pages that a log tells of. Gives those that are new.
    pub(crate) fn recover(&self, extent: &Residency, resident: u64, verified: u64) -> u64 {
        let new = resident & !extent.resident.fetch_or(resident, Ordering::Relaxed);
        extent.written.fetch_or(resident, Ordering::Relaxed);
        extent.verified.fetch_or(verified & resident, Ordering::Relaxed);
        self.resident.fetch_add(new.count_ones(), Ordering::Relaxed);
        new
    }
}

impl Residency {
    pub(crate) fn new() -> Self {
        Self { resident: AtomicU64::new(0), verified: AtomicU64::new(0), written: AtomicU64::new(0) }
    }

    pub(crate) fn resident(&self) -> u64 {
        self.resident.load(Ordering::Acquire)
    }

    pub(crate) fn verified(&self) -> u64 {
        self.verified.load(Ordering::Acquire)
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// A page is being written. By the directory's writer alone.
    pub(crate) fn begin(&self, bit: u64) {
        self.written.fetch_or(bit, Ordering::Relaxed);
    }

    /// A page was compared with its sums.
    pub(crate) fn verify(&self, bit: u64) {
        self.verified.fetch_or(bit, Ordering::Release);
    }

    /// Every page is to be compared with its sums when it is next read.
    pub(crate) fn forget_verified(&self) {
        self.verified.store(0, Ordering::Release);
    }
}
