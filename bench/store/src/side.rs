//! What every side of a comparison can do, and how much may be under way on it.

use std::io::{Error, Result};
use std::ops::Range;
use std::sync::{Condvar, Mutex, PoisonError};

/// One side of a comparison, opened on a directory of its own, that can be read.
pub(crate) trait Reads: Sync {
    /// Reads the n-th object whole. `buffer` is the caller's, as long as the longest object; a side that gives a value of its own
    /// leaves it alone. An object that is not there is an error: all that are asked for were kept.
    fn get(&self, n: u64, buffer: &mut [u8]) -> Result<()>;

    /// As `get`, and compares every byte.
    fn prove(&self, n: u64, buffer: &mut [u8]) -> Result<()>;
}

/// One that keeps objects too.
pub(crate) trait Keeps: Reads {
    /// Begins to keep the n-th object; waits while too much is under way.
    fn insert(&self, n: u64) -> Result<()>;

    /// Waits until all that was begun is kept, in the side's own meaning. How many objects of `range`, which were begun since the
    /// last call, are.
    fn settle(&self, range: Range<u64>) -> Result<u64>;
}

/// Bytes that may be under way.
#[derive(Debug)]
pub(crate) struct Room {
    used: Mutex<u64>,
    changed: Condvar,
    max: u64,
}

impl Room {
    pub(crate) fn new(max: u64) -> Self {
        Self { used: Mutex::new(0), changed: Condvar::new(), max }
    }

    /// Takes room for so many bytes; waits for it.
    pub(crate) fn take(&self, bytes: u64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while *used > 0 && *used + bytes > self.max {
            used = self.changed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
    }

    /// Gives it back.
    pub(crate) fn give(&self, bytes: u64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used -= bytes;
        // Who waits has the whole of its object to wait for: not woken for each small one.
        if *used <= self.max / 2 {
            self.changed.notify_all();
        }
    }

    /// Waits until nothing is under way.
    pub(crate) fn wait_empty(&self) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while *used > 0 {
            used = self.changed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// That the n-th object is not there.
pub(crate) fn absent(side: &str, n: u64) -> Error {
    Error::other(format!("{side}: object {n} is not there"))
}

/// That the n-th object has other bytes.
pub(crate) fn wrong(side: &str, n: u64) -> Error {
    Error::other(format!("{side}: object {n} has wrong bytes"))
}
