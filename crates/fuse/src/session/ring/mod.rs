//! FUSE over io_uring: requests and answers lie in memory that is shared with the kernel, in one queue for each core.
//!
//! It stands beside the session over `/dev/fuse`, which shakes hands, takes what the kernel sends there in any case
//! (FORGET, interrupts), and serves everything if the kernel does not take the queues. A thread for each core of the
//! machine serves that core's queue: the kernel sends a request to the core that it is made on.
//!
//! Bounded: [`ENTRIES_MAX`] entries in all, each with room for the largest message, of which only what was touched takes
//! memory. Requests beyond the entries of a queue wait in the kernel.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rustix::thread::{CpuSet, sched_setaffinity};

use super::{Handler, guard};
use queue::Queue;
use readers::Readers;

mod abi;
mod answers;
mod backing;
mod memory;
mod queue;
mod readers;
mod requests;
mod slot;

pub(super) use queue::do_waiting;

/// Entries of all queues together, as long as each queue has the least: 256 MiB if all have held the largest message at
/// once. The kernel takes the entry that was used last, so that a few hold what memory there is.
const ENTRIES_MAX: u16 = 256;
/// Entries of one queue, least and most: requests of one core that may be under way at once.
const ENTRIES_OF_QUEUE: (u16, u16) = (16, 64);

const ENABLED: &str = "/sys/module/fuse/parameters/enable_uring";
const CORES: &str = "/sys/devices/system/cpu/possible";

/// Threads with a ring each, that wait for a session.
pub(super) struct Rings<H: Handler> {
    threads: Vec<(SyncSender<Start<H>>, JoinHandle<()>)>,
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
    /// Makes a ring for each core that this machine may have. `disk_readers` threads in all, at least one a core, wait for
    /// disks.
    ///
    /// # Errors
    /// Why not: most often io_uring is not allowed here.
    pub(super) fn prepare(disk_readers: usize) -> io::Result<Self> {
        let cores = cores()?;
        let readers = disk_readers.div_ceil(usize::from(cores)).max(1);
        let (least, most) = ENTRIES_OF_QUEUE;
        let entries = (ENTRIES_MAX / cores).clamp(least, most);
        let mut threads = Vec::new();
        for core in 0..cores {
            let (start, started) = sync_channel(1);
            let (report, reported) = sync_channel(1);
            let work = move || run(core, entries, readers, &report, &started);
            let thread = thread::Builder::new().name(format!("fb-ring-{core}")).spawn(work)?;
            threads.push((start, thread));
            reported.recv().map_err(|_| io::Error::other("the thread of a ring ended"))??;
        }
        Ok(Self { threads })
    }

    /// Gives the queues of the connection behind `device`, which has agreed to them, to the kernel.
    pub(super) fn start(self, handler: &H, device: OwnedFd, broken: &Broken) -> Vec<JoinHandle<()>> {
        let device = Arc::new(device);
        let start = |(sender, thread): (SyncSender<Start<H>>, _)| {
            // A thread that is gone has said why.
            let _ = sender.send(Start { handler: handler.clone(), device: device.clone(), broken: broken.clone() });
            thread
        };
        self.threads.into_iter().map(start).collect()
    }
}

/// The life of a ring's thread.
fn run<H: Handler + Clone>(
    core: u16,
    entries: u16,
    readers: usize,
    report: &SyncSender<io::Result<()>>,
    started: &Receiver<Start<H>>,
) {
    let ring = match queue::ring(entries) {
        Ok(ring) => ring,
        Err(error) => return drop(report.send(Err(error))),
    };
    let _ = report.send(Ok(()));
    let Ok(Start { handler, device, broken }) = started.recv() else { return };
    if let Err(error) = serve(core, entries, readers, ring, &handler, device) {
        tracing::error!(core, %error, "the queue of a core has failed: the mount ends");
        broken();
    }
}

fn serve<H: Handler + Clone>(
    core: u16,
    entries: u16,
    readers: usize,
    ring: queue::Ring,
    handler: &H,
    device: Arc<OwnedFd>,
) -> io::Result<()> {
    let mut here = CpuSet::new();
    here.set(usize::from(core));
    // The threads that it starts stay there too.
    if let Err(error) = sched_setaffinity(None, &here) {
        // Not among the cores of this process, or not there yet: then few requests come from it.
        tracing::debug!(core, %error, "a ring's thread is not bound to its core");
    }
    let queue = Queue::new(core, entries, device)?;
    let beside = Arc::new(Readers::default());
    let theirs = handler.clone();
    let threads = beside.start(readers, &format!("fb-read-{core}"), move |work| guard(&theirs, |_| work()))?;
    let served = queue.run(ring, beside.clone(), |slot| guard(handler, |handler| requests::serve(handler, slot)));
    beside.close();
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread that reads disks has panicked");
        }
    }
    served
}

/// How many cores this machine may have: the kernel wants a queue for each.
fn cores() -> io::Result<u16> {
    let list = fs::read_to_string(CORES)?;
    let last = list.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<u16>().ok());
    let cores = last.and_then(|last| last.checked_add(1));
    cores.ok_or_else(|| io::Error::other(format!("{CORES} holds `{}`, which names no core", list.trim())))
}
