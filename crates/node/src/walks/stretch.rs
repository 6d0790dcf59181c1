//! Files of a directory that follow each other in its listing, or all of them by the numbers of their inodes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use forebay_model::FileEntry;
use hashbrown::HashMap;

use super::asked::Names;
use super::recent::Place;

/// Files that are known of a stretch at most, when more come: with [`super::table`]'s number of stretches, and some 350 bytes a
/// file, 11 MiB.
pub(super) const FILES_MAX: usize = 2_048;

/// The order of the listing, and that of the inodes' numbers.
pub(super) const LISTING: usize = 0;
pub(super) const NUMBERS: usize = 1;

/// Files of a directory, in an order.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) id: u64,
    /// Which: that of the listing is the first.
    pub(super) order: usize,
    /// Positions of files by key: the keys lie all over memory, and to search them in order takes some microseconds of a read.
    by_key: HashMap<Arc<str>, u64>,
    pub(super) directory: u64,
    /// Position of the first file.
    first: u64,
    files: VecDeque<Arc<FileEntry>>,
    /// Whether position 0 is the directory's first file.
    pub(super) is_from_start: bool,
    /// The last name that was looked at, be it a file's or not.
    pub(super) last: Box<str>,
    /// Whether names follow.
    pub(super) more: bool,
    pub(super) is_loading: bool,
    /// Until so many reads nothing more is asked for: the listing has not come so far.
    pub(super) pause: u64,
    /// Until when its versions may be used.
    pub(super) until: Option<Instant>,
    /// When it was last used, in reads.
    pub(super) used_at: u64,
}

impl Stretch {
    fn new(id: u64, directory: u64, is_from_start: bool) -> Self {
        Self {
            id,
            order: LISTING,
            by_key: HashMap::new(),
            directory,
            first: 0,
            files: VecDeque::new(),
            is_from_start,
            last: "".into(),
            more: false,
            is_loading: false,
            pause: 0,
            until: None,
            used_at: 0,
        }
    }

    /// The first files of a stretch in the order of the listing.
    pub(super) fn listed(id: u64, directory: u64, names: Names) -> Self {
        let mut stretch = Self { last: names.last, more: names.more, ..Self::new(id, directory, names.is_from_start) };
        stretch.extend(names.files);
        stretch
    }

    /// All files of a directory, in the order of their numbers.
    pub(super) fn numbered(id: u64, directory: u64, files: Vec<Arc<FileEntry>>) -> Self {
        let mut whole = Self { order: NUMBERS, ..Self::new(id, directory, true) };
        whole.extend(files);
        whole
    }

    fn extend(&mut self, files: Vec<Arc<FileEntry>>) {
        let places = files.iter().zip(self.end()..).map(|(file, at)| (file.content.key.clone(), at));
        self.by_key.extend(places);
        self.files.extend(files);
    }

    /// Adds files that follow, and forgets those that lie before `keep_from` if they become too many.
    pub(super) fn add(&mut self, files: Vec<Arc<FileEntry>>, keep_from: u64) {
        self.extend(files);
        let too_many = self.files.len().saturating_sub(FILES_MAX) as u64;
        let passed = keep_from.saturating_sub(self.first).min(too_many);
        for file in self.files.drain(..passed as usize) {
            self.by_key.remove(&file.content.key);
        }
        self.first += passed;
        let most = self.files.len().min(FILES_MAX + passed as usize);
        for file in self.files.drain(most..) {
            self.by_key.remove(&file.content.key);
        }
    }

    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        self.by_key.len() == self.files.len()
            && self.files.iter().zip(self.first..).all(|(file, at)| self.by_key.get(&file.content.key) == Some(&at))
    }

    /// The place of the file `key`.
    pub(super) fn place(&self, key: &str) -> Option<Place> {
        self.by_key.get(key).map(|at| Place { stretch: self.id, at: *at })
    }

    /// The file at a position.
    pub(super) fn file(&self, at: u64) -> Option<&Arc<FileEntry>> {
        self.files.get(usize::try_from(at.checked_sub(self.first)?).ok()?)
    }

    /// The position after the last file.
    pub(super) fn end(&self) -> u64 {
        self.first + self.files.len() as u64
    }

    pub(super) fn is_first(&self, place: Place) -> bool {
        self.is_from_start && place.at == 0
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}
