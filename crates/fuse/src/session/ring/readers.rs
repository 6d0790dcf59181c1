//! Threads beside a queue that wait for disks in its place: the queue goes on with what is at hand meanwhile.
//!
//! They run on the queue's core, as its thread does: handing work over on one core costs a few microseconds, waking
//! another core costs far more on many machines. Bounded: each piece of work belongs to a request of the queue, or to a
//! first read of the door, which bounds those.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(super) struct Readers {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<Work>,
    is_closed: bool,
}

impl Readers {
    /// Starts `count` threads that do each piece of work by `run`.
    pub(super) fn start(
        self: &Arc<Self>,
        count: usize,
        name: &str,
        run: impl Fn(Work) + Clone + Send + 'static,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let start = |_| {
            let (this, run) = (self.clone(), run.clone());
            let work = move || {
                while let Some(work) = this.next() {
                    run(work);
                }
            };
            thread::Builder::new().name(name.to_owned()).spawn(work)
        };
        (0..count).map(start).collect()
    }

    pub(super) fn add(&self, work: Work) {
        self.waiting.lock().work.push_back(work);
        self.changed.notify_one();
    }

    /// Lets the threads end once nothing is left to do.
    pub(super) fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Work> {
        let mut waiting = self.waiting.lock();
        loop {
            match waiting.work.pop_front() {
                None if waiting.is_closed => return None,
                None => self.changed.wait(&mut waiting),
                some => return some,
            }
        }
    }
}
