//! A listing that is coming in: by several writers at once, range by range, in any order of ranges.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use forebay_model::{CONTENT_MAX, Version, check_name};

use crate::block::{Packer, VERSION_MAX};
use crate::catalog::{Absence, Asked};
use crate::coverage::{Coverage, Range};
use crate::directory::Observed;
use crate::generation::Generation;
use crate::order::clamp;
use crate::page::ListingHeld;
use crate::record::Record;
use crate::shelf::Shelf;

/// Takes a listing of one directory. Dropped before it is finished, it leaves what it has to whoever goes on with it.
///
/// A place is the text of a key after the directory's prefix, up to and with the next `/`: `a` for an object, `a/` for a
/// directory. Parts are in the order of places, which is that of the origin's keys.
#[derive(Debug)]
pub struct ListingWriter {
    shelf: Arc<Shelf>,
    generation: Arc<Generation>,
    /// Where the ranges of the listing before end.
    cuts: Vec<Box<str>>,
    is_finished: std::sync::atomic::AtomicBool,
}

/// Why a listing is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListingError {
    /// Ranges of it have not been covered.
    #[error("the listing has gaps")]
    Gaps,
    /// It could not be kept.
    #[error("the listing does not fit on the catalog's disk")]
    NotKept,
    /// Its parts did not come in order.
    #[error("the origin does not list in order")]
    Order,
}

impl ListingWriter {
    pub(crate) fn new(shelf: Arc<Shelf>, generation: Arc<Generation>, cuts: Vec<Box<str>>, absence: Absence) -> Self {
        if absence == Absence::Told {
            generation.set_told();
        }
        Self { shelf, generation, cuts, is_finished: false.into() }
    }

    /// The prefix of keys to list: empty, or ending in `/`.
    pub fn prefix(&self) -> &str {
        &self.generation.prefix
    }

    /// What is still to be listed, in order: all of it at first, less where an interrupted listing is gone on with, in ranges that had
    /// a million names at most when the directory was listed before.
    pub fn gaps(&self) -> Vec<Range> {
        self.generation.coverage().gaps_cut_at(&self.cuts)
    }

    /// Names so far.
    pub fn len(&self) -> u64 {
        self.generation.names.load(Ordering::Relaxed)
    }

    /// Whether nothing was seen that shows that the directory exists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
            && self.generation.hidden.load(Ordering::Relaxed) == 0
            && !self.generation.is_marked.load(Ordering::Relaxed)
    }

    /// The listing as far as it has come.
    pub fn so_far(&self) -> ListingHeld {
        ListingHeld { generation: self.generation.clone(), fresh_for: std::time::Duration::ZERO }
    }

    /// Takes the places that follow `after`, all up to the last of `part`, in order. `asked` is from before they were asked
    /// for. Of what no name can stand for only the number is kept. Waits while too much waits to be written.
    ///
    /// # Errors
    /// It cannot be kept.
    pub fn range(&self, asked: &Asked, after: &str, part: &[(String, Observed)]) -> Result<(), ListingError> {
        let Some((last, _)) = part.last() else { return Ok(()) };
        self.put(asked, after, part, Some(last))
    }

    /// Says that nothing lies after `after`, up to and with `to`. None: to the end.
    ///
    /// # Errors
    /// It cannot be kept.
    pub fn covered(&self, asked: &Asked, after: &str, to: Option<&str>) -> Result<(), ListingError> {
        self.put(asked, after, &[], to)
    }

    fn put(
        &self,
        asked: &Asked,
        after: &str,
        part: &[(String, Observed)],
        to: Option<&str>,
    ) -> Result<(), ListingError> {
        let generation = &self.generation;
        let (after, to) = (clamp(after), to.map(clamp));
        let when = generation.disk.clock.at(asked.when);
        let mut packer = Packer::new(generation.id, when, after);
        let (mut names, mut hidden, mut before) = (0, 0, after);
        for (place, seen) in part {
            match sort_out(place, seen) {
                Kind::Object | Kind::Directory if **place <= *before => {
                    // An origin that tells a name twice, or out of order, is not believed the second time.
                    hidden += 1;
                }
                kind @ (Kind::Object | Kind::Directory) => {
                    packer.push(place, if matches!(kind, Kind::Directory) { &Observed::Directory } else { seen });
                    (names, before) = (names + 1, place);
                }
                Kind::Hidden => hidden += 1,
                Kind::Marker => generation.is_marked.store(true, Ordering::Relaxed),
                Kind::Nothing => {}
            }
        }
        generation.names.fetch_add(names, Ordering::Relaxed);
        generation.hidden.fetch_add(hidden, Ordering::Relaxed);
        generation.put(after, to, names, packer.finish(to));
        if generation.is_lost() { Err(ListingError::NotKept) } else { Ok(()) }
    }

    /// All names are there: the listing is held from now on, and answers for the whole directory. It is returned for use by
    /// whoever waits for it, even where it may not be used longer.
    ///
    /// # Errors
    /// They are not, or it could not be kept.
    pub fn finish(&self) -> Result<ListingHeld, ListingError> {
        let generation = &self.generation;
        if generation.is_lost() {
            return Err(ListingError::NotKept);
        }
        if !generation.coverage().is_whole() {
            return Err(ListingError::Gaps);
        }
        self.is_finished.store(true, Ordering::Relaxed);
        let now = Instant::now();
        self.shelf.finish(generation, now);
        generation.set_running(false);
        let fresh_for = self.shelf.left(generation, &generation.source, now);
        Ok(ListingHeld { generation: generation.clone(), fresh_for })
    }

    /// Counts keys below the directory that no name can stand for.
    pub(crate) fn hide(&self, keys: u64) {
        self.generation.hidden.fetch_add(keys, Ordering::Relaxed);
    }

    /// Whether a block can have it.
    pub(crate) fn is_name(&self, place: &str, seen: &Observed) -> bool {
        matches!(sort_out(place, seen), Kind::Object | Kind::Directory)
    }

    /// A listing for names on their way into order: nobody sees it.
    pub(crate) fn new_run(&self) -> Arc<Generation> {
        let disk = &self.generation.disk;
        let record = Record { is_run: true, ..self.generation.record(Coverage::default()) };
        Generation::new(disk, &self.generation.source, &self.generation.path, &record, disk.new_id())
    }

    pub(crate) fn drop_run(&self, run: &Arc<Generation>) {
        run.lose();
        run.disk.bury(crate::record::filling_key(&run.directory, run.id), run.id);
    }

    /// The directory does not exist, or the listing is of no use: nothing of it is kept.
    pub fn forget(self) {
        self.is_finished.store(true, Ordering::Relaxed);
        self.shelf.drop_filling(&self.generation);
    }
}

impl Drop for ListingWriter {
    fn drop(&mut self) {
        if !self.is_finished.load(Ordering::Relaxed) {
            self.generation.set_running(false);
            // Without any range there is nothing to go on with.
            if self.generation.is_lost() || self.generation.coverage().is_empty() {
                self.shelf.drop_filling(&self.generation);
            }
        }
    }
}

enum Kind {
    Object,
    /// A prefix, or the marker of one: a key that ends in `/`.
    Directory,
    /// No name can stand for it.
    Hidden,
    /// The key of the directory itself: a sign that it exists.
    Marker,
    Nothing,
}

fn sort_out(place: &str, seen: &Observed) -> Kind {
    if place.is_empty() {
        return Kind::Marker;
    }
    let (name, is_directory) = crate::order::name(place);
    if check_name(name).is_err() || name.contains('/') {
        return Kind::Hidden;
    }
    match seen {
        Observed::Absent => Kind::Nothing,
        _ if is_directory => Kind::Directory,
        Observed::File(file) if file.size <= CONTENT_MAX => match &file.version {
            Version::Id(text) | Version::Etag(text) if text.len() > VERSION_MAX => Kind::Hidden,
            _ => Kind::Object,
        },
        Observed::Directory | Observed::File(_) => Kind::Hidden,
    }
}
