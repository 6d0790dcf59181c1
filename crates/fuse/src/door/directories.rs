//! Open directories: where in its listing each reader is.
//!
//! An offset is the number of names before it, so that any that was ever given can be gone back to: checkpoints say after
//! which name to list on. Reading on goes by name: what is added or removed meanwhile neither repeats nor hides others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay_model::{ListedEntry, ListedPage};
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use crate::nodeid::NodeId;
use crate::session::Handle;

/// Checkpoints that an open directory keeps. At 1,024 names a page the first million names have one each page; then
/// every second one is dropped, again and again.
const CHECKPOINTS: usize = 1024;

/// The open directories. As many as programs hold open.
pub(crate) struct Directories {
    next: AtomicU64,
    open: Mutex<HashMap<Handle, Open>>,
}

/// One open of a directory.
struct Open {
    node: NodeId,
    listing: Arc<Mutex<Listing>>,
}

/// Where in a listing a reader is.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Number of names before the page.
    start: u64,
    page: Arc<[ListedEntry]>,
    /// Until when the page's names may be held, unless something is outdated since that turn.
    fresh_until: Instant,
    turn: u64,
    /// Whether names follow the page.
    more: bool,
    /// Numbers of names, and the last of that many; in order, without the first page's.
    checkpoints: Vec<(u64, Arc<str>)>,
}

/// What a listing has at an offset.
#[derive(Debug)]
pub(crate) enum At {
    /// A page, and the index in it to go on from.
    Page(Arc<[ListedEntry]>, usize),
    /// Nothing there yet: a page of names after `after` is to be installed at `start` first.
    Missing { start: u64, after: Arc<str> },
    /// No names follow.
    End,
}

impl Directories {
    pub(crate) fn new() -> Self {
        // Numbers of an earlier process may still be held by the kernel when this one takes over its mount.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Self { next: AtomicU64::new(now), open: Mutex::default() }
    }

    pub(crate) fn open(&self) -> Handle {
        // The listing is made when it is read.
        Handle(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The listing of `handle`, an open of the directory `node`; one that starts at the beginning if the handle is not known.
    pub(crate) fn get(&self, handle: Handle, node: NodeId) -> Arc<Mutex<Listing>> {
        let mut open = self.open.lock();
        let begin = || Open { node, listing: Arc::new(Mutex::new(Listing::new())) };
        open.entry(handle).or_insert_with(begin).listing.clone()
    }

    /// Directories that are being read.
    pub(crate) fn open_nodes(&self) -> HashSet<NodeId> {
        self.open.lock().values().map(|open| open.node).collect()
    }

    pub(crate) fn release(&self, handle: Handle) {
        self.open.lock().remove(&handle);
    }
}

impl Listing {
    pub(crate) fn new() -> Self {
        Self { start: 0, page: Arc::new([]), fresh_until: Instant::now(), turn: 0, more: true, checkpoints: Vec::new() }
    }

    /// What stands after the first `index` names.
    pub(crate) fn at(&self, index: u64) -> At {
        let end = self.start + self.page.len() as u64;
        if index >= self.start && index < end {
            return At::Page(self.page.clone(), (index - self.start) as usize);
        }
        if index >= end && !self.more {
            return At::End;
        }
        let before = self.checkpoints.partition_point(|(number, _)| *number <= index);
        match before.checked_sub(1) {
            Some(last) => Self::missing(&self.checkpoints[last]),
            None => At::Missing { start: 0, after: "".into() },
        }
    }

    /// A page of names after the first `start` ones, that was asked for at that turn of what is outdated.
    pub(crate) fn install(&mut self, start: u64, page: ListedPage, turn: u64) {
        self.start = start;
        self.turn = turn;
        self.page = page.entries.into();
        self.more = page.more;
        self.fresh_until = Instant::now() + page.fresh_for;
        if let Some(last) = self.page.last() {
            let checkpoint = (start + self.page.len() as u64, last.name.clone());
            let place = self.checkpoints.partition_point(|(number, _)| *number < checkpoint.0);
            // Names after a checkpoint depend on what was added or removed since: the newest page is right.
            match self.checkpoints.get_mut(place) {
                Some(known) if known.0 == checkpoint.0 => *known = checkpoint,
                _ => self.checkpoints.insert(place, checkpoint),
            }
            self.thin_out(start + self.page.len() as u64);
        }
    }

    /// For how long the names of the page at hand may be held, at that turn of what is outdated.
    pub(crate) fn fresh_left(&self, turn: u64) -> Duration {
        if turn == self.turn { self.fresh_until.saturating_duration_since(Instant::now()) } else { Duration::ZERO }
    }

    fn missing((start, after): &(u64, Arc<str>)) -> At {
        At::Missing { start: *start, after: after.clone() }
    }

    /// Keeps the number of checkpoints bounded, and that of `current`.
    fn thin_out(&mut self, current: u64) {
        if self.checkpoints.len() > CHECKPOINTS {
            let mut odd = false;
            self.checkpoints.retain(|(number, _)| {
                odd = !odd;
                odd || *number == current
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_model::{DirectoryEntry, Entry, TimestampNs};

    use super::*;

    fn page(range: std::ops::Range<u64>, more: bool) -> ListedPage {
        let entry = Entry::Directory(DirectoryEntry { mtime: TimestampNs(0) });
        let entries = range.map(|n| ListedEntry { name: format!("{n:09}").into(), entry: entry.clone() }).collect();
        ListedPage { entries, more, hidden: 0, fresh_for: Duration::ZERO }
    }

    fn check(listing: &Listing, index: u64, expected: &str) {
        let got = match listing.at(index) {
            At::Page(page, at) => format!("name {}", page[at].name.trim_start_matches('0')),
            At::Missing { start, after } => format!("missing {start} after {}", after.trim_start_matches('0')),
            At::End => "end".to_owned(),
        };
        assert_eq!(got, expected, "at {index}");
    }

    #[test]
    fn goes_on_and_back() {
        let mut listing = Listing::new();
        check(&listing, 0, "missing 0 after ");
        listing.install(0, page(0..10, true), 0);
        check(&listing, 3, "name 3");
        check(&listing, 10, "missing 10 after 9");
        listing.install(10, page(10..15, false), 0);
        check(&listing, 14, "name 14");
        check(&listing, 15, "end");
        check(&listing, 99, "end");
        check(&listing, 3, "missing 0 after ");
        listing.install(0, page(0..10, true), 0);
        check(&listing, 12, "missing 10 after 9");
    }

    #[test]
    fn names_of_a_page_from_before_something_was_outdated_are_not_held() {
        let mut listing = Listing::new();
        let fresh_for = Duration::from_secs(60);
        listing.install(0, ListedPage { fresh_for, ..page(0..10, true) }, 7);
        assert!(listing.fresh_left(7) > fresh_for / 2);
        assert_eq!(listing.fresh_left(8), Duration::ZERO);
    }

    #[test]
    fn checkpoints_are_bounded_and_lose_no_place() {
        let mut listing = Listing::new();
        for n in 0..5000 {
            listing.install(n * 10, page(n * 10..n * 10 + 10, true), 0);
            check(&listing, n * 10 + 10, &format!("missing {} after {}", n * 10 + 10, n * 10 + 9));
        }
        assert!(listing.checkpoints.len() <= CHECKPOINTS + 1);
        assert!(matches!(listing.at(25_003), At::Missing { start, .. } if start <= 25_003));
    }
}
