//! One reader's way through a directory.

use std::collections::VecDeque;

use forebay_model::ContentId;

use super::recent::{Place, STRIDE_MAX};

/// The narrowest window, and the first.
const WINDOW_MIN: usize = 4;
/// The first of who begins with the first file of a directory, which few do by chance.
const WINDOW_OF_START: usize = 8;
/// The widest: what an origin at 100 ms brings for 2,500 files a second.
pub(super) const WINDOW_MAX: usize = 256;
/// Reads of several threads arrive out of order by so many files. What is passed by further is not expected any more.
const BEHIND: u64 = 64;
/// How far before its reader a walk looks, in positions: over files that are here already, too.
pub(super) const LEAD_MAX: u64 = 1_024;

/// Between two steps of a walk come so many other reads at most for each walk that there is, and so many more, or it is none:
/// shuffled reads have hit upon an order.
const GAP: u64 = 8;
/// What a walk is trusted at first. A step in time makes it one more, one that is late two less; without it ends.
const TRUST: i32 = 2;
const TRUST_MAX: i32 = 16;

/// Names a walk.
pub(crate) type WalkId = u64;

/// A reader that goes through a directory in order.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) id: WalkId,
    pub(super) directory: u64,
    stretch: u64,
    stride: u64,
    /// Where its reader is.
    pub(super) at: u64,
    /// The next position to fetch.
    pub(super) next: u64,
    /// Files that may be fetched and not read yet.
    pub(super) window: usize,
    /// How many are.
    pub(super) unread: usize,
    pub(super) unread_bytes: u64,
    /// Those that were fetched, in order; with some that were read since.
    ahead: VecDeque<(u64, ContentId)>,
    /// Tasks that are to fetch for it and have not begun.
    starting: usize,
    /// When it was last used, in reads; and when by a step that was foreseen.
    pub(super) used_at: u64,
    stepped_at: u64,
    trust: i32,
}

impl Walk {
    pub(super) fn new(id: WalkId, directory: u64, place: Place, stride: u64, clock: u64) -> Self {
        debug_assert!((1..=STRIDE_MAX).contains(&stride), "a stride is looked for in these bounds");
        Self {
            id,
            directory,
            stretch: place.stretch,
            stride,
            at: place.at,
            next: place.at + stride,
            window: if place.at <= 1 { WINDOW_OF_START } else { WINDOW_MIN },
            unread: 0,
            unread_bytes: 0,
            ahead: VecDeque::new(),
            starting: 0,
            used_at: clock,
            stepped_at: clock,
            trust: TRUST,
        }
    }

    pub(super) fn is_on(&self, stretch: u64) -> bool {
        self.stretch == stretch
    }

    pub(super) fn place(&self) -> Place {
        Place { stretch: self.stretch, at: self.next }
    }

    /// Whether a read at `place` is one of its steps.
    pub(super) fn takes(&self, place: Place) -> bool {
        place.stretch == self.stretch
            && place.at + BEHIND * self.stride >= self.at
            && place.at <= self.next
            && self.at.abs_diff(place.at).is_multiple_of(self.stride)
    }

    /// Its reader is at `at`. Gives the contents that it has passed by.
    pub(super) fn reach(&mut self, at: u64, clock: u64) -> Vec<ContentId> {
        self.used_at = clock;
        if at == self.at + self.stride {
            self.stepped_at = clock;
        }
        self.at = self.at.max(at);
        self.next = self.next.max(self.at + self.stride);
        let passed = self.ahead.iter().take_while(|(at, _)| at + BEHIND * self.stride < self.at).count();
        self.ahead.drain(..passed).map(|(_, content)| content).collect()
    }

    /// Whether it may look at another position.
    pub(super) fn may_go_on(&self, bytes_max: u64) -> bool {
        self.unread < self.window
            && self.next <= self.at + LEAD_MAX
            && (self.unread == 0 || self.unread_bytes < bytes_max)
    }

    /// Leaves a position behind, whether it is fetched or not.
    pub(super) fn step(&mut self) {
        self.next += self.stride;
    }

    /// `content` at position `at` is being fetched.
    pub(super) fn fetches(&mut self, at: u64, content: ContentId, bytes: u64) {
        self.unread += 1;
        self.unread_bytes += bytes;
        self.ahead.push_back((at, content));
        if self.ahead.len() > 2 * WINDOW_MAX {
            self.ahead.pop_front();
        }
    }

    /// One of its files was read. Whether it is trusted still.
    pub(super) fn was_read(&mut self, bytes: u64, clock: u64, walks: u64) -> bool {
        self.ends(bytes);
        self.window = (self.window + 1).min(WINDOW_MAX);
        let is_late = clock > self.stepped_at + GAP * (walks + 1);
        self.trust = (self.trust + if is_late { -2 } else { 1 }).min(TRUST_MAX);
        self.stepped_at = clock;
        self.trust > 0
    }

    /// One of its files is not waited for any more: it was passed by, or is gone, or never came.
    pub(super) fn was_not_read(&mut self, bytes: u64) {
        self.ends(bytes);
        self.window = (self.window - 1).max(WINDOW_MIN);
    }

    fn ends(&mut self, bytes: u64) {
        self.unread = self.unread.saturating_sub(1);
        self.unread_bytes = self.unread_bytes.saturating_sub(bytes);
    }

    /// Memory is short.
    pub(super) fn narrow(&mut self) {
        self.window = (self.window / 2).max(WINDOW_MIN);
    }

    /// How many more tasks should fetch for it, where there is room for so many requests and the names end at `end`. A quarter of the window at a time:
    /// each start costs a change of threads.
    pub(super) fn hire(&mut self, room: usize, bytes_max: u64, end: u64) -> usize {
        let mean = self.unread_bytes.checked_div(self.unread as u64).unwrap_or_default().max(1);
        let window = self.window.min(usize::try_from(bytes_max / mean).unwrap_or(usize::MAX));
        let taken = self.unread + self.starting;
        if taken * 4 > window * 3 {
            return 0;
        }
        let positions = end.min(self.at + LEAD_MAX + 1).saturating_sub(self.next).div_ceil(self.stride);
        let hired = (window - taken).min(room.saturating_sub(self.starting)).min(positions as usize);
        self.starting += hired;
        hired
    }

    /// One of those begins.
    pub(super) fn begins(&mut self) {
        self.starting = self.starting.saturating_sub(1);
    }
}
