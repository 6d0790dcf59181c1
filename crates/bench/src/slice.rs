//! One slice: readers work on one side until its time is over.

use std::io::{Error, Result};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::work::{Order, Side, Steps};

/// The clock is asked once in so much work: a `clock_gettime` costs what a hot 4 KiB read of 1 us would feel.
const STEPS_A_LOOK: u32 = 8;

/// The rate of `readers` readers on `side`, in units of its work a second. Each ends after `length`, or,
/// with `once`, when all has been used: with dropped caches a second use would find what the first has brought.
pub(crate) fn measure(side: &Side, readers: usize, length: Duration, order: Order, once: bool) -> Result<f64> {
    Ok(shares(side, readers, length, order, once)?.iter().map(Share::rate).sum())
}

/// What `readers` readers do of `side` together when each file is used once, and how long the last of them takes. What is not
/// through after `limit` is left.
pub(crate) fn pass(side: &Side, readers: usize, limit: Duration, order: Order) -> Result<Share> {
    let shares = shares(side, readers, limit, order, true)?;
    let took = shares.iter().map(|share| share.took).max().unwrap_or_default();
    Ok(Share { done: shares.iter().map(|share| share.done).sum(), took })
}

/// Work done, and the time that it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) done: u64,
    pub(crate) took: Duration,
}

impl Share {
    pub(crate) fn rate(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64()
    }
}

fn shares(side: &Side, readers: usize, length: Duration, order: Order, once: bool) -> Result<Vec<Share>> {
    let start = Barrier::new(readers);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..readers)
            .map(|reader| {
                let start = &start;
                scope.spawn(move || {
                    let steps = Steps::new(side, reader, readers, order);
                    start.wait();
                    read(&mut steps?, length, once)
                })
            })
            .collect();
        let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.map(|result| result.unwrap_or_else(|_| Err(Error::other("a reader panicked")))).collect()
    })
}

fn read(steps: &mut Steps<'_>, length: Duration, once: bool) -> Result<Share> {
    let begun = Instant::now();
    let mut done = 0;
    loop {
        for _ in 0..STEPS_A_LOOK {
            if steps.is_through() {
                if once {
                    return Ok(Share { done, took: begun.elapsed() });
                }
                steps.rewind();
            }
            done += steps.step()?;
        }
        let took = begun.elapsed();
        if took >= length {
            return Ok(Share { done, took });
        }
    }
}
