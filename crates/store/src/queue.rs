//! What waits for a directory's writer: fills, bounded in bytes, and orders to let go, bounded in number.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_model::{BlockSum, ContentId, ExtentIndex, PageIndex};
use parking_lot::{Condvar, Mutex};

use crate::error::NotKept;
use crate::group::Group;
use crate::index::SmallPlace;
use crate::large::Large;
use crate::pack::Pack;
use crate::tiers::Adoption;
use crate::writer::fill_bytes;

/// Orders to let go that may wait. They are rare (a changed object, a damaged block), and one that finds no place is not
/// lost for good: what it is about is found again, or evicted unread.
const MAX_ORDERS: usize = 65_536;

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

/// A callback that is called in any case: with `Failed` if it is dropped.
pub(crate) struct Answer(Option<Done>);

impl Answer {
    /// Says what became of the fill. A caller's panic must not take the writer with it.
    pub(crate) fn call(mut self, kept: Kept) {
        self.say(kept);
    }

    fn say(&mut self, kept: Kept) {
        if let Some(done) = self.0.take()
            && catch_unwind(AssertUnwindSafe(|| done(kept))).is_err()
        {
            tracing::error!("the callback of a fill panicked");
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.say(Kept::No(NotKept::Failed));
    }
}

/// An order to a writer.
pub(crate) enum Order {
    /// Keep a page.
    Keep(Fill, Answer),
    /// A small object is not wanted where it lies: say so in the log.
    DropSmall(ContentId, SmallPlace),
    /// A pack cannot be read any more, or is not wanted.
    DropPack(Arc<Pack>),
    /// A large content cannot be read any more, or is not wanted.
    DropLarge(Arc<Large>),
    /// A page of an extent is damaged: let the extent go.
    DropExtent(Arc<Large>, ExtentIndex),
    /// A content is not wanted, and was not known to be here yet.
    Forget(ContentId),
    /// A small object that lies on a slower directory is read often.
    Promote(ContentId, SmallPlace, Arc<Pack>),
    /// A pack of a faster directory is to go: what lives in it is to lie here.
    Demote(Arc<Pack>),
    /// A large content is to lie here.
    Adopt(Box<Adoption>),
    /// A bug in the writer.
    #[cfg(test)]
    Panic,
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
    /// The writer is to look around though no order waits.
    wake: bool,
    /// Set: nothing more is taken in, and the writer ends by this time.
    closing: Option<Instant>,
    /// The writer has ended.
    ended: bool,
}

/// What the writer found.
pub(crate) enum Taken {
    /// Orders, in order.
    Orders(Vec<Order>),
    /// None came in time.
    Nothing,
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
        state.orders.push_back(Order::Keep(fill, Answer(Some(done))));
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

    /// Waits for orders, or to be woken; at most `max` of them, and no more once their fills have `max_bytes`. Waits no longer
    /// than `patience`, if there is any bound.
    pub(crate) fn take(&self, max: usize, max_bytes: u64, patience: Option<Duration>) -> Taken {
        let until = patience.map(|patience| Instant::now() + patience);
        let mut state = self.state.lock();
        loop {
            if state.closing.is_some_and(|end| state.orders.is_empty() || Instant::now() >= end) {
                return Taken::End(state.orders.drain(..).collect());
            }
            if std::mem::take(&mut state.wake) || !state.orders.is_empty() {
                let (mut now, mut bytes) = (0, 0);
                for order in state.orders.iter().take(max) {
                    if bytes >= max_bytes {
                        break;
                    }
                    now += 1;
                    if let Order::Keep(fill, _) = order {
                        bytes += fill_bytes(fill);
                    }
                }
                return Taken::Orders(state.orders.drain(..now).collect());
            }
            match until {
                None => self.changed.wait(&mut state),
                Some(until) if self.changed.wait_until(&mut state, until).timed_out() => return Taken::Nothing,
                Some(_) => {}
            }
        }
    }

    /// `bytes` of fills that were taken are done with.
    pub(crate) fn release(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// Lets the writer look around.
    pub(crate) fn wake(&self) {
        self.state.lock().wake = true;
        self.changed.notify_all();
    }

    /// The writer has died: nothing is taken in any more, and what waits has failed.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.closing.get_or_insert(Instant::now());
        state.bytes = 0;
        let orders = std::mem::take(&mut state.orders);
        drop(state);
        // Callbacks are called without the lock.
        drop(orders);
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

    /// The most that may wait.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes
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
