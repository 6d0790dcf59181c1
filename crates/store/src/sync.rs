//! What `residency` is made of: in the model it is made of loom's.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A gate held by who reads.
pub(crate) type Reading<'a> = parking_lot::RwLockReadGuard<'a, ()>;

/// Many may be inside; who passes waits until those who are have left.
#[derive(Debug)]
pub(crate) struct Gate(parking_lot::RwLock<()>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(parking_lot::RwLock::new(()))
    }

    pub(crate) fn read(&self) -> Reading<'_> {
        self.0.read()
    }

    pub(crate) fn try_read(&self) -> Option<Reading<'_>> {
        self.0.try_read()
    }

    pub(crate) fn pass(&self) {
        drop(self.0.write());
    }
}
