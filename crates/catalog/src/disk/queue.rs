//! What waits to be written.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::generation::{Flags, Generation};
use crate::overlay::What;
use crate::record::{self, PathKey};

/// Blocks of a listing that cover one range of it.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) generation: Arc<Generation>,
    pub(crate) after: Box<str>,
    pub(crate) to: Option<Box<str>>,
    pub(crate) names: u64,
    pub(crate) blocks: Vec<(Box<str>, Arc<[u8]>)>,
}

/// What was seen of one path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) what: What,
    /// Count of observations before it was asked for.
    pub(crate) at: u64,
    /// The catalog's time before it was asked for.
    pub(crate) when: u64,
}

/// What is written at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: usize,
    pub(super) chunks: Vec<Chunk>,
    /// Keys to put, or to delete, in order.
    pub(super) ops: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) seen: HashMap<PathKey, Seen>,
    /// Listings whose keys say that they are whole.
    pub(super) whole: Vec<Arc<Generation>>,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) next: Batch,
    /// What of the batch that is being written is looked up meanwhile.
    pub(super) writing: Arc<HashMap<PathKey, Seen>>,
    /// Listings to delete.
    pub(super) dead: VecDeque<u64>,
    /// Listings that somebody holds.
    pub(super) held: HashMap<u64, Vec<Arc<Flags>>>,
    /// Batches taken, written, and to be written without waiting for more.
    pub(super) ticket: u64,
    pub(super) done: u64,
    pub(super) flush: u64,
    pub(super) is_closed: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.ops.is_empty() && self.seen.is_empty()
    }

    pub(super) fn op(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len) + 64;
        self.ops.push((key, value));
    }

    pub(super) fn chunk(&mut self, chunk: Chunk) {
        self.bytes += chunk.blocks.iter().map(|(after, block)| after.len() + block.len() + 64).sum::<usize>();
        self.chunks.push(chunk);
    }

    pub(super) fn seen(&mut self, path: PathKey, seen: Seen) {
        self.bytes += seen.what.weight() + 64;
        self.seen.insert(path, seen);
    }
}

impl Queue {
    pub(super) fn seen(&self, path: &PathKey) -> Option<Seen> {
        self.next.seen.get(path).or_else(|| self.writing.get(path)).cloned()
    }

    /// The blocks of the listing `id` are to be deleted, now or after a restart.
    pub(super) fn bury(&mut self, id: u64) {
        let key = record::dead_key(id);
        self.next.op(key.clone(), Some(record::seal(&key, vec![0; 8])));
        self.dead.push_back(id);
    }

    /// A listing to delete that nobody reads.
    pub(super) fn next_dead(&self) -> Option<u64> {
        let is_used =
            |id: &u64| self.held.get(id).is_some_and(|all| all.iter().any(|f| !f.is_lost.load(Ordering::Acquire)));
        self.dead.iter().copied().find(|id| !is_used(id))
    }
}

impl Seen {
    pub(crate) fn value(&self, key: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 8];
        out.extend_from_slice(&self.at.to_le_bytes());
        out.extend_from_slice(&self.when.to_le_bytes());
        self.what.put(&mut out);
        record::seal(key, out)
    }

    pub(crate) fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let mut take = record::open(key, value)?;
        let (at, when) = (take.u64()?, take.u64()?);
        Some(Self { at, when, what: What::take(&mut take)? })
    }
}
