//! Files that were fetched ahead and that nobody has read yet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use forebay_model::ContentId;
use hashbrown::HashMap;

use super::recent::Place;
use super::walk::WalkId;

/// Files that are expected to be read, at most: 2 MiB of memory.
const PROMISES_MAX: usize = 16_384;
/// For how long one is expected to be read.
const PROMISE_TIME: Duration = Duration::from_secs(600);

/// A file that was fetched for a reader that is still to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    /// None: it was passed by.
    pub(super) walk: Option<WalkId>,
    pub(super) directory: u64,
    pub(super) place: Place,
    pub(super) bytes: u64,
    since: Instant,
}

impl Promise {
    pub(super) fn new(walk: WalkId, directory: u64, place: Place, bytes: u64, now: Instant) -> Self {
        Self { walk: Some(walk), directory, place, bytes, since: now }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Promises {
    known: HashMap<ContentId, Promise>,
    order: VecDeque<(ContentId, Instant)>,
}

impl Promises {
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn has(&self, content: ContentId) -> bool {
        self.known.contains_key(&content)
    }

    pub(super) fn get_mut(&mut self, content: ContentId) -> Option<&mut Promise> {
        self.known.get_mut(&content)
    }

    pub(super) fn add(&mut self, content: ContentId, promise: Promise) {
        if self.order.len() >= 2 * PROMISES_MAX {
            self.order.retain(|(content, since)| self.known.get(content).is_some_and(|known| known.since == *since));
        }
        self.order.push_back((content, promise.since));
        self.known.insert(content, promise);
    }

    pub(super) fn take(&mut self, content: ContentId) -> Option<Promise> {
        self.known.remove(&content)
    }

    /// Those that are not expected any more, be it that they are too many. One a call.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Promise> {
        loop {
            let (content, since) = *self.order.front()?;
            let is_known = self.known.get(&content).is_some_and(|promise| promise.since == since);
            if is_known && self.known.len() <= PROMISES_MAX && now < since + PROMISE_TIME {
                return None;
            }
            self.order.pop_front();
            if is_known {
                return self.known.remove(&content);
            }
        }
    }
}
