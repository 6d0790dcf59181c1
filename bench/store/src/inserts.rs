//! Rows of keeping new objects. Each slice keeps the same objects in an empty directory, so that nothing is evicted.
//!
//! Kept is what each side says it is: ours when the store calls back (written, recorded in the index log, readable; what was
//! written 128 MiB before has reached the disk), foyer when its `wait` returns (written and readable). Neither waits for an
//! fsync of the last. In the rows `.synced` both wait until all of it is on the disk.

use std::io::Result;
use std::time::Instant;

use forebay_store::Caching;

use crate::data::{Data, Shape};
use crate::kernel;
use crate::ours::Ours;
use crate::rival::{Rival, Way};
use crate::row::{Head, Plan};
use crate::side::Keeps;
use crate::slice;

/// Bytes that a slice keeps.
const BYTES: u64 = 768 << 20;
/// Room of each side.
const CAPACITY: u64 = 4 << 30;

/// Name, shape, threads, and whether the disk is waited for.
const ROWS: [(&str, Shape, usize, bool); 6] = [
    ("store.insert.112k.1", Shape::Objects, 1, false),
    ("store.insert.112k.4", Shape::Objects, 4, false),
    ("store.insert.112k.1.synced", Shape::Objects, 1, true),
    ("store.insert.1m.1", Shape::Pages, 1, false),
    ("store.insert.1m.4", Shape::Pages, 4, false),
    ("store.insert.1m.1.synced", Shape::Pages, 1, true),
];

/// Measures all rows of keeping.
pub(crate) fn rows(plan: &Plan) -> Result<()> {
    for (id, shape, threads, synced) in ROWS.into_iter().filter(|row| plan.wants(row.0)) {
        let data = Data::new(shape);
        let rival = |way| rival(plan, &data, way, threads, synced);
        let way = plan.fastest(id, &Way::ALL, |way, _| rival(way))?;
        let ours = || ours(plan, &data, threads, synced);
        plan.compare(Head::rate(id, "bytes/s"), &way.name(), |_| second(ours), |_| second(|| rival(way)))?;
    }
    Ok(())
}

/// The second of two slices of a side, so that the other side's last one weighs less: foyer's slices through the page cache take 0.7-1.2
/// or 1.9-2.1 GB/s, and without this those right after one of ours were the slow ones. Some still are, and why is not known.
fn second(mut slice: impl FnMut() -> Result<f64>) -> Result<f64> {
    slice()?;
    slice()
}

fn ours(plan: &Plan, data: &Data, threads: usize, synced: bool) -> Result<f64> {
    let directory = plan.directory.join("insert-ours");
    kernel::empty(&directory)?;
    let side = Ours::open(&directory, CAPACITY, data, Caching::Keep)?;
    let rate = timed(plan, &side, data, threads, synced)?;
    side.close()?;
    kernel::empty(&directory)?;
    Ok(rate)
}

fn rival(plan: &Plan, data: &Data, way: Way, threads: usize, synced: bool) -> Result<f64> {
    let directory = plan.directory.join("insert-foyer");
    kernel::empty(&directory)?;
    let side = Rival::open(&directory, CAPACITY, data, way)?;
    let rate = timed(plan, &side, data, threads, synced)?;
    side.close()?;
    kernel::empty(&directory)?;
    Ok(rate)
}

/// Bytes a second, the time included that the disk still takes if it is waited for.
fn timed(plan: &Plan, side: &dyn Keeps, data: &Data, threads: usize, synced: bool) -> Result<f64> {
    let begun = Instant::now();
    let rate = slice::inserts(side, data, 0..data.count_of(BYTES), threads)?;
    if !synced {
        return Ok(rate);
    }
    kernel::sync(&plan.directory)?;
    Ok((data.count_of(BYTES) * data.len(0)) as f64 / begun.elapsed().as_secs_f64())
}
