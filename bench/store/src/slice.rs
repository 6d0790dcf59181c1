//! One slice: threads work on one side until its time is over, or its work is done.

use std::io::{Error, Result};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

use crate::data::Data;
use crate::side::{Keeps, Reads};

/// One operation in so many of the mixed work keeps a new object.
const MIXED_INSERT: u64 = 10;
/// A slice of mixed work ends when so many bytes were kept: on a fast disk it would fill it.
const MIXED_BYTES: u64 = 384 << 20;

/// Who works for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    pub(crate) threads: usize,
    pub(crate) length: Duration,
    /// The order of reads: both sides of a pair have the same.
    pub(crate) seed: u64,
}

/// Reads a second of `resident` objects in random order, each as often as any other.
pub(crate) fn gets(side: &dyn Reads, data: &Data, resident: u64, slice: Slice) -> Result<f64> {
    let rates = on_threads(slice.threads, |thread, start| {
        let order = order(resident, thread, slice);
        let mut buffer = vec![0; data.len_max()];
        start.wait();
        let begun = Instant::now();
        let mut done = 0_u64;
        loop {
            for &n in &order {
                side.get(n, &mut buffer)?;
                done += 1;
                let took = begun.elapsed();
                if took >= slice.length {
                    return Ok(done as f64 / took.as_secs_f64());
                }
            }
        }
    })?;
    Ok(rates.iter().sum())
}

/// Keeps the objects of `range`; bytes a second until all are kept in the side's own meaning.
pub(crate) fn inserts(side: &dyn Keeps, data: &Data, range: std::ops::Range<u64>, threads: usize) -> Result<f64> {
    let next = AtomicU64::new(range.start);
    let begun = Instant::now();
    on_threads(threads, |_, start| {
        start.wait();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= range.end {
                return Ok(());
            }
            side.insert(n)?;
        }
    })?;
    let count = range.end - range.start;
    let kept = side.settle(range)?;
    let took = begun.elapsed();
    if kept < count {
        return Err(Error::other(format!("{kept} of {count} objects were kept")));
    }
    Ok((count * data.len(0)) as f64 / took.as_secs_f64())
}

/// Operations a second: nine reads of `resident` objects, then one that keeps the object `next` counts. All is kept at the end.
pub(crate) fn mixed(side: &dyn Keeps, data: &Data, resident: u64, next: &AtomicU64, slice: Slice) -> Result<f64> {
    let first = next.load(Ordering::Relaxed);
    let last = first + data.count_of(MIXED_BYTES);
    let begun = Instant::now();
    let done = on_threads(slice.threads, |thread, start| {
        let order = order(resident, thread, slice);
        let mut buffer = vec![0; data.len_max()];
        start.wait();
        let mut done = 0_u64;
        loop {
            for &n in &order {
                done += 1;
                if done.is_multiple_of(MIXED_INSERT) {
                    side.insert(next.fetch_add(1, Ordering::Relaxed))?;
                } else {
                    side.get(n, &mut buffer)?;
                }
                if begun.elapsed() >= slice.length || next.load(Ordering::Relaxed) >= last {
                    return Ok(done);
                }
            }
        }
    })?;
    let range = first..next.load(Ordering::Relaxed);
    let count = range.end - range.start;
    let kept = side.settle(range)?;
    if kept < count {
        return Err(Error::other(format!("{kept} of {count} objects were kept")));
    }
    Ok(done.iter().sum::<u64>() as f64 / begun.elapsed().as_secs_f64())
}

/// The order of each thread.
pub(crate) fn orders(resident: u64, slice: Slice) -> Vec<Vec<u64>> {
    (0..slice.threads).map(|thread| order(resident, thread, slice)).collect()
}

/// Objects in the order in which a thread reads them.
fn order(resident: u64, thread: usize, slice: Slice) -> Vec<u64> {
    let mut order: Vec<u64> = (0..resident).skip(thread).step_by(slice.threads).collect();
    order.shuffle(&mut SmallRng::seed_from_u64(slice.seed << 8 | thread as u64));
    order
}

fn on_threads<T: Send>(threads: usize, work: impl Fn(usize, &Barrier) -> Result<T> + Sync) -> Result<Vec<T>> {
    let start = Barrier::new(threads);
    std::thread::scope(|scope| {
        let (work, start) = (&work, &start);
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread, start))).collect();
        let joined = running.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.map(|result| result.unwrap_or_else(|_| Err(Error::other("a thread panicked")))).collect()
    })
}
