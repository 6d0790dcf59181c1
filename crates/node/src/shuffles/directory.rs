//! What is remembered of a directory whose files are read in no order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_model::{ContentId, FileEntry};
use hashbrown::HashSet;

use super::FACTOR;
use crate::walks::{Names, Whence};

/// Files of a directory that were read in no order before it is fetched.
pub(super) const READS_MIN: u64 = 16;
/// Fetching goes on in a directory once so many files may be: to begin costs a look into the catalog.
const LUMP: u64 = 32;
/// Names that are looked at together, at most.
const NAMES_MAX: u64 = 256;
/// For how long a directory rests of which the names are not known: twice as long each time.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(64);

/// A directory.
#[derive(Debug)]
pub(super) struct Directory {
    /// When one of its files was last read.
    pub(super) used_at: Instant,
    /// Files that were read and nothing else foresaw.
    reads: u64,
    /// Files that were fetched for that.
    fetched: u64,
    /// Those of them that nobody has read yet, by the lower half of their ids; and their bytes.
    unread: HashSet<u64>,
    unread_bytes: u64,
    /// Files that were waited for since it was fetched to its end; none while it is not.
    missed_since: Option<u64>,
    /// The name after which the names that are known begin, and the one after which to look next.
    from: Box<str>,
    after: Box<str>,
    names: VecDeque<Arc<FileEntry>>,
    /// Whether they are the directory's last.
    is_last: bool,
    /// The file of them that was looked at last.
    last: Option<Arc<FileEntry>>,
    /// Until when their versions may be used.
    until: Option<Instant>,
    is_loading: bool,
    /// Until then its names are not asked for again, for they were not known; and for how long that was.
    resting: Option<(Instant, Duration)>,
    /// When it was last turned to, in turns.
    pub(super) turn: u64,
}

fn short(content: ContentId) -> u64 {
    content.as_u128() as u64
}

impl Directory {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            used_at: now,
            reads: 0,
            fetched: 0,
            unread: HashSet::new(),
            unread_bytes: 0,
            missed_since: None,
            from: "".into(),
            after: "".into(),
            names: VecDeque::new(),
            is_last: false,
            last: None,
            until: None,
            is_loading: false,
            resting: None,
            turn: 0,
        }
    }

    /// Files that were fetched and are not read yet.
    pub(super) fn unread(&self) -> usize {
        self.unread.len()
    }

    pub(super) fn unread_bytes(&self) -> u64 {
        self.unread_bytes
    }

    /// A file is read that nothing else foresaw. Its bytes if it was fetched for this: they are of use unless they have to be asked
    /// for again.
    pub(super) fn read(&mut self, content: ContentId, bytes: u64, whence: Whence, now: Instant) -> u64 {
        let was_fetched = self.unread.remove(&short(content));
        let is_of_use = was_fetched && whence != Whence::Origin;
        if is_of_use || whence == Whence::Origin {
            self.used_at = now;
            self.reads += 1;
        }
        if let Some(missed) = &mut self.missed_since
            && whence == Whence::Origin
        {
            *missed += 1;
        }
        let fetched = if was_fetched { bytes.min(self.unread_bytes) } else { 0 };
        self.unread_bytes -= fetched;
        fetched
    }

    /// Files that may be fetched now.
    fn allowed(&self, now: Instant) -> u64 {
        let rests = self.is_loading || self.resting.is_some_and(|(until, _)| now < until);
        // Files may be new, or gone from here.
        let is_done = self.missed_since.is_some_and(|missed| missed < READS_MIN);
        if rests || is_done || self.reads < READS_MIN { 0 } else { (FACTOR * self.reads).saturating_sub(self.fetched) }
    }

    /// Whether to begin with it.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.allowed(now) >= LUMP
    }

    pub(super) fn is_loading(&self) -> bool {
        self.is_loading
    }

    /// Files that could be fetched at once, of those whose names are known; one if they have to be looked up.
    pub(super) fn at_hand(&self, now: Instant) -> usize {
        let allowed = usize::try_from(self.allowed(now)).unwrap_or(usize::MAX);
        if self.names.is_empty() { allowed.min(1) } else { allowed.min(self.names.len()) }
    }

    /// The next file to look at; none: names are needed, or nothing is to be done.
    pub(super) fn next(&mut self, now: Instant) -> Option<Arc<FileEntry>> {
        if self.until.is_some_and(|until| now >= until) {
            self.look_up_again();
        }
        if self.allowed(now) == 0 {
            return None;
        }
        let next = self.names.pop_front();
        if next.is_some() {
            self.last.clone_from(&next);
        } else if self.is_last {
            self.is_last = false;
            self.missed_since = Some(0);
        }
        next
    }

    /// Names that are needed from the catalog: after which, and how many.
    pub(super) fn load(&mut self, now: Instant) -> Option<(Box<str>, u32)> {
        let allowed = self.allowed(now);
        if allowed == 0 || !self.names.is_empty() {
            return None;
        }
        (self.is_loading, self.missed_since) = (true, None);
        // Some of them will be here already.
        Some((self.after.clone(), (2 * allowed).clamp(LUMP, NAMES_MAX) as u32))
    }

    /// Names have come; none: the catalog does not have them.
    pub(super) fn loaded(&mut self, names: Option<Names>, now: Instant) {
        self.is_loading = false;
        let Some(names) = names else {
            let rest = self.resting.map_or(REST, |(_, rest)| (rest * 2).min(REST_MAX));
            self.resting = Some((now + rest, rest));
            return;
        };
        (self.resting, self.last) = (None, None);
        // Behind what was put back meanwhile.
        self.names.extend(names.files);
        (self.until, self.is_last) = (names.until, !names.more);
        self.from = std::mem::replace(&mut self.after, if names.more { names.last } else { "".into() });
    }

    /// The file that was next has to wait.
    pub(super) fn put_back(&mut self, file: Arc<FileEntry>) {
        self.names.push_front(file);
    }

    /// It is being fetched.
    pub(super) fn fetches(&mut self, content: ContentId, bytes: u64) {
        self.fetched += 1;
        if self.unread.insert(short(content)) {
            self.unread_bytes += bytes;
        }
    }

    /// A file did not come. The bytes of it that were expected to be read.
    pub(super) fn failed(&mut self, content: ContentId, bytes: u64) -> u64 {
        let unused = if self.unread.remove(&short(content)) { bytes.min(self.unread_bytes) } else { 0 };
        self.unread_bytes -= unused;
        unused
    }

    /// Lets go of the names: what they say of the files' versions may be old, or others are looked at first.
    pub(super) fn look_up_again(&mut self) {
        self.until = None;
        if !self.names.is_empty() {
            self.names.clear();
            self.is_last = false;
            let last = self.last.take().map(|last| name_of(&last.content.key).into());
            self.after = last.unwrap_or_else(|| self.from.clone());
        }
    }
}

fn name_of(key: &str) -> &str {
    &key[key.rfind('/').map_or(0, |slash| slash + 1)..]
}
