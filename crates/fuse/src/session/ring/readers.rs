//! Threads beside a queue that wait for disks in its place: the queue goes on with what is at hand meanwhile.
//!
//! They run on the queue's core, as its thread does: handing work over on one core costs a few microseconds, waking
//! another core costs far more on many machines. They are started when there is work for them. Bounded: so many threads,
//! and each piece of work belongs to a request of the queue, or to a first read of the door, which bounds those.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

type Work = Box<dyn FnOnce() + Send>;

pub(super) struct Readers {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    threads_max: usize,
    name: String,
    /// Does a piece of work; it does not panic.
    run: Box<dyn Fn(Work) + Send + Sync>,
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<Work>,
    threads: usize,
    idle: usize,
    is_closed: bool,
}

/// The right to give work to readers, on the thread whose core they are to run on. Dropped, it lets them end once nothing
/// is left to do.
pub(super) struct Employer(Arc<Readers>);

impl Employer {
    /// At most `threads_max` threads of this name, that do each piece of work by `run`.
    pub(super) fn new(threads_max: usize, name: String, run: impl Fn(Work) + Send + Sync + 'static) -> Self {
        let (waiting, changed) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Readers { waiting, changed, threads_max, name, run: Box::new(run) }))
    }

    /// Has `work` done. On this thread only if there is no other and none can be started.
    pub(super) fn add(&self, work: Work) {
        let wants_thread = {
            let mut waiting = self.0.waiting.lock();
            waiting.work.push_back(work);
            let wants_thread = waiting.work.len() > waiting.idle && waiting.threads < self.0.threads_max;
            waiting.threads += usize::from(wants_thread);
            wants_thread
        };
        self.0.changed.notify_one();
        if !wants_thread {
            return;
        }
        let readers = self.0.clone();
        // It stays on the core of the thread that starts it.
        let started = thread::Builder::new().name(self.0.name.clone()).spawn(move || {
            while let Some(work) = readers.next() {
                (readers.run)(work);
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "a thread that reads disks could not be started");
            let left = {
                let mut waiting = self.0.waiting.lock();
                waiting.threads -= 1;
                if waiting.threads == 0 { waiting.work.pop_back() } else { None }
            };
            if let Some(work) = left {
                (self.0.run)(work);
            }
        }
    }
}

impl Drop for Employer {
    fn drop(&mut self) {
        self.0.waiting.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl Readers {
    fn next(&self) -> Option<Work> {
        let mut waiting = self.waiting.lock();
        loop {
            match waiting.work.pop_front() {
                None if waiting.is_closed => return None,
                None => {
                    waiting.idle += 1;
                    self.changed.wait(&mut waiting);
                    waiting.idle -= 1;
                }
                some => return some,
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn as_many_wait_at_once_as_there_may_be_threads_and_all_work_is_done() {
        let readers = Employer::new(3, "reader".to_owned(), |work| work());
        let (started, starts) = channel();
        let (go, gate) = channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        for number in 0..5 {
            let (started, gate) = (started.clone(), gate.clone());
            readers.add(Box::new(move || {
                started.send(number).unwrap();
                let _ = gate.lock().recv();
            }));
        }
        let limit = Duration::from_secs(30);
        let mut seen: Vec<i32> = (0..3).map(|_| starts.recv_timeout(limit).unwrap()).collect();
        assert!(starts.try_recv().is_err(), "no more than three at a time");
        drop(go);
        seen.extend((0..2).map(|_| starts.recv_timeout(limit).unwrap()));
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        drop((readers, started));
        assert!(starts.recv_timeout(limit).is_err(), "the threads have ended");
    }
}
