//! Which ranges there are, who lists them, and what a page means for them. No I/O, no clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::alphabet::Alphabet;
use super::pivot::{Known, common, pages_left, pivot};
use super::span::{KeySpan, Part};
use super::width::Width;
use crate::Listed;
use crate::pages::Page;

/// Ranges that may be taken over whatever that costs: a lister for each of 16, and as many bad guesses.
pub(crate) const STEALS_FREE: u64 = 32;
/// Beyond those, one for so many pages: bad guesses and ranges that end in the middle of a page cost at most an eighth more.
pub(crate) const PAGES_PER_STEAL: u64 = 8;
/// Full pages for each cut that gave nothing or not yet: a small prefix pays half as much again at most.
const FULL_PER_DOUBT: u64 = 2;
/// A range is not worth a cut if it seems to have fewer pages left.
const WORTH_PAGES: f64 = 2.0;
/// Cuts of one range that gave nothing, after which it is asked where its keys branch.
const MISSES: u32 = 2;
/// Pages without an entry, one after the other, that a server may send, as some do that step over deleted objects.
const EMPTY_MAX: u32 = 1_000;
/// Every so many entries of a page one is looked at for its letters.
const LOOK_EVERY: usize = 64;

pub(crate) type RangeId = u64;

/// A range that is not covered yet.
#[derive(Debug)]
struct Range {
    /// Covered up to here.
    after: Arc<str>,
    until: Option<Arc<str>>,
    /// First key of the last page.
    first: Option<Arc<str>>,
    /// Bytes of the keys of which it is not known whether others begin differently.
    path: usize,
    /// Whether a range was cut from it that has no page yet.
    is_cut: bool,
    /// Cuts from it that gave nothing, since one that gave something.
    misses: u32,
    /// The range that it was cut from, until its first page.
    cut_from: Option<RangeId>,
    empty: u32,
    /// Whether its next page is asked for by key, not as what follows the page before.
    is_by_key: bool,
}

/// All ranges of one listing.
#[derive(Debug)]
pub(crate) struct Board {
    ranges: BTreeMap<RangeId, Range>,
    next_id: RangeId,
    /// Without a request under way.
    waiting: VecDeque<RangeId>,
    under_way: usize,
    alphabet: Alphabet,
    width: Width,
    pages: u64,
    /// Pages that were not the last of their range.
    full_pages: u64,
    steals: u64,
    /// Steals that gave nothing, or not yet.
    doubtful: u64,
}

/// A page to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) id: RangeId,
    pub(crate) after: Arc<str>,
}

/// What to do with the range of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask for the page behind it.
    Page,
    /// Nothing now.
    Leave,
}

/// Why a listing cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("the listing does not advance: the server sends the same page again and again")]
    Stuck,
    #[error("the server lists out of order, or from elsewhere than it was asked to")]
    Disorder,
}

impl Board {
    /// For the keys in `gaps` (ascending; they may touch), all of which start with `prefix`.
    pub(crate) fn new(prefix: &str, gaps: Vec<KeySpan>, cap: usize) -> Self {
        let mut board = Self {
            ranges: BTreeMap::new(),
            next_id: 0,
            waiting: VecDeque::new(),
            under_way: 0,
            alphabet: Alphabet::new(prefix.len()),
            width: Width::new(cap),
            pages: 0,
            full_pages: 0,
            steals: 0,
            doubtful: 0,
        };
        for gap in gaps {
            let id = board.add(gap.after, gap.until, None);
            board.waiting.push_back(id);
        }
        board
    }

    /// A page that may be asked for now. None: not before another has come.
    pub(crate) fn next_job(&mut self) -> Option<Job> {
        if self.under_way >= self.width.allowed() {
            return None;
        }
        let id = self.waiting.pop_front().or_else(|| self.steal())?;
        self.under_way += 1;
        Some(Job { id, after: Arc::clone(&self.ranges[&id].after) })
    }

    /// Whether everything is covered.
    pub(crate) fn is_covered(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Ranges that were cut from others.
    pub(crate) fn steals(&self) -> u64 {
        self.steals
    }

    /// The page that was asked for in range `id` came.
    pub(crate) fn took(&mut self, id: RangeId, page: Page) -> Result<(Option<Part>, Next), Problem> {
        self.under_way -= 1;
        self.pages += 1;
        if page.was_asked_again {
            self.width.refused();
        }
        // What fits on one page needs no order.
        let is_alone = page.is_last && self.pages == 1 && self.ranges.len() == 1;
        let Some(range) = self.ranges.get_mut(&id) else { return Ok((None, Next::Leave)) };
        if !page.is_ordered && !is_alone {
            return Err(Problem::Disorder);
        }
        let mut entries = page.entries;
        let known = entries.partition_point(|entry| entry.key() <= &*range.after);
        // A prefix that the range begins in belongs to the range before, but keys in it do not; some servers give the start too.
        let is_start = known == 1
            && match &entries[0] {
                Listed::Prefix { key } => range.after.starts_with(&**key),
                Listed::Object { key, .. } => *key == range.after,
            };
        if known > 0 && !is_start {
            if range.is_by_key || known < entries.len() {
                return Err(Problem::Disorder);
            }
            // The page before once more: the server's token leads nowhere, a key may.
            return Ok((None, self.wait(id)));
        }
        entries.drain(..known);
        let inside =
            range.until.as_deref().map_or(entries.len(), |until| entries.partition_point(|e| e.key() <= until));
        let ends_at = |end: &Arc<str>| entries.last().is_some_and(|last| last.key() == &**end);
        let is_done = page.is_last || inside < entries.len() || range.until.as_ref().is_some_and(ends_at);
        entries.truncate(inside);
        if entries.is_empty() && !is_done {
            range.empty += 1;
            if range.empty > EMPTY_MAX {
                return Err(Problem::Stuck);
            }
            return Ok((None, self.go_on(id)));
        }
        let covered = range.covers(&entries, is_done, &mut self.alphabet);
        if let Some(from) = range.cut_from.take() {
            let is_hit = !entries.is_empty();
            self.doubtful -= u64::from(is_hit);
            if let Some(from) = self.ranges.get_mut(&from) {
                from.cut_gave(is_hit);
            }
        }
        let next = if is_done {
            self.ranges.remove(&id);
            Next::Leave
        } else {
            self.full_pages += 1;
            self.width.page();
            self.go_on(id)
        };
        Ok((Some(Part { covered: Some(covered), entries }), next))
    }

    fn go_on(&mut self, id: RangeId) -> Next {
        if self.under_way >= self.width.allowed() {
            return self.wait(id);
        }
        self.under_way += 1;
        if let Some(range) = self.ranges.get_mut(&id) {
            range.is_by_key = false;
        }
        Next::Page
    }

    fn wait(&mut self, id: RangeId) -> Next {
        if let Some(range) = self.ranges.get_mut(&id) {
            range.is_by_key = true;
        }
        self.waiting.push_back(id);
        Next::Leave
    }

    fn add(&mut self, after: Arc<str>, until: Option<Arc<str>>, cut_from: Option<RangeId>) -> RangeId {
        let range = Range {
            after,
            until,
            first: None,
            path: usize::MAX,
            is_cut: false,
            misses: 0,
            cut_from,
            empty: 0,
            is_by_key: true,
        };
        self.next_id += 1;
        self.ranges.insert(self.next_id, range);
        self.next_id
    }

    /// Cuts the upper half off the range that seems to have the most left.
    fn steal(&mut self) -> Option<RangeId> {
        let is_spent = self.steals >= STEALS_FREE + self.pages / PAGES_PER_STEAL;
        if is_spent || self.doubtful >= self.full_pages / FULL_PER_DOUBT {
            return None;
        }
        let cuttable = self.ranges.iter().filter(|(_, range)| !range.is_cut);
        let left = cuttable.filter_map(|(id, range)| Some((pages_left(&range.known()?, &self.alphabet), *id)));
        let (_, id) = left.filter(|(left, _)| *left >= WORTH_PAGES).max_by(|a, b| a.0.total_cmp(&b.0))?;
        let range = self.ranges.get_mut(&id)?;
        let Some(pivot) = pivot(&range.known()?, &self.alphabet) else {
            // No more of it until its next page.
            range.first = None;
            return None;
        };
        let pivot: Arc<str> = pivot.into();
        range.is_cut = true;
        let until = range.until.replace(Arc::clone(&pivot));
        self.steals += 1;
        self.doubtful += 1;
        Some(self.add(pivot, until, Some(id)))
    }
}

impl Range {
    /// What is known of it; None before its first page.
    fn known(&self) -> Option<Known<'_>> {
        let first = self.first.as_deref()?;
        Some(Known { first, last: &self.after, until: self.until.as_deref(), path: self.path })
    }

    /// Notes that a page brought `entries`, all that are new; tells what is covered with them.
    fn covers(&mut self, entries: &[Listed], is_done: bool, alphabet: &mut Alphabet) -> KeySpan {
        self.empty = 0;
        let after = Arc::clone(&self.after);
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return KeySpan { after, until: self.until.clone() };
        };
        entries.iter().step_by(LOOK_EVERY).chain([last]).for_each(|entry| alphabet.see(entry.key()));
        // Keys of one page are neighbours: how they begin says most.
        let path = common(first.key(), last.key());
        self.path = match self.path {
            usize::MAX if self.cut_from.is_some() => common(&after, first.key()),
            known => known.min(path),
        };
        self.first = Some(first.key().into());
        self.after = last.key().into();
        KeySpan { after, until: if is_done { self.until.clone() } else { Some(Arc::clone(&self.after)) } }
    }

    /// The range that was cut from it has its first page.
    fn cut_gave(&mut self, is_hit: bool) {
        self.is_cut = false;
        self.misses = if is_hit { 0 } else { self.misses + 1 };
        if self.misses >= MISSES {
            self.misses = 0;
            self.path = self.first.as_deref().map_or(self.path, |first| common(first, &self.after));
        }
    }
}
