//! Tells the kernel that names are outdated.
//!
//! On a thread of its own: the kernel takes the lock of a directory for it, which a lookup in that directory may hold
//! until a thread that takes requests answers.
//!
//! Always true: what the kernel is told of after [`Holder::let_go`] has returned true is asked for anew, also where an answer
//! from before was on its way. Where there is no room for names in the queue, all names are outdated.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use async_trait::async_trait;
use forebay_client::{Holder, Outdated};
use forebay_model::NsPath;
use tokio::sync::oneshot;

use crate::door::Directories;
use crate::metrics::Metrics;
use crate::nodeid::NodeId;
use crate::nodes::Nodes;
use crate::session::Notifier;

/// Batches of names that may wait to be told to the kernel.
const QUEUE: usize = 1_024;
/// Names of one batch that are told one by one: some milliseconds of the kernel's work, and with a full queue 100 MiB. Beyond it
/// all names are outdated.
const NAMES_MAX: usize = 1_024;
/// Names in directories of one batch that are told one by one: some tenths of a second. Beyond it all names are outdated.
const LISTED_MAX: usize = 65_536;
/// How long anybody waits for the kernel to be told. A lookup in the same directory may hold it up until its origin has answered.
const TELL_LIMIT: Duration = Duration::from_secs(2);
/// For how long a kernel that cannot forget all names may hold that one does not exist: it cannot be told of those that nobody
/// knows.
const ABSENT_MAX_OLD: Duration = Duration::from_secs(1);

/// Tells the kernel that names are outdated. Cheap to clone; usable from any thread and task, and never waits, except where it
/// is said.
#[derive(Clone, Debug)]
pub struct Invalidator {
    queue: SyncSender<Batch>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Counts what was outdated: an answer that was asked for at another count may be outdated.
    turn: AtomicU64,
    /// A batch had no room.
    overflowed: AtomicBool,
    /// The kernel cannot forget all names at once.
    is_old: AtomicBool,
}

#[derive(Debug)]
struct Batch {
    outdated: Vec<Outdated>,
    told: oneshot::Sender<()>,
}

/// The other end: what the kernel has to be told.
pub(crate) struct Queue {
    batches: Receiver<Batch>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

impl Invalidator {
    pub(crate) fn new(metrics: Arc<Metrics>) -> (Self, Queue) {
        let (queue, batches) = sync_channel(QUEUE);
        let shared = Arc::<Shared>::default();
        let other = Queue { batches, shared: shared.clone(), metrics: metrics.clone() };
        (Self { queue, shared, metrics }, other)
    }

    /// What `path` stands for has changed: the next use of it by a program looks it up anew. What is open keeps its version.
    pub fn path_changed(&self, path: &NsPath) {
        drop(self.send(vec![Outdated::Name(path.clone())]));
    }

    /// Changes whenever something is outdated: what was asked for before is not to be held.
    pub(crate) fn turn(&self) -> u64 {
        self.shared.turn.load(Ordering::Acquire)
    }

    /// For how long the kernel may hold that a name does not exist, at most.
    pub(crate) fn absent_max(&self) -> Option<Duration> {
        self.shared.is_old.load(Ordering::Relaxed).then_some(ABSENT_MAX_OLD)
    }

    /// What is given ends when the kernel was told. None: there is no room, and the kernel will be told that all is outdated.
    fn send(&self, outdated: Vec<Outdated>) -> Option<oneshot::Receiver<()>> {
        self.shared.turn.fetch_add(1, Ordering::AcqRel);
        let (told, receiver) = oneshot::channel();
        let Err(TrySendError::Full(batch)) = self.queue.try_send(Batch { outdated, told }) else {
            return Some(receiver);
        };
        self.metrics.invalidations_overflowed.inc();
        self.shared.overflowed.store(true, Ordering::Release);
        // If there is room by now, nobody would look.
        self.queue.try_send(Batch { outdated: Vec::new(), ..batch }).ok().map(|()| receiver)
    }
}

#[async_trait]
impl Holder for Invalidator {
    async fn let_go(&self, outdated: &[Outdated]) -> bool {
        match self.send(outdated.to_vec()) {
            // An error means that the mount is gone with all that the kernel held.
            Some(told) => tokio::time::timeout(TELL_LIMIT, told).await.is_ok(),
            None => false,
        }
    }
}

impl Queue {
    /// Finds out what this kernel can do. Before the first request: what it holds by then would be asked for again.
    pub(crate) fn try_out(&self, notifier: &Notifier) {
        let can_forget_all = notifier.forget_all().unwrap_or(true);
        self.shared.is_old.store(!can_forget_all, Ordering::Relaxed);
    }

    /// Tells the kernel until no [`Invalidator`] is left.
    pub(crate) fn run(self, root: NsPath, nodes: Arc<Nodes>, directories: Arc<Directories>, notifier: Notifier) {
        let teller = Teller { root, nodes, directories, notifier, metrics: self.metrics };
        while let Ok(Batch { outdated, told }) = self.batches.recv() {
            if self.shared.overflowed.swap(false, Ordering::AcqRel) || outdated.len() > NAMES_MAX {
                teller.forget_all();
            } else {
                teller.tell(&outdated);
            }
            // Nobody may be waiting any more.
            let _ = told.send(());
        }
    }
}

struct Teller {
    root: NsPath,
    nodes: Arc<Nodes>,
    directories: Arc<Directories>,
    notifier: Notifier,
    metrics: Arc<Metrics>,
}

impl Teller {
    fn tell(&self, outdated: &[Outdated]) {
        let listed = outdated.iter().filter_map(|outdated| match outdated {
            Outdated::Directory(path) => Some(path),
            Outdated::Name(_) | Outdated::Doubtful(_) | Outdated::Tree(_) => None,
        });
        let is_all = listed.clone().any(|path| *path == self.root) || outdated.iter().any(|one| self.is_all(one));
        if is_all || !self.forget_names_in(listed) {
            return self.forget_all();
        }
        for one in outdated {
            match one {
                Outdated::Name(path) | Outdated::Directory(path) => self.name(path, Notifier::forget_name),
                Outdated::Doubtful(path) => self.name(path, Notifier::doubt_name),
                Outdated::Tree(path) => match self.unknown(path) {
                    Some((parent, name)) => self.send(|| self.notifier.forget_name(parent, name)),
                    // The kernel has come to know it meanwhile.
                    None if self.is_all(one) => self.forget_all(),
                    None => {}
                },
            }
        }
    }

    /// Whether the kernel may hold names that are outdated by it anywhere.
    fn is_all(&self, outdated: &Outdated) -> bool {
        match outdated {
            Outdated::Tree(path) if self.root.below(path).is_some() => true,
            Outdated::Tree(path) => path.below(&self.root).is_some() && self.unknown(path).is_none(),
            Outdated::Name(_) | Outdated::Doubtful(_) | Outdated::Directory(_) => false,
        }
    }

    /// The first name on the way to `path` that is no directory for the kernel: below it the kernel holds nothing. None: all are.
    fn unknown<'a>(&self, path: &'a NsPath) -> Option<(NodeId, &'a str)> {
        let rest = path.below(&self.root)?;
        let (mut parent, mut at) = (NodeId::ROOT, self.root.clone());
        for name in rest.split('/').filter(|name| !name.is_empty()) {
            at = at.join(name);
            match self.nodes.directory_at(&at) {
                Some(known) => parent = known,
                None => return Some((parent, name)),
            }
        }
        None
    }

    /// The names in directories, which may be in use: when the directory's own name is forgotten, all others go with it. False:
    /// they are too many.
    fn forget_names_in<'a>(&self, directories: impl Iterator<Item = &'a NsPath>) -> bool {
        let known: HashSet<NodeId> = directories.filter_map(|path| self.nodes.directory_at(path)).collect();
        if known.is_empty() {
            return true;
        }
        for directory in &known {
            // What is being answered there may be outdated, and nobody's use keeps it from coming into the tree.
            self.send(|| self.notifier.pass_by(*directory));
        }
        let names = self.nodes.names_in(&known);
        if names.len() > LISTED_MAX {
            return false;
        }
        for (parent, name) in names {
            self.send(|| self.notifier.forget_name(parent, &name));
        }
        true
    }

    fn name(&self, path: &NsPath, tell: impl Fn(&Notifier, NodeId, &str) -> io::Result<()>) {
        if path.below(&self.root).is_some_and(|rest| !rest.is_empty())
            && let (Some(parent), Some(name)) = (path.parent(), path.name())
            && let Some(parent) = self.nodes.directory_at(&parent)
        {
            self.send(|| tell(&self.notifier, parent, name));
        }
    }

    fn forget_all(&self) {
        match self.notifier.forget_all() {
            Ok(true) => {
                // Names of a listing that is being answered come into the tree as of now, though they may be outdated.
                for directory in self.directories.open_nodes() {
                    self.send(|| self.notifier.pass_by(directory));
                }
                self.send(|| self.notifier.forget_all().map(drop));
            }
            Ok(false) => {
                for (parent, name) in self.nodes.names() {
                    self.send(|| self.notifier.forget_name(parent, &name));
                }
            }
            Err(error) => self.failed(&error),
        }
        self.metrics.invalidations_of_all.inc();
    }

    fn send(&self, tell: impl FnOnce() -> io::Result<()>) {
        self.metrics.invalidations.inc();
        if let Err(error) = tell() {
            self.failed(&error);
        }
    }

    fn failed(&self, error: &io::Error) {
        match error.raw_os_error() {
            // The mount is gone, and all that the kernel held with it; or a parent is a directory that it has forgotten meanwhile.
            Some(libc::ENODEV | libc::ENOTCONN | libc::ENOTDIR) => {}
            _ => tracing::warn!(%error, "the kernel was not told of an outdated name"),
        }
    }
}
