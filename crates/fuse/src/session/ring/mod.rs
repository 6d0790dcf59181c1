//! FUSE over io_uring: requests and answers lie in memory that is shared with the kernel, in one queue for each core.
//!
//! It stands beside the session over `/dev/fuse`, which shakes hands, takes what the kernel sends there in any case
//! (FORGET, interrupts), and serves everything where the kernel offers no queues or they cannot be made here. A thread for
//! each core of the machine serves that core's queue: the kernel sends a request to the core that it is made on.
//!
//! Bounded: [`ENTRIES_MAX`] entries in all, or the least for each of very many cores; each has room for the
//! largest message, of which only what was touched takes memory; and a few threads for each core. Requests beyond the entries of a queue wait in the kernel.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rustix::thread::{CpuSet, sched_setaffinity};

use super::{Handler, guard};
use queue::{Parts, Queue};
use readers::Employer;

mod abi;
mod answers;
mod backing;
mod elsewhere;
#[cfg(test)]
mod elsewhere_model;
mod memory;
mod queue;
mod readers;
mod requests;
mod slot;
mod sync;

pub(super) use queue::do_waiting;

/// Entries of all queues together, as long as each queue has the least: 256 MiB if all have held the largest message at
/// once. The kernel takes the entry that was used last, so that a few hold what memory there is.
const ENTRIES_MAX: u16 = 256;
/// Entries of one queue, least and most: requests of one core that may be under way at once.
const ENTRIES_OF_QUEUE: (u16, u16) = (16, 64);

const ENABLED: &str = "/sys/module/fuse/parameters/enable_uring";
const CORES: &str = "/sys/devices/system/cpu/possible";

/// Threads beside each queue that may wait for disks at once, least and most: read-ahead of one file is four requests.
const READERS: (usize, usize) = (4, 16);

/// Threads with a ring each, that wait for a session.
pub(super) struct Rings<H: Handler> {
    threads: Vec<Waiting<H>>,
}

/// A thread that has all that its queue needs of the system.
struct Waiting<H: Handler> {
    start: SyncSender<Start<H>>,
    report: Receiver<io::Result<()>>,
    thread: JoinHandle<()>,
}

struct Start<H: Handler> {
    handler: H,
    device: Arc<OwnedFd>,
    broken: Broken,
}

/// Ends the connection: called if a queue cannot be served any more, for requests of its core would wait for ever.
pub(crate) type Broken = Arc<dyn Fn() + Send + Sync>;

/// Whether the kernel is set to speak FUSE over io_uring.
pub(super) fn is_enabled() -> bool {
    fs::read_to_string(ENABLED).is_ok_and(|value| value.trim() == "Y")
}

impl<H: Handler + Clone> Rings<H> {
    /// Makes a ring for each core that this machine may have. `disk_readers` are wanted for all cores in use.
    ///
    /// # Errors
    /// Why not: most often io_uring is not allowed here.
    pub(super) fn prepare(disk_readers: usize) -> io::Result<Self> {
        let cores = cores(&fs::read_to_string(CORES)?)?;
        let in_use = thread::available_parallelism().map_or(1, usize::from);
        let readers = disk_readers.div_ceil(in_use).clamp(READERS.0, READERS.1);
        let entries = (ENTRIES_MAX / cores).clamp(ENTRIES_OF_QUEUE.0, ENTRIES_OF_QUEUE.1);
        let prepare = |core| {
            let (start, started) = sync_channel(1);
            let (reporter, report) = sync_channel(1);
            let work = move || run(core, entries, readers, &reporter, &started);
            let thread = thread::Builder::new().name(format!("fb-ring-{core}")).spawn(work)?;
            reported(&report)?;
            Ok(Waiting { start, report, thread })
        };
        Ok(Self { threads: (0..cores).map(prepare).collect::<io::Result<_>>()? })
    }

    /// Gives the queues of the connection behind `device`, which has agreed to them, to the kernel.
    ///
    /// # Errors
    /// If the kernel refuses one. The connection is of no use then: requests wait for the queues.
    pub(super) fn start(self, handler: &H, device: OwnedFd, broken: &Broken) -> io::Result<Vec<JoinHandle<()>>> {
        let device = Arc::new(device);
        let start = |waiting: Waiting<H>| {
            let (handler, device, broken) = (handler.clone(), device.clone(), broken.clone());
            // A thread that is gone gives no report.
            let _ = waiting.start.send(Start { handler, device, broken });
            reported(&waiting.report)?;
            Ok(waiting.thread)
        };
        self.threads.into_iter().map(start).collect()
    }
}

fn reported(report: &Receiver<io::Result<()>>) -> io::Result<()> {
    report.recv().unwrap_or_else(|_| Err(io::Error::other("the thread of a ring has ended")))
}

/// The life of a ring's thread. It reports when its parts are made, and when its queue is open.
fn run<H: Handler + Clone>(
    core: u16,
    entries: u16,
    readers: usize,
    report: &SyncSender<io::Result<()>>,
    started: &Receiver<Start<H>>,
) {
    let parts = match Parts::new(entries) {
        Ok(parts) => parts,
        Err(error) => return drop(report.send(Err(error))),
    };
    let _ = report.send(Ok(()));
    let Ok(Start { handler, device, broken }) = started.recv() else { return };
    let mut here = CpuSet::new();
    here.set(usize::from(core));
    // The threads that it starts stay there too.
    if let Err(error) = sched_setaffinity(None, &here) {
        // Not among the cores of this process, or not there yet: then few requests come from it.
        tracing::debug!(core, %error, "a ring's thread is not bound to its core");
    }
    let theirs = handler.clone();
    let readers = Employer::new(readers, format!("fb-read-{core}"), move |work| guard(&theirs, |_| work()));
    let queue = match Queue::open(core, parts, device, readers) {
        Ok(queue) => queue,
        Err(error) => return drop(report.send(Err(error))),
    };
    let _ = report.send(Ok(()));
    let serve = || queue.run(|slot| guard(&handler, |handler| requests::serve(handler, slot)));
    // A bug outside the handler too must not leave requests of this core waiting for ever.
    let served = catch_unwind(AssertUnwindSafe(serve)).unwrap_or_else(|_| Err(io::Error::other("a bug of forebay")));
    if let Err(error) = served {
        tracing::error!(core, %error, "the queue of a core has failed: the mount ends");
        broken();
    }
}

/// How many cores this machine may have, of the kernel's list of them: it wants a queue for each.
fn cores(list: &str) -> io::Result<u16> {
    let list = list.trim();
    let last = match list {
        "0" => Some(0),
        // With a gap in the list, numbers of cores and of queues are not the same.
        _ => list.strip_prefix("0-").and_then(|last| last.parse::<u16>().ok()),
    };
    let cores = last.and_then(|last| last.checked_add(1));
    cores.ok_or_else(|| io::Error::other(format!("the cores of this machine are `{list}`, not 0 to the last")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cores_is_counted_and_one_with_gaps_refused() {
        for (list, count) in [("0\n", 1), ("0-1", 2), ("0-127\n", 128)] {
            assert_eq!(cores(list).ok(), Some(count), "{list}");
        }
        for list in ["", "0-3,8-11", "1-3", "5", "0-", "0-65535", "x"] {
            assert!(cores(list).is_err(), "{list}");
        }
    }
}
