//! The handler of the session: what the kernel asks, translated to the client's words.
//!
//! Each request first tries what is at hand, on the session's thread; what is not goes to the runtime, which answers.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use forebay_client::Client;
use forebay_model::{DirectoryEntry, Fault, FaultKind, Principal, TimestampNs};
use tokio::runtime::Handle as Runtime;
use tokio::sync::{Semaphore, watch};

use crate::attributes::{ATTRIBUTES_FRESH, Looks};
use crate::errno::Errno;
use crate::invalidator::Invalidator;
use crate::metrics::Metrics;
use crate::nodeid::NodeId;
use crate::nodes::{Known, Nodes};
use crate::options::{Kind, MountOptions};
use crate::pruner::Bell;
use crate::session::{
    Answer, AnswerAttributes, AnswerBytes, AnswerEntry, AnswerNames, AnswerOpen, AnswerOpenDirectory, Caller, Handle,
    Handler,
};
use complaints::Complaints;
use first_reads::FirstReads;
use opens::Opens;

mod complaints;
mod directories;
mod first_reads;
mod listing;
mod lookup;
mod opens;
mod read;

pub(crate) use directories::Directories;
pub(crate) use opens::PassthroughState;

/// The handler. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Door(Arc<Inner>);

pub(crate) struct Inner {
    client: Client,
    runtime: Runtime,
    kind: Kind,
    looks: Looks,
    request_limit: Duration,
    refuse_programs: Vec<String>,
    nodes: Arc<Nodes>,
    directories: Arc<Directories>,
    opens: Opens,
    passthrough: PassthroughState,
    invalidator: Invalidator,
    reads: Arc<Semaphore>,
    first_reads: Option<Arc<FirstReads>>,
    stopping: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    complaints: Complaints,
}

impl Deref for Door {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// What a mount's options may not be, as code that builds them may get it wrong: at least one of each.
const AT_LEAST: usize = 1;

impl Door {
    pub(crate) fn new(
        options: &MountOptions,
        client: Client,
        runtime: Runtime,
        invalidator: Invalidator,
        bell: Bell,
        metrics: Arc<Metrics>,
    ) -> Self {
        let me = Principal::User { uid: options.uid, gid: options.gid };
        // The root must be shown even while the origin is down.
        let root = match client.lookup_now(me, &options.root) {
            Some(Ok(found)) => DirectoryEntry { mtime: found.entry.mtime() },
            _ => DirectoryEntry { mtime: TimestampNs(0) },
        };
        let nodes = Arc::new(Nodes::new(options.root.clone(), root, metrics.nodes.clone(), bell));
        let inner = Inner {
            client,
            runtime,
            kind: options.kind,
            looks: Looks::of(options),
            request_limit: options.request_limit,
            refuse_programs: options.refuse_programs.clone(),
            nodes,
            directories: Arc::new(Directories::new()),
            opens: Opens::new(),
            passthrough: PassthroughState::new(options.kind),
            invalidator,
            reads: Arc::new(Semaphore::new(options.reads_in_flight.max(AT_LEAST))),
            // Opens of a mount of the other kind are calls of their own.
            first_reads: (options.kind == Kind::Files).then(|| FirstReads::new(options.threads / 2)),
            stopping: watch::Sender::new(false),
            metrics,
            complaints: Complaints::new(),
        };
        Self(Arc::new(inner))
    }

    pub(crate) fn nodes(&self) -> &Arc<Nodes> {
        &self.nodes
    }

    pub(crate) fn directories(&self) -> &Arc<Directories> {
        &self.directories
    }

    pub(crate) fn passthrough(&self) -> &PassthroughState {
        &self.passthrough
    }

    /// Requests that wait for the service.
    pub(crate) fn waiting(&self) -> i64 {
        self.metrics.waiting.get()
    }

    /// Fails every request that waits for the service, now and from now on.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Does `work` on the runtime and answers with what comes of it by `then`. Ends by the request limit or when the mount
    /// is stopped, whatever the service does.
    fn later<A: Answer, T: Send + 'static>(
        &self,
        answer: A,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
        then: impl FnOnce(&Self, A, Result<T, Fault>) + Send + 'static,
    ) {
        let door = self.clone();
        let waiting = Waiting::new(self.metrics.clone());
        let mut stopping = self.stopping.subscribe();
        self.runtime.spawn(async move {
            let _waiting = waiting;
            let limited = tokio::time::timeout(door.request_limit, work);
            let stopped = async { stopping.wait_for(|stopping| *stopping).await.map(|_| ()) };
            let result = tokio::select! {
                result = limited => result.unwrap_or_else(|_| Err(timed_out(door.request_limit))),
                _ = stopped => Err(Fault::new(FaultKind::Unavailable, "the mount is being taken away")),
            };
            then(&door, answer, result);
        });
    }

    /// Answers with the errno of `fault`, counts it, and writes a line if an operator should know.
    fn fail(&self, answer: impl Answer, op: &'static str, node: NodeId, fault: &Fault) {
        let errno = Errno::of(fault.kind);
        self.refuse(answer, errno);
        if errno.is_worth_a_line() {
            self.complaints.complain(fault.kind, op, node, &fault.message);
        }
    }

    /// Answers with `errno` and counts it.
    fn refuse(&self, answer: impl Answer, errno: Errno) {
        self.metrics.error(errno);
        answer.fail(errno);
    }
}

impl Handler for Door {
    fn lookup(&self, caller: Caller, parent: NodeId, name: &[u8], answer: impl AnswerEntry) {
        self.metrics.lookups.inc();
        self.look_up(caller, parent, name, answer);
    }

    fn forget(&self, node: NodeId, count: u64) {
        self.metrics.forgets.inc();
        self.nodes.forget(node, count);
    }

    fn attributes(&self, node: NodeId, answer: impl AnswerAttributes) {
        self.metrics.stats.inc();
        let entry = match self.nodes.get(node) {
            Some(Known::File(file)) => forebay_model::Entry::File(file),
            Some(Known::Directory(directory)) => forebay_model::Entry::Directory(directory.entry.clone()),
            None => return self.refuse(answer, Errno::STALE),
        };
        answer.attributes(&self.looks.attributes(node, &entry), ATTRIBUTES_FRESH);
    }

    fn open(&self, caller: Caller, node: NodeId, to_write: bool, answer: impl AnswerOpen) {
        self.metrics.opens.inc();
        self.open_file(caller, node, to_write, answer);
    }

    fn release(&self, node: NodeId) {
        self.metrics.releases.inc();
        self.opens.release(node);
    }

    fn read(&self, caller: Caller, node: NodeId, offset: u64, len: u32, answer: impl AnswerBytes) {
        self.metrics.reads.inc();
        self.read_file(caller, node, offset, len, answer);
    }

    fn open_directory(&self, caller: Caller, node: NodeId, answer: impl AnswerOpenDirectory) {
        self.metrics.directory_opens.inc();
        if self.is_refused(caller) {
            self.refuse(answer, Errno::ACCESS);
        } else if matches!(self.nodes.get(node), Some(Known::Directory(_))) {
            answer.opened(self.directories.open());
        } else {
            self.refuse(answer, Errno::STALE);
        }
    }

    fn release_directory(&self, handle: Handle) {
        self.metrics.directory_releases.inc();
        self.directories.release(handle);
    }

    fn list(
        &self,
        caller: Caller,
        node: NodeId,
        handle: Handle,
        offset: u64,
        remember: bool,
        answer: impl AnswerNames,
    ) {
        self.metrics.lists.inc();
        self.list_directory(caller, node, handle, offset, remember, answer);
    }

    fn refused(&self, op: &'static str, errno: Errno) {
        self.metrics.request(op);
        self.metrics.error(errno);
    }

    fn panicked(&self) {
        self.metrics.panics.inc();
        tracing::error!("a request to the mount ended in a bug of forebay");
    }
}

/// Who a request is made for.
fn principal(caller: Caller) -> Principal {
    Principal::User { uid: caller.uid, gid: caller.gid }
}

fn timed_out(limit: Duration) -> Fault {
    Fault::new(FaultKind::TimedOut, format!("the service has not answered within {} s", limit.as_secs()))
}

/// A request that waits for the service; notices if a panic ends it.
struct Waiting(Arc<Metrics>);

impl Waiting {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.waiting.inc();
        Self(metrics)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.dec();
        if std::thread::panicking() {
            self.0.panics.inc();
            tracing::error!("a request to the mount ended in a bug of forebay");
        }
    }
}
