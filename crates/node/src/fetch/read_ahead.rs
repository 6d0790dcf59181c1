//! How far ahead of a reader to fetch: pure arithmetic over what it has read.
//!
//! A content has a few cursors, one for each place where it is being read in order. A read near a cursor moves it on and
//! widens its window to twice what was read in order there; a read elsewhere starts a cursor with no window, so that
//! random readers fetch what they ask for and no more. A read at the start of a content counts as the start of a stream.

use std::collections::VecDeque;

use forebay_model::{ByteRange, ContentId, PAGE};
use hashbrown::HashMap;

/// Reads of a kernel's read-ahead arrive out of order by this much.
const SLACK: u64 = 8 * PAGE;
/// The window of a content that is read from its start.
const FIRST_WINDOW: u64 = 2 * PAGE;
/// Places in one content that are followed at once.
const CURSORS_MAX: usize = 8;
/// Contents that are followed at once: 40 KiB of memory.
const CONTENTS_MAX: usize = 256;
/// Contents that are known to be gone.
const GONE_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Cursor {
    /// Where the next read in order starts.
    next: u64,
    /// Bytes read in order so far.
    run: u64,
}

/// Follows the readers of contents that are not all here.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    window_max: u64,
    contents: HashMap<ContentId, VecDeque<Cursor>>,
    order: VecDeque<ContentId>,
    /// Contents that the origin does not have any more: nothing of them is fetched ahead.
    gone: VecDeque<ContentId>,
}

impl ReadAhead {
    pub(crate) fn new(window_max: u64) -> Self {
        Self { window_max, contents: HashMap::new(), order: VecDeque::new(), gone: VecDeque::new() }
    }

    /// The origin does not have this content any more.
    pub(crate) fn give_up(&mut self, content: ContentId) {
        if !self.gone.contains(&content) {
            self.gone.push_back(content);
        }
        if self.gone.len() > GONE_MAX {
            self.gone.pop_front();
        }
    }

    /// Takes note of a read, and says up to which offset to fetch ahead; `range.end` for not at all.
    pub(crate) fn observe(&mut self, content: ContentId, range: ByteRange, size: u64) -> u64 {
        if self.gone.contains(&content) {
            return range.end;
        }
        if !self.contents.contains_key(&content) {
            if self.order.len() >= CONTENTS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.contents.remove(&oldest);
            }
            self.order.push_back(content);
        }
        let cursors = self.contents.entry(content).or_default();
        let near =
            |c: &Cursor| range.start <= c.next.saturating_add(SLACK) && range.end.saturating_add(SLACK) >= c.next;
        let cursor = match cursors.iter().position(near).and_then(|at| cursors.remove(at)) {
            Some(known) => Cursor { next: known.next.max(range.end), run: known.run + range.len() },
            None if range.start == 0 => Cursor { next: range.end, run: FIRST_WINDOW / 2 },
            None => Cursor { next: range.end, run: 0 },
        };
        // The most recently used stands first; the one that nobody followed longest goes.
        cursors.push_front(cursor);
        cursors.truncate(CURSORS_MAX);
        let window = (2 * cursor.run).min(self.window_max);
        cursor.next.saturating_add(window).min(size).max(range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 64 * PAGE;
    const SIZE: u64 = 1 << 40;

    fn id(n: u128) -> ContentId {
        ContentId::from_u128(n)
    }

    fn read(ahead: &mut ReadAhead, start: u64, len: u64) -> u64 {
        let range = ByteRange::new(start, start + len);
        ahead.observe(id(1), range, SIZE) - range.end
    }

    #[test]
    fn the_window_grows_while_reading_is_in_order_up_to_its_limit() {
        let mut ahead = ReadAhead::new(MAX);
        let mut last = 0;
        for i in 0..200 {
            let window = read(&mut ahead, i * PAGE, PAGE);
            assert!(window >= last && window <= MAX, "{i}: {window} after {last}");
            last = window;
        }
        assert_eq!(last, MAX);
    }

    #[test]
    fn random_reads_fetch_nothing_ahead() {
        let mut ahead = ReadAhead::new(MAX);
        for i in 1..1000_u64 {
            assert_eq!(read(&mut ahead, (i * 7919 % 1000) * 100 * PAGE + PAGE, 4096), 0);
        }
    }

    #[test]
    fn reads_that_arrive_out_of_order_are_one_stream() {
        let mut ahead = ReadAhead::new(MAX);
        for i in 0..50 {
            for swapped in [i * 4 + 2, i * 4, i * 4 + 3, i * 4 + 1] {
                read(&mut ahead, swapped * PAGE, PAGE);
            }
        }
        assert!(read(&mut ahead, 200 * PAGE, PAGE) >= MAX / 2);
    }

    #[test]
    fn streams_at_different_places_do_not_disturb_each_other() {
        let mut ahead = ReadAhead::new(MAX);
        for i in 0..100 {
            read(&mut ahead, i * PAGE, PAGE);
            read(&mut ahead, (10_000 + i) * PAGE, PAGE);
        }
        assert_eq!(read(&mut ahead, 100 * PAGE, PAGE), MAX);
        assert_eq!(read(&mut ahead, 10_100 * PAGE, PAGE), MAX);
    }

    #[test]
    fn nothing_is_fetched_beyond_the_end() {
        let mut ahead = ReadAhead::new(MAX);
        assert_eq!(ahead.observe(id(1), ByteRange::new(0, 10), 20), 20);
        assert_eq!(ahead.observe(id(1), ByteRange::new(10, 20), 20), 20);
    }

    #[test]
    fn it_follows_a_bounded_number_of_contents() {
        let mut ahead = ReadAhead::new(MAX);
        for n in 0..10_000 {
            ahead.observe(id(n), ByteRange::new(0, 10), 20);
        }
        assert!(ahead.contents.len() <= CONTENTS_MAX && ahead.order.len() <= CONTENTS_MAX);
    }
}
