//! One slice: readers work on one side until its time is over.

use std::io::{Error, Result};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::work::{Side, Steps};

/// The clock is asked once in so much work: a `clock_gettime` costs what a hot 4 KiB read of 1 us would feel.
const STEPS_A_LOOK: u32 = 8;

/// The rate of `readers` readers on `side`, in units of its work a second. Each ends after `length`, or,
/// with `once`, when all has been used: with dropped caches a second use would find what the first has brought.
pub(crate) fn measure(side: &Side, readers: usize, length: Duration, seed: u64, once: bool) -> Result<f64> {
    let start = Barrier::new(readers);
    let rates: Vec<Result<f64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..readers)
            .map(|reader| {
                let start = &start;
                scope.spawn(move || {
                    let steps = Steps::new(side, reader, readers, seed);
                    start.wait();
                    read(&mut steps?, length, once)
                })
            })
            .collect();
        let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.map(|result| result.unwrap_or_else(|_| Err(Error::other("a reader panicked")))).collect()
    });
    rates.into_iter().sum()
}

fn read(steps: &mut Steps<'_>, length: Duration, once: bool) -> Result<f64> {
    let begun = Instant::now();
    let mut done = 0;
    loop {
        for _ in 0..STEPS_A_LOOK {
            if steps.is_through() {
                if once {
                    return Ok(done as f64 / begun.elapsed().as_secs_f64());
                }
                steps.rewind();
            }
            done += steps.step()?;
        }
        let took = begun.elapsed();
        if took >= length {
            return Ok(done as f64 / took.as_secs_f64());
        }
    }
}
