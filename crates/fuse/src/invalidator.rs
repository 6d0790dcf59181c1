//! Tells the kernel that names are outdated.
//!
//! On a thread of its own: the kernel takes the lock of a directory for it, which a lookup in that directory may hold
//! until a thread that takes requests answers.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use forebay_model::NsPath;

use crate::metrics::Metrics;
use crate::nodeid::NodeId;
use crate::nodes::Nodes;
use crate::session::Notifier;

/// Names that may wait to be told to the kernel: a burst of events of a webhook, in some MiB.
const QUEUE: usize = 65_536;

/// Tells the kernel that names are outdated. Cheap to clone; usable from any thread and task, and never waits.
#[derive(Clone, Debug)]
pub struct Invalidator {
    queue: SyncSender<NsPath>,
    metrics: Arc<Metrics>,
}

/// The other end: names that the kernel has to be told.
pub(crate) struct Outdated(Receiver<NsPath>);

impl Invalidator {
    pub(crate) fn new(metrics: Arc<Metrics>) -> (Self, Outdated) {
        let (queue, receiver) = sync_channel(QUEUE);
        (Self { queue, metrics }, Outdated(receiver))
    }

    /// What `path` stands for has changed: the next use of it by a program looks it up anew, and so for all below it.
    /// What is open keeps its version.
    ///
    /// False if too many names wait: then the kernel was not told, and the name is used until its time is over.
    pub fn path_changed(&self, path: &NsPath) -> bool {
        let told = self.queue.try_send(path.clone()).is_ok();
        if !told {
            self.metrics.invalidations_dropped.inc();
        }
        told
    }
}

impl Outdated {
    /// Tells the kernel until no [`Invalidator`] is left.
    pub(crate) fn run(self, root: &NsPath, nodes: &Nodes, notifier: &Notifier) {
        let tell = |parent: NodeId, name: &str| match notifier.forget_name(parent, name) {
            Ok(()) => {}
            // The mount is gone, and all that the kernel held with it.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            // The parent is a directory that the kernel has forgotten meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => tracing::warn!(name, %error, "the kernel was not told of an outdated name"),
        };
        while let Ok(path) = self.0.recv() {
            if root.below(&path).is_some() {
                // The mount's root, or above it.
                for name in nodes.names_in(NodeId::ROOT) {
                    tell(NodeId::ROOT, &name);
                }
            } else if path.below(root).is_some()
                && let (Some(parent), Some(name)) = (path.parent(), path.name())
                && let Some(parent) = nodes.directory_at(&parent)
            {
                tell(parent, name);
            }
        }
    }
}
