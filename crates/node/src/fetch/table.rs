//! The flights under way, each page at most once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use forebay_model::{ContentId, PageIndex};
use forebay_store::Fill;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::Mutex;

use super::flight::Flight;

const SHARDS: usize = 16;
/// Whole flights for which the store's queue had no room wait for it to move on, at most this many; they hold a part of
/// the budget, and are the first to go when it is short.
const LINGERING_MAX: usize = 64;
/// Pages that the store has and whose reader is still to come, at most, and so many bytes if all are as long as the newest: as much
/// as is fetched ahead of one reader by default. They hold a part of the budget, and are the first to go when it is short.
const UNREAD_MAX: usize = 1_024;
const UNREAD_BYTES_MAX: u64 = 64 << 20;

type Shard = Mutex<HashMap<(ContentId, PageIndex), Arc<Flight>>>;

/// The table of flights.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    shards: [Shard; SHARDS],
    count: AtomicUsize,
    lingering: Mutex<VecDeque<(Arc<Flight>, Fill)>>,
    /// The table alone keeps them alive.
    unread: Mutex<VecDeque<(Weak<Flight>, Instant)>>,
    /// Whether a task gives those up that wait for long.
    is_minded: AtomicBool,
}

/// Who fetches a page.
#[derive(Debug)]
pub(crate) enum Claim {
    /// The caller: the flight is new.
    Mine(Arc<Flight>),
    /// Somebody else does already.
    Theirs,
    /// Nobody: the store has it.
    Here,
}

impl Flights {
    /// The flight of a page, if there is one.
    pub(crate) fn get(&self, content: ContentId, page: PageIndex) -> Option<Arc<Flight>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.shard(content, page).lock().get(&(content, page)).cloned()
    }

    /// Enters a flight for a page unless there is one, or the store has it. A flight leaves the table only after the
    /// store has its page, so what is in neither while the shard is locked has to be fetched.
    pub(crate) fn claim(
        &self,
        (content, page, len): (ContentId, PageIndex, u64),
        is_ahead: bool,
        is_here: impl FnOnce() -> bool,
    ) -> Claim {
        match self.shard(content, page).lock().entry((content, page)) {
            Entry::Occupied(_) => Claim::Theirs,
            Entry::Vacant(_) if is_here() => Claim::Here,
            Entry::Vacant(entry) => {
                let flight = Arc::new(Flight::new(content, page, len, is_ahead));
                entry.insert(flight.clone());
                self.count.fetch_add(1, Ordering::Release);
                Claim::Mine(flight)
            }
        }
    }

    /// Takes exactly this flight off the table.
    pub(crate) fn remove(&self, flight: &Arc<Flight>) {
        let key = (flight.content, flight.page);
        let mut shard = self.shard(flight.content, flight.page).lock();
        if shard.get(&key).is_some_and(|known| Arc::ptr_eq(known, flight)) {
            shard.remove(&key);
            self.count.fetch_sub(1, Ordering::Release);
        }
    }

    /// Puts a whole flight back into the table, to be offered to the store again.
    pub(crate) fn linger(&self, flight: Arc<Flight>, fill: Fill) {
        let key = (flight.content, flight.page);
        match self.shard(flight.content, flight.page).lock().entry(key) {
            // Somebody fetches it anew already.
            Entry::Occupied(_) => return,
            Entry::Vacant(entry) => {
                entry.insert(flight.clone());
                self.count.fetch_add(1, Ordering::Release);
            }
        }
        let oldest = {
            let mut lingering = self.lingering.lock();
            lingering.push_back((flight, fill));
            if lingering.len() > LINGERING_MAX { lingering.pop_front() } else { None }
        };
        if let Some((oldest, _)) = oldest {
            self.remove(&oldest);
        }
    }

    /// The flight that has lingered longest, which stays in the table.
    pub(crate) fn take_lingering(&self) -> Option<(Arc<Flight>, Fill)> {
        self.lingering.lock().pop_front()
    }

    /// Leaves a page that the store has in the table until its reader has come. True: from now on,
    /// [`Self::give_up_unread_since`] is to be called until it says that none waits.
    pub(crate) fn await_reader(&self, flight: &Arc<Flight>) -> bool {
        let max = UNREAD_MAX.min((UNREAD_BYTES_MAX / flight.len.max(1)) as usize);
        let (oldest, is_minded) = {
            let mut unread = self.unread.lock();
            unread.push_back((Arc::downgrade(flight), Instant::now()));
            let oldest = if unread.len() > max { unread.pop_front() } else { None };
            (oldest, self.is_minded.swap(true, Ordering::Relaxed))
        };
        if let Some(oldest) = oldest.and_then(|(oldest, _)| oldest.upgrade()) {
            self.remove(&oldest);
        }
        !is_minded
    }

    /// Gives up the pages that have waited for so long. Gives when the next will have.
    pub(crate) fn give_up_unread_since(&self, time: Duration) -> Option<Instant> {
        let now = Instant::now();
        loop {
            let old = {
                let mut unread = self.unread.lock();
                match unread.front() {
                    Some((_, since)) if *since + time <= now => unread.pop_front(),
                    Some((_, since)) => return Some(*since + time),
                    None => {
                        self.is_minded.store(false, Ordering::Relaxed);
                        return None;
                    }
                }
            };
            if let Some(old) = old.and_then(|(old, _)| old.upgrade()) {
                self.remove(&old);
            }
        }
    }

    /// Gives up the page that has waited longest for its reader. False: none waits.
    pub(crate) fn give_up_unread(&self) -> bool {
        loop {
            let Some((oldest, _)) = self.unread.lock().pop_front() else { return false };
            // Most have been read since.
            if let Some(oldest) = oldest.upgrade() {
                self.remove(&oldest);
                return true;
            }
        }
    }

    /// Flights in the table.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn shard(&self, content: ContentId, page: PageIndex) -> &Shard {
        // Ids are uniform; neighbouring pages go to neighbouring shards.
        &self.shards[(content.as_u128() as usize).wrapping_add(page.0 as usize) % SHARDS]
    }
}
