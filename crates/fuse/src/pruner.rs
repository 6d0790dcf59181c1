//! Keeps the number of inodes that the kernel knows within a bound.
//!
//! The kernel forgets inodes when it is short of memory, not when this process is. Above the bound it is asked to forget files
//! that nobody uses, those first whose bytes were not asked for lately: with a file it lets go of the file's page cache.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::session::Notifier;

/// Above the bound so many of it are let go at once: a sixteenth.
const PART: usize = 16;
/// Inodes that one notice names: some tenths of a millisecond of the kernel's work.
const NOTICE: usize = 512;
/// Until the kernel's answers to one turn have come, before the next is looked for.
const PAUSE: Duration = Duration::from_millis(100);
/// Between turns that let nothing go, for all of it is in use: twice as long each time, at most so long.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Rings when the bound is passed. Cheap to clone, and never waits.
#[derive(Clone, Debug)]
pub(crate) struct Bell {
    max: usize,
    sender: SyncSender<()>,
}

/// The other end: asks the kernel to forget.
pub(crate) struct Pruner {
    max: usize,
    rung: Receiver<()>,
    metrics: Arc<Metrics>,
}

/// A bound of `max` inodes.
pub(crate) fn pruner(max: usize, metrics: Arc<Metrics>) -> (Bell, Pruner) {
    let (sender, rung) = sync_channel(1);
    (Bell { max, sender }, Pruner { max, rung, metrics })
}

impl Bell {
    /// So many inodes are known now.
    pub(crate) fn known(&self, count: usize) {
        if count > self.max {
            // It rings already, or this kernel cannot be asked.
            let _ = self.sender.try_send(());
        }
    }
}

impl Pruner {
    /// Asks the kernel whenever the bell rings, and from then on until it knows no more than it may: what is in use now is let go
    /// of later, and then no bell rings. Ends when no bell is left or the kernel cannot be asked.
    pub(crate) fn run(self, nodes: &Weak<Nodes>, notifier: &Notifier) {
        let (mut known_before, mut pause) = (0, None);
        loop {
            let rung = match pause {
                None => self.rung.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(pause) => self.rung.recv_timeout(pause),
            };
            if rung == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            // They have the bell.
            let Some(nodes) = nodes.upgrade() else { return };
            let known = nodes.known();
            if known <= self.max {
                pause = None;
                continue;
            }
            pause = match pause {
                Some(pause) if known >= known_before => Some(PAUSE_MAX.min(pause * 2)),
                Some(_) | None => Some(PAUSE),
            };
            known_before = known;
            let unused = nodes.least_used(known - self.max + self.max / PART);
            for some in unused.chunks(NOTICE) {
                match notifier.prune(some) {
                    Ok(()) => drop(self.metrics.pruned.inc_by(some.len() as u64)),
                    Err(error) => return tell(&error),
                }
            }
            drop(nodes);
            thread::sleep(PAUSE);
        }
    }
}

fn tell(error: &io::Error) {
    match error.raw_os_error() {
        // The mount is gone, and all that the kernel knew with it.
        Some(libc::ENODEV | libc::ENOTCONN) => {}
        // Before Linux 6.18. What it knows is its own decision there.
        Some(libc::EINVAL) => tracing::debug!("this kernel cannot be asked to forget files"),
        _ => {
            tracing::warn!(%error, "the kernel cannot be asked to forget files: what it knows of the mount has no bound");
        }
    }
}
