//! What shuffled epochs over a data set of twice the cache cost the disk, and how many reads hit.
//!
//! A reader asks for every object once an epoch, in a new random order, and has the store keep what it did not find, as a node does.

use std::io::{Error, Result};
use std::path::Path;

use forebay_store::Caching;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use serde::Serialize;

use crate::data::{Data, Shape};
use crate::kernel;
use crate::ours::Ours;
use crate::side::Keeps as _;

/// The cache.
const CAPACITY: u64 = 512 << 20;
/// The data set in bytes.
const BYTES: u64 = 2 * CAPACITY;
/// The first is cold and counts for what is written only.
const EPOCHS: u64 = 6;

/// What is printed.
#[derive(Debug, Serialize)]
pub(crate) struct Epochs {
    /// Bytes that this process had written to the disk (`/proc/self/io`), the index log and all, for each byte kept.
    written_per_filled: f64,
    /// Bytes kept for each byte offered.
    kept_per_offered: f64,
    /// Part of reads that missed, without the first epoch.
    misses: f64,
    bytes_filled: u64,
}

/// Reads the epochs.
pub(crate) fn run(directory: &Path) -> Result<Epochs> {
    let directory = directory.join("epochs");
    kernel::empty(&directory)?;
    let data = Data::new(Shape::Objects);
    let count = data.count_of(BYTES);
    let store = Ours::open(&directory, CAPACITY, &data, Caching::Keep)?;
    let mut random = SmallRng::seed_from_u64(1);
    let mut buffer = vec![0; data.len_max()];
    let (mut offered, mut misses) = (0, 0);
    let before = kernel::written()?;
    for epoch in 0..EPOCHS {
        let mut order: Vec<u64> = (0..count).collect();
        order.shuffle(&mut random);
        for n in order {
            if !store.read(n, &mut buffer) {
                misses += u64::from(epoch > 0);
                offered += data.len(n);
                store.insert(n)?;
            }
        }
        store.settle(0..count)?;
    }
    let filled = store.stats().bytes_kept;
    store.close()?;
    kernel::sync(&directory)?;
    let written = kernel::written()?.saturating_sub(before);
    kernel::empty(&directory)?;
    if filled == 0 || offered == 0 {
        return Err(Error::other("nothing was kept"));
    }
    Ok(Epochs {
        written_per_filled: written as f64 / filled as f64,
        kept_per_offered: filled as f64 / offered as f64,
        misses: misses as f64 / ((EPOCHS - 1) * count) as f64,
        bytes_filled: filled,
    })
}
