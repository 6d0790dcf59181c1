//! The read that follows a lookup. A program that opens one small file after the other looks each up and then reads it from
//! its start: the disk can be at work while the answer to the lookup is on its way.
//!
//! Always true: it is done only while most lookups are followed by such a read, so that `find` and `stat` cost no disk
//! reads. It takes what lies on this machine and never waits for an origin. Its memory is bounded by [`SLOTS`] times
//! [`LEN_MAX`].

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use bytes::Bytes;
use forebay_model::ByteRange;
use parking_lot::Mutex;

use crate::nodeid::NodeId;

/// Files that are kept between lookup and read, or being read; a file's place is fixed by its number.
const SLOTS: usize = 32;
/// The longest file that is read at its lookup.
pub(super) const LEN_MAX: u64 = 256 << 10;
/// Lookups from which the habit of the programs is judged anew.
const WINDOW: u32 = 64;

/// Goes on with a read: with the file's bytes, or without if they could not be had.
type Waiting = Box<dyn FnOnce(Option<&[u8]>) + Send>;

/// Files that were looked up a moment ago.
pub(super) struct FirstReads {
    slots: [Mutex<Slot>; SLOTS],
    habit: Habit,
    under_way: AtomicUsize,
    under_way_max: usize,
}

/// Whose right the bytes were read by: only the same user is given them.
type Uid = u32;

#[derive(Default)]
struct Slot {
    node: Option<(NodeId, Uid)>,
    state: State,
}

#[derive(Default)]
enum State {
    /// Looked up, or read already.
    #[default]
    Seen,
    Reading(Option<Waiting>),
    /// All bytes of the file.
    Ready(Bytes),
}

/// Whether lookups are followed by reads.
#[derive(Default)]
struct Habit {
    lookups: AtomicU32,
    reads: AtomicU32,
    is_reading: AtomicBool,
}

/// A file that is to be read now. Dropped without [`Job::run`], it lets whoever waits go on without it.
pub(super) struct Job {
    reads: Arc<FirstReads>,
    at: usize,
    bytes: Option<Bytes>,
}

/// What became of a read.
pub(super) enum Outcome<T> {
    /// The bytes of the file are here.
    Ready(T, Bytes),
    /// The work that was given goes on when the file is read.
    Later,
    /// It is not here.
    Absent(T),
}

impl FirstReads {
    /// At most `under_way_max` files are read at a time.
    pub(super) fn new(under_way_max: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Default::default(),
            habit: Habit::default(),
            under_way: AtomicUsize::new(0),
            under_way_max,
        })
    }

    /// The file `node` of `len` bytes was looked up. Whether it is to be read now, which it is only if it may be here.
    pub(super) fn looked_up(
        self: &Arc<Self>,
        node: NodeId,
        uid: Uid,
        len: u64,
        is_here: impl FnOnce() -> bool,
    ) -> Option<Job> {
        if len == 0 || len > LEN_MAX {
            return None;
        }
        let is_reading = self.habit.looked_up();
        let at = place(node);
        let mut slot = self.slots[at].lock();
        if slot.node == Some((node, uid)) || matches!(slot.state, State::Reading(_)) {
            return None;
        }
        (slot.node, slot.state) = (Some((node, uid)), State::Seen);
        if !is_reading || !is_here() {
            return None;
        }
        if self.under_way.fetch_add(1, Ordering::Relaxed) >= self.under_way_max {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        slot.state = State::Reading(None);
        Some(Job { reads: self.clone(), at, bytes: None })
    }

    /// `range` of the file `node` is to be read: by `later` if the file is being read now.
    pub(super) fn read<T>(
        &self,
        node: NodeId,
        uid: Uid,
        range: ByteRange,
        answer: T,
        later: impl FnOnce(T) -> Waiting,
    ) -> Outcome<T> {
        let mut slot = self.slots[place(node)].lock();
        if slot.node != Some((node, uid)) {
            return Outcome::Absent(answer);
        }
        match &mut slot.state {
            State::Seen => {
                slot.node = None;
                self.habit.read();
                Outcome::Absent(answer)
            }
            State::Reading(waiting @ None) => {
                *waiting = Some(later(answer));
                self.habit.read();
                Outcome::Later
            }
            State::Reading(Some(_)) => Outcome::Absent(answer),
            State::Ready(bytes) => {
                let bytes = mem::take(bytes);
                (slot.node, slot.state) = (None, State::Seen);
                if range.start == 0 {
                    self.habit.read();
                }
                if bytes.len() as u64 >= range.end { Outcome::Ready(answer, bytes) } else { Outcome::Absent(answer) }
            }
        }
    }

    /// Takes the bytes of a file back: for its next read, unless that was its last, which ended at `read_to`.
    pub(super) fn give_back(&self, node: NodeId, uid: Uid, bytes: Bytes, read_to: u64) {
        if read_to >= bytes.len() as u64 {
            return;
        }
        let mut slot = self.slots[place(node)].lock();
        if slot.node.is_none() {
            (slot.node, slot.state) = (Some((node, uid)), State::Ready(bytes));
        }
    }
}

impl Job {
    /// Reads the file by `read`, which gives all its bytes if they are here.
    pub(super) fn run(mut self, read: impl FnOnce() -> Option<Bytes>) {
        self.bytes = read();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.reads.under_way.fetch_sub(1, Ordering::Relaxed);
        let mut slot = self.reads.slots[self.at].lock();
        let waiting = match mem::take(&mut slot.state) {
            State::Reading(waiting) => waiting,
            // Nobody else ends a state of reading.
            State::Seen | State::Ready(_) => None,
        };
        match waiting {
            Some(waiting) => {
                slot.node = None;
                drop(slot);
                // This may run while a panic unwinds: a second would end the process. Its answer, dropped, is an error.
                let _ = catch_unwind(AssertUnwindSafe(|| waiting(self.bytes.as_deref())));
            }
            None => match self.bytes.take() {
                Some(bytes) => slot.state = State::Ready(bytes),
                None => slot.node = None,
            },
        }
    }
}

impl Habit {
    /// Counts a lookup. Whether a read is likely to follow.
    fn looked_up(&self) -> bool {
        if self.lookups.fetch_add(1, Ordering::Relaxed) + 1 >= WINDOW {
            self.lookups.store(0, Ordering::Relaxed);
            let reads = self.reads.swap(0, Ordering::Relaxed);
            self.is_reading.store(reads >= WINDOW / 2, Ordering::Relaxed);
        }
        self.is_reading.load(Ordering::Relaxed)
    }

    fn read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }
}

fn place(node: NodeId) -> usize {
    // A number is a hash already.
    node.0 as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    const ALL: ByteRange = ByteRange { start: 0, end: 10 };
    const BYTES: &[u8] = b"0123456789";

    fn never(_: ()) -> Waiting {
        panic!("nothing is being read")
    }

    /// Looks files up and reads each, until that is known as a habit.
    fn with_habit() -> Arc<FirstReads> {
        let reads = FirstReads::new(2);
        for node in 0..u64::from(2 * WINDOW) {
            let job = reads.looked_up(NodeId(node), 0, 10, || true);
            if let Some(job) = job {
                job.run(|| Some(Bytes::from_static(BYTES)));
            }
            reads.read(NodeId(node), 0, ALL, (), never);
        }
        reads
    }

    #[test]
    fn files_are_read_at_their_lookup_once_that_pays_and_until_it_does_not() {
        let reads = with_habit();
        let begun = (0..1_000).filter(|node| reads.looked_up(NodeId(*node), 0, 10, || true).is_some()).count();
        assert!((1..=WINDOW as usize).contains(&begun), "nobody reads them any more: {begun}");
        let untouched = FirstReads::new(2);
        assert!((0..1_000).all(|node| untouched.looked_up(NodeId(node), 0, 10, || true).is_none()));
    }

    #[test]
    fn what_was_read_is_given_once_and_to_its_user_only() {
        let reads = with_habit();
        let read = |uid| reads.read(NodeId(7_000), uid, ALL, (), never);
        assert!(reads.looked_up(NodeId(7_001), 1, LEN_MAX + 1, || true).is_none(), "too long");
        let job = reads.looked_up(NodeId(7_000), 1, 10, || true).expect("a habit");
        job.run(|| Some(Bytes::from_static(BYTES)));
        assert!(matches!(read(2), Outcome::Absent(())), "another user");
        let Outcome::Ready((), bytes) = read(1) else { panic!("it is ready") };
        assert_eq!(bytes, BYTES);
        reads.give_back(NodeId(7_000), 1, bytes, 4);
        let Outcome::Ready((), bytes) = read(1) else { panic!("the rest is still to be read") };
        reads.give_back(NodeId(7_000), 1, bytes, 10);
        assert!(matches!(read(1), Outcome::Absent(())), "read to its end");
    }

    #[test]
    fn a_read_that_comes_meanwhile_is_answered_at_the_end_whatever_that_is() {
        for filled in [true, false] {
            let reads = with_habit();
            let got = Arc::new(AtomicU64::new(0));
            let seen = got.clone();
            let job = reads.looked_up(NodeId(9), 0, 10, || true).expect("a habit");
            assert!(reads.looked_up(NodeId(9), 0, 10, || true).is_none(), "under way");
            let outcome = reads.read(NodeId(9), 0, ALL, (), |()| {
                Box::new(move |bytes| seen.store(bytes.map_or(1, |bytes| 100 + bytes.len() as u64), Ordering::Relaxed))
            });
            assert!(matches!(outcome, Outcome::Later));
            if filled {
                job.run(|| Some(Bytes::from_static(BYTES)));
            } else {
                drop(job);
            }
            assert_eq!(got.load(Ordering::Relaxed), if filled { 110 } else { 1 });
            assert!(reads.looked_up(NodeId(9), 0, 10, || true).is_some(), "the place is free again");
        }
    }

    #[test]
    fn a_panic_of_both_ends_neither_the_process_nor_the_place() {
        let reads = with_habit();
        let job = reads.looked_up(NodeId(9), 0, 10, || true).expect("a habit");
        let _ = reads.read(NodeId(9), 0, ALL, (), |()| Box::new(|_| panic!("one more bug")));
        assert!(catch_unwind(AssertUnwindSafe(|| job.run(|| panic!("a bug")))).is_err());
        assert!(reads.looked_up(NodeId(9), 0, 10, || true).is_some(), "the place is free again");
    }

    #[test]
    fn few_are_read_at_a_time() {
        let reads = with_habit();
        let jobs: Vec<_> = (0..SLOTS as u64).filter_map(|node| reads.looked_up(NodeId(node), 0, 10, || true)).collect();
        assert_eq!(jobs.len(), 2);
        drop(jobs);
        assert!(reads.looked_up(NodeId(2_999), 0, 10, || false).is_none(), "it is not here");
        assert!(reads.looked_up(NodeId(3_000), 0, 10, || true).is_some());
    }
}
