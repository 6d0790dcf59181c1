//! Opens of files, in mounts of kind `streams`.
//!
//! Always true: an inode is read either through the page cache or by passthrough of one backing file, from its first open
//! to its last close: the kernel fails opens that differ with EIO. What changes meanwhile takes effect at the next first
//! open.

use std::any::Any;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use forebay_model::FileEntry;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;
use parking_lot::Mutex;

use super::{Door, principal};
use crate::errno::Errno;
use crate::mount::Passthrough;
use crate::nodeid::NodeId;
use crate::nodes::Known;
use crate::options::Kind;
use crate::session::{AnswerOpen, Backing, Caller};

/// Parts of the table, each with a lock.
const SHARDS: usize = 16;

/// What keeps a file readable by the kernel. The backing is given up before the lease ends.
struct Held {
    backing: Backing,
    _lease: Box<dyn Any + Send + Sync>,
}

struct OpenFile {
    opens: u64,
    /// None: read through the page cache.
    held: Option<Arc<Held>>,
}

/// The files that are open. As many as programs hold open.
pub(crate) struct Opens(Vec<Mutex<HashMap<NodeId, OpenFile>>>);

impl Opens {
    pub(crate) fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    /// One open less of `node`.
    pub(crate) fn release(&self, node: NodeId) {
        let mut shard = self.shard(node).lock();
        let ended = match shard.entry(node) {
            Slot::Occupied(mut slot) => {
                slot.get_mut().opens -= 1;
                (slot.get().opens == 0).then(|| slot.remove())
            }
            Slot::Vacant(_) => None,
        };
        // Giving up a backing file is a call to the kernel.
        drop(shard);
        drop(ended);
    }

    /// One open more of `node` if it is open, in the way that it is.
    fn join(&self, node: NodeId) -> Option<Option<Arc<Held>>> {
        let mut shard = self.shard(node).lock();
        let file = shard.get_mut(&node)?;
        file.opens += 1;
        Some(file.held.clone())
    }

    /// One open more of `node`, in the way that it is open, else in the given way.
    fn open(&self, node: NodeId, held: Option<Held>) -> Option<Arc<Held>> {
        let mut shard = self.shard(node).lock();
        let file = shard.entry(node).or_insert_with(|| OpenFile { opens: 0, held: held.map(Arc::new) });
        file.opens += 1;
        file.held.clone()
    }

    fn shard(&self, node: NodeId) -> &Mutex<HashMap<NodeId, OpenFile>> {
        &self.0[(node.0 >> 32) as usize % SHARDS]
    }
}

/// Whether the kernel takes backing files of this process.
pub(crate) struct PassthroughState(Mutex<Passthrough>);

impl PassthroughState {
    pub(crate) fn new(kind: Kind) -> Self {
        let why = match kind {
            Kind::Files => "a mount of kind `files` has no open calls, and passthrough needs them",
            Kind::Streams => "the mount has not been made yet",
        };
        Self(Mutex::new(Passthrough::Unavailable(why.to_owned())))
    }

    pub(crate) fn get(&self) -> Passthrough {
        self.0.lock().clone()
    }

    pub(crate) fn set(&self, state: Passthrough) {
        *self.0.lock() = state;
    }

    fn is_active(&self) -> bool {
        *self.0.lock() == Passthrough::Active
    }
}

impl Door {
    pub(super) fn open_file(&self, caller: Caller, node: NodeId, to_write: bool, answer: impl AnswerOpen) {
        if to_write {
            return self.refuse(answer, Errno::READ_ONLY);
        }
        if self.kind == Kind::Files {
            // The kernel never asks again and opens by itself.
            return self.refuse(answer, Errno::NOT_HERE);
        }
        let file = match self.nodes.get(node) {
            Some(Known::File(file)) => file,
            Some(Known::Directory(_)) => return self.refuse(answer, Errno::IS_A_DIRECTORY),
            // Makes the kernel look the name up again.
            None => return self.refuse(answer, Errno::STALE),
        };
        let held = self.opens.join(node).unwrap_or_else(|| {
            let held = self.hold(caller, &file, &answer);
            self.opens.open(node, held)
        });
        match held {
            Some(held) => {
                self.metrics.passthrough_opens.inc();
                answer.opened_passthrough(&held.backing);
            }
            None => answer.opened_cached(),
        }
    }

    /// Hands the file of a content that lies whole on this machine to the kernel; none if it is to be read through the
    /// page cache.
    fn hold(&self, caller: Caller, file: &FileEntry, answer: &impl AnswerOpen) -> Option<Held> {
        if !self.passthrough.is_active() {
            return None;
        }
        let handout = self.client.descriptor(principal(caller), &file.content)?;
        // The kernel reads a backing file to its own end: one of another size would show bytes that are not the content's.
        match rustix::fs::fstat(&handout.file) {
            Ok(stat) if stat.st_size as u64 == file.content.size => {}
            Ok(stat) => {
                let (backing, content) = (stat.st_size, file.content.size);
                tracing::warn!(backing, content, "a file that was handed out has another size than its content");
                return None;
            }
            Err(error) => {
                tracing::warn!(%error, "a file that was handed out cannot be looked at");
                return None;
            }
        }
        match answer.register(handout.file.as_fd()) {
            Ok(backing) => Some(Held { backing, _lease: handout.lease }),
            Err(error) => {
                self.passthrough_failed(&error);
                None
            }
        }
    }

    fn passthrough_failed(&self, error: &io::Error) {
        let why = match error.raw_os_error() {
            Some(libc::EPERM) => "the kernel refuses backing files: they need CAP_SYS_ADMIN in the initial namespace",
            Some(libc::ELOOP) => {
                "the cache directory lies on a stacked file system (overlay): choose another directory"
            }
            Some(libc::EOPNOTSUPP) => "the cache directory's file system cannot be read by passthrough",
            // Of this one file or moment: the next may do.
            _ => return tracing::warn!(%error, "the kernel did not take a backing file"),
        };
        tracing::warn!(%error, why, "passthrough is off: reads go through the page cache");
        self.passthrough.set(Passthrough::Unavailable(why.to_owned()));
    }
}
