//! What waits for a directory's writer: fills, bounded in bytes, and orders to let go, bounded in number.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_model::{BlockSum, ContentId, ExtentIndex, PageIndex};
use parking_lot::{Condvar, Mutex};

use crate::error::NotKept;
use crate::large::Large;
use crate::pack::Pack;

/// Orders to let go that may wait. They are rare (a changed object, a damaged block), and one that finds no place is not
/// lost for good: what it is about is found again, or evicted unread.
const MAX_ORDERS: usize = 65_536;

/// An opaque number that the store keeps with each content: source and class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(pub u64);

/// A page to keep.
#[derive(Clone, Debug)]
pub struct Fill {
    /// Whose page.
    pub id: ContentId,
    /// Size of the whole content in bytes.
    pub size: u64,
    /// Kept with the content.
    pub group: Group,
    /// Which page.
    pub page: PageIndex,
    /// The page's bytes, in order, in pieces of any length.
    pub chunks: Vec<Bytes>,
    /// Checksums of its blocks, made when the bytes came from the origin or a node.
    pub sums: Vec<BlockSum>,
}

/// What became of a fill that was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is readable from the store.
    Yes,
    /// It is not.
    No(NotKept),
}

/// Called once with what became of a fill, on the directory's writer thread: it must not block.
pub type Done = Box<dyn FnOnce(Kept) + Send>;

/// An order to a writer.
pub(crate) enum Order {
    /// Keep a page.
    Keep(Fill, Done),
    /// A small object is out of the index: say so in the log.
    DropSmall(ContentId),
    /// A pack cannot be read any more, or is not wanted.
    DropPack(Arc<Pack>),
    /// A large content cannot be read any more, or is not wanted.
    DropLarge(Arc<Large>),
    /// A page of an extent is damaged: let the extent go.
    DropExtent(Arc<Large>, ExtentIndex),
}

/// The queue of one directory.
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    max_bytes: u64,
}

#[derive(Default)]
struct State {
    orders: VecDeque<Order>,
    /// Bytes of fills that wait or are being written.
    bytes: u64,
    /// Set: nothing more is taken in, and the writer ends by this time.
    closing: Option<Instant>,
    /// The writer has ended.
    ended: bool,
}

/// What the writer found.
pub(crate) enum Taken {
    /// Orders, in order.
    Orders(Vec<Order>),
    /// The queue is closed and empty, or its time is up; these are left.
    End(Vec<Order>),
}

impl Queue {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), max_bytes }
    }

    /// Queues a fill of `bytes`.
    pub(crate) fn keep(&self, fill: Fill, bytes: u64, done: Done) -> Result<(), NotKept> {
        let mut state = self.state.lock();
        if state.closing.is_some() {
            return Err(NotKept::Closed);
        }
        // A page larger than the whole queue must still get through an empty one.
        if state.bytes > 0 && state.bytes + bytes > self.max_bytes {
            return Err(NotKept::QueueFull);
        }
        state.bytes += bytes;
        state.orders.push_back(Order::Keep(fill, done));
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Queues an order to let go. False if there is no place.
    pub(crate) fn order(&self, order: Order) -> bool {
        let mut state = self.state.lock();
        if state.closing.is_some() || state.orders.len() >= MAX_ORDERS {
            return false;
        }
        state.orders.push_back(order);
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Waits for orders; at most `max` of them.
    pub(crate) fn take(&self, max: usize) -> Taken {
        let mut state = self.state.lock();
        loop {
            if state.closing.is_some_and(|end| state.orders.is_empty() || Instant::now() >= end) {
                return Taken::End(state.orders.drain(..).collect());
            }
            if !state.orders.is_empty() {
                let now = state.orders.len().min(max);
                return Taken::Orders(state.orders.drain(..now).collect());
            }
            self.changed.wait(&mut state);
        }
    }

    /// `bytes` of fills that were taken are done with.
    pub(crate) fn release(&self, bytes: u64) {
        self.state.lock().bytes -= bytes;
    }

    /// Takes nothing more in; the writer ends within `time`.
    pub(crate) fn close(&self, time: Duration) {
        let mut state = self.state.lock();
        state.closing.get_or_insert(Instant::now() + time);
        drop(state);
        self.changed.notify_all();
    }

    /// The writer has ended.
    pub(crate) fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits until the writer has ended. False: `until` came first.
    pub(crate) fn wait_end(&self, until: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.ended {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return state.ended;
            }
        }
        true
    }

    /// Bytes that wait or are being written.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("bytes", &self.bytes()).field("max_bytes", &self.max_bytes).finish()
    }
}
