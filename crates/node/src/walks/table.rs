//! All walks, and what they need to know.

use std::sync::Arc;
use std::time::Instant;

use forebay_model::{Content, ContentId};

use super::asked::{Load, LoadFrom, Names, Next, NextPlace, Outcome, ReadOf, Whence};
use super::directory::{self, Directory};
use super::promises::{Promise, Promises};
use super::recent::{ORDERLY, ORDERS, Place, Recent, Step, Steps};
use super::stretch::{LISTING, NUMBERS, Stretch};
use super::walk::{LEAD_MAX, Walk, WalkId};

/// Directories that are remembered; the one that was not used for longest goes.
const DIRECTORIES_MAX: usize = 64;
/// Stretches that are known at once.
const STRETCHES_MAX: usize = 16;
/// Those of them that are all of a directory by numbers: together 10 MB.
const NUMBERED_MAX: usize = 2;
/// Walks at once.
const WALKS_MAX: usize = 32;
/// Reads of what is here already that are looked at after one that is not: an epoch from the cache costs no look.
const WARMTH: u32 = 256;
/// Names of a stretch that are fetched from the catalog when so few lie before a walk.
const NAMES_LOW: u64 = LEAD_MAX / 2;
/// Reads after which names that had not come yet are asked for again.
const PAUSE: u64 = 16;
/// Files behind a walk whose places stay known.
const NAMES_BEHIND: u64 = 256;

/// Walks, and what they need to know.
#[derive(Debug)]
pub(crate) struct Walks {
    bytes_max: u64,
    recent: Recent,
    directories: Vec<Directory>,
    stretches: Vec<Stretch>,
    walks: Vec<Walk>,
    promises: Promises,
    warmth: u32,
    /// Reads so far: what was used when.
    clock: u64,
    /// The last id that was given to anything.
    last_id: u64,
}

impl Walks {
    /// Walks of which each has at most `bytes_max` in files that nobody has read yet.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            recent: Recent::default(),
            directories: Vec::new(),
            stretches: Vec::new(),
            walks: Vec::new(),
            promises: Promises::default(),
            warmth: 0,
            clock: 0,
            last_id: 0,
        }
    }

    /// Whether reads of what is here are of interest.
    pub(crate) fn is_watching(&self) -> bool {
        self.warmth > 0 || !self.promises.is_empty()
    }

    /// A file is read from its start.
    pub(crate) fn read(&mut self, read: ReadOf<'_>, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        self.clock += 1;
        if let Some(promise) = self.promises.expired(now) {
            outcome.unused_bytes += promise.bytes;
            self.settle(&promise, false);
        }
        let promise = self.promises.take(read.content.id);
        if let Some(promise) = &promise {
            let is_used = read.whence != Whence::Origin;
            *(if is_used { &mut outcome.used_bytes } else { &mut outcome.unused_bytes }) += promise.bytes;
            self.settle(promise, is_used);
        }
        if promise.is_some() || read.whence != Whence::Here {
            self.warmth = WARMTH;
        } else if self.warmth == 0 {
            return outcome;
        } else {
            self.warmth -= 1;
        }
        let promised = promise.map(|promise| promise.place).filter(|place| self.stretch(place.stretch).is_some());
        let places = match promised {
            Some(place) => [Some(place), None],
            None => self.places(read, now),
        };
        outcome.is_foreseen = promise.is_some();
        let walk = promise.and_then(|promise| promise.walk);
        outcome.load = match self.step(read, places, walk, now) {
            Some((walk, at)) => {
                outcome.is_foreseen = true;
                self.go_on(walk, at, (read.room, now), &mut outcome);
                return outcome;
            }
            None if places[LISTING].is_none() => self.load_around(read).or_else(|| self.load_numbers(read)),
            None => self.load_numbers(read),
        };
        outcome
    }

    /// Takes note of a read at these places. Gives the walk that it is a step of, and where.
    fn step(
        &mut self,
        read: ReadOf<'_>,
        places: [Option<Place>; ORDERS],
        promised: Option<WalkId>,
        now: Instant,
    ) -> Option<(WalkId, u64)> {
        let (mut steps, mut found): (Steps, _) = ([None; ORDERS], None);
        for place in places.into_iter().flatten() {
            let Some(stretch) = self.stretch(place.stretch) else { continue };
            let (order, run) = (stretch.order, self.recent.run(place, stretch.is_first(place)));
            let walk = found.is_none().then(|| self.walk_of(place, promised, run, now)).flatten();
            steps[order] = Some(Step { place, run: if walk.is_some() { run.max(ORDERLY) } else { run } });
            found = found.or(walk.map(|walk| (walk, place.at)));
        }
        self.recent.note(&read.content.source, &read.content.key, steps);
        found
    }

    /// Names that were asked for have come; none: the catalog does not have them.
    pub(crate) fn loaded(&mut self, load: &Load, names: Option<Names>, room: usize, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(directory) = self.directories.iter_mut().find(|known| known.id == load.directory) {
            directory.is_loading = false;
        }
        let until = names.as_ref().and_then(|names| names.until);
        match &load.from {
            LoadFrom::Around { .. } | LoadFrom::Numbers => {
                let Some(names) = names else { return outcome };
                let id = self.next_id();
                let mut stretch = match load.from {
                    LoadFrom::Numbers => Stretch::numbered(id, load.directory, names.files),
                    _ => Stretch::listed(id, load.directory, names),
                };
                (stretch.used_at, stretch.until) = (self.clock, until);
                self.stretches.push(stretch);
                self.forget_old();
                let Self { recent, stretches, .. } = self;
                let Some(stretch) = stretches.iter().find(|known| known.id == id) else { return outcome };
                let directory = (load.source.facts.path.as_str(), &*load.prefix);
                let (place_of, is_first) = (|key: &str| stretch.place(key), |place| stretch.is_first(place));
                if let Some(step) = recent.find_places(directory, stretch.order, place_of, is_first)
                    && let Some(walk) = self.walk_of(step.place, None, step.run, now)
                {
                    self.go_on(walk, step.place.at, (room, now), &mut outcome);
                }
            }
            LoadFrom::After { stretch: id, .. } => {
                if let Some(stretch) = self.stretches.iter_mut().find(|known| known.id == *id) {
                    stretch.is_loading = false;
                    stretch.pause = if names.is_none() { self.clock + PAUSE } else { 0 };
                }
                if let Some(names) = names {
                    self.extend(*id, names);
                    let walk = self.walks.iter().filter(|walk| walk.is_on(*id)).max_by_key(|walk| walk.used_at);
                    if let Some((walk, at)) = walk.map(|walk| (walk.id, walk.at)) {
                        self.go_on(walk, at, (room, now), &mut outcome);
                    }
                }
            }
        }
        outcome
    }

    /// The next file to fetch for a walk.
    pub(crate) fn next(&mut self, walk: WalkId, now: Instant) -> Next {
        let Some(nth) = self.walks.iter().position(|known| known.id == walk) else { return Next::Nothing };
        let (place, unread) = (self.walks[nth].place(), self.walks[nth].unread);
        let directory = self.walks[nth].directory;
        let Some(directory) = self.directories.iter_mut().find(|known| known.id == directory) else {
            return Next::Nothing;
        };
        if !self.walks[nth].may_go_on(self.bytes_max) || !directory.allows(unread, now) {
            return Next::Nothing;
        }
        let source = directory.source.clone();
        let Some(stretch) = self.stretch(place.stretch) else { return Next::Nothing };
        match stretch.file(place.at).cloned() {
            Some(file) if stretch.is_fresh(now) => {
                self.walks[nth].step();
                Next::File { source, file, place: NextPlace(place) }
            }
            Some(_) => Next::Nothing,
            None => self.load_after(place).map_or(Next::Nothing, Next::Load),
        }
    }

    /// `content`, which was next for `walk`, is being fetched now. False: it was expected already.
    pub(crate) fn fetches(&mut self, walk: WalkId, place: NextPlace, content: &Content, now: Instant) -> bool {
        if self.promises.has(content.id) {
            return false;
        }
        let (NextPlace(place), bytes) = (place, content.size);
        let directory = self.stretch(place.stretch).map_or(0, |stretch| stretch.directory);
        if let Some(walk) = self.walks.iter_mut().find(|known| known.id == walk) {
            walk.fetches(place.at, content.id, bytes);
        }
        if let Some(directory) = self.directories.iter_mut().find(|known| known.id == directory) {
            directory.fetched();
        }
        self.promises.add(content.id, Promise::new(walk, directory, place, bytes, now));
        true
    }

    /// What `walk` was to fetch at `place` has to wait: the origin is busy, or memory is short.
    pub(crate) fn put_back(&mut self, walk: WalkId, place: NextPlace, is_memory_short: bool) {
        if let Some(walk) = self.walks.iter_mut().find(|known| known.id == walk) {
            walk.next = walk.next.min(place.0.at);
            if is_memory_short {
                walk.narrow();
            }
        }
    }

    /// What was being fetched did not come. Whoever waits for it has been told.
    pub(crate) fn failed(&mut self, content: ContentId, has_changed: bool, now: Instant) {
        let Some(promise) = self.promises.take(content) else { return };
        if let Some(directory) = self.directories.iter_mut().find(|known| known.id == promise.directory) {
            directory.failed(has_changed, now);
        }
        self.settle(&promise, false);
        if has_changed {
            // What the stretch says of the files after it may be as old.
            if let Some(stretch) = self.stretches.iter_mut().find(|known| known.id == promise.place.stretch) {
                stretch.until = Some(now);
            }
        } else if let Some(walk) = promise.walk {
            self.walks.retain(|known| known.id != walk);
        }
    }

    /// A task that was to fetch for `walk` begins.
    pub(crate) fn begins(&mut self, walk: WalkId) {
        if let Some(walk) = self.walks.iter_mut().find(|known| known.id == walk) {
            walk.begins();
        }
    }

    #[cfg(test)]
    pub(super) fn is_bounded(&self) -> bool {
        self.walks.len() <= WALKS_MAX
            && self.stretches.len() <= STRETCHES_MAX
            && self.stretches.iter().filter(|stretch| stretch.order == NUMBERS).count() <= NUMBERED_MAX
            && self.directories.len() <= DIRECTORIES_MAX
            && self.stretches.iter().all(Stretch::is_consistent)
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn stretch(&self, id: u64) -> Option<&Stretch> {
        self.stretches.iter().find(|stretch| stretch.id == id)
    }

    fn settle(&mut self, promise: &Promise, was_read: bool) {
        if was_read && let Some(directory) = self.directories.iter_mut().find(|known| known.id == promise.directory) {
            directory.used();
        }
        let walks = self.walks.len() as u64;
        let Some(walk) = self.walks.iter_mut().find(|known| Some(known.id) == promise.walk) else { return };
        if !was_read {
            walk.was_not_read(promise.bytes);
        } else if !walk.was_read(promise.bytes, self.clock, walks) {
            let id = walk.id;
            self.walks.retain(|known| known.id != id);
        }
    }

    fn directory_of(&self, read: ReadOf<'_>) -> Option<usize> {
        let prefix = directory::of(&read.content.key);
        self.directories.iter().position(|known| *known.prefix == *prefix && Arc::ptr_eq(&known.source, read.source))
    }

    /// Where the file stands in each order that is known.
    fn places(&mut self, read: ReadOf<'_>, now: Instant) -> [Option<Place>; ORDERS] {
        let Some(directory) = self.directory_of(read) else { return [None; ORDERS] };
        let id = self.directories[directory].id;
        self.stretches.retain(|stretch| stretch.directory != id || stretch.is_fresh(now));
        [LISTING, NUMBERS].map(|order| {
            let known = self.stretches.iter().filter(|known| known.directory == id && known.order == order);
            known.filter_map(|stretch| stretch.place(&read.content.key)).next()
        })
    }

    /// The place of this file is to be found if another one of its directory was read just before it.
    fn load_around(&mut self, read: ReadOf<'_>) -> Option<Load> {
        let prefix = directory::of(&read.content.key);
        let nth = match self.directory_of(read) {
            Some(nth) => nth,
            None if self.recent.has(&read.content.source, prefix) => {
                let id = self.next_id();
                self.directories.push(Directory::new(id, read.source, prefix));
                self.directories.len() - 1
            }
            None => return None,
        };
        let directory = &mut self.directories[nth];
        directory.used_at = self.clock;
        if !directory.is_due() {
            return None;
        }
        directory.is_loading = true;
        let of = directory.id;
        let is_start_known = self.stretches.iter().any(|known| known.directory == of && known.is_from_start);
        let from = LoadFrom::Around { file: read.content.key.clone(), is_start_known };
        let load = Load { source: read.source.clone(), prefix: prefix.into(), from, directory: of };
        self.forget_old();
        Some(load)
    }

    /// Its directory is read in no order that is known.
    fn load_numbers(&mut self, read: ReadOf<'_>) -> Option<Load> {
        let nth = self.directory_of(read)?;
        let directory = &mut self.directories[nth];
        let (id, prefix) = (directory.id, directory.prefix.clone());
        if self.stretches.iter().any(|known| known.directory == id && known.order == NUMBERS) || !directory.is_astray()
        {
            return None;
        }
        directory.is_loading = true;
        Some(Load { source: read.source.clone(), prefix, from: LoadFrom::Numbers, directory: id })
    }

    /// Names that follow in a stretch, unless they are on their way.
    fn load_after(&mut self, place: Place) -> Option<Load> {
        let stretch = self.stretches.iter_mut().find(|known| known.id == place.stretch)?;
        if !stretch.more || stretch.is_loading || self.clock < stretch.pause || place.at + NAMES_LOW < stretch.end() {
            return None;
        }
        let directory = self.directories.iter().find(|known| known.id == stretch.directory)?;
        stretch.is_loading = true;
        let from = LoadFrom::After { stretch: stretch.id, name: stretch.last.clone() };
        Some(Load { source: directory.source.clone(), prefix: directory.prefix.clone(), from, directory: directory.id })
    }

    fn extend(&mut self, stretch: u64, names: Names) {
        let on_it = self.walks.iter().filter(|walk| walk.is_on(stretch)).map(|walk| walk.at);
        let keep_from = on_it.min().map_or(u64::MAX, |at| at.saturating_sub(NAMES_BEHIND));
        let Some(stretch) = self.stretches.iter_mut().find(|known| known.id == stretch) else { return };
        stretch.add(names.files, keep_from);
        (stretch.last, stretch.more) = (names.last, names.more);
    }

    /// The walk that a read at `place` belongs to: that for which it was fetched, one that it is a step of, or, if it stands in
    /// an order, a new one.
    fn walk_of(&mut self, place: Place, promised: Option<WalkId>, run: u32, now: Instant) -> Option<WalkId> {
        let is_its = |walk: &&mut Walk| Some(walk.id) == promised;
        let nth = match self.walks.iter_mut().find(is_its) {
            Some(walk) => return Some(walk.id),
            None => self.walks.iter().position(|walk| walk.takes(place)),
        };
        if let Some(nth) = nth {
            return Some(self.walks[nth].id);
        }
        let stretch = self.stretch(place.stretch)?;
        let (of, order) = (stretch.directory, stretch.order);
        let stride = match order {
            _ if run >= ORDERLY => 1,
            LISTING => self.recent.stride(place)?,
            _ => return None,
        };
        let directory = self.directories.iter_mut().find(|known| known.id == of)?;
        directory.has_walk();
        if !directory.allows(0, now) {
            return None;
        }
        let id = self.next_id();
        self.walks.push(Walk::new(id, of, place, stride, self.clock));
        Some(id)
    }

    /// The reader of a walk is at a position.
    fn go_on(&mut self, walk: WalkId, at: u64, (room, now): (usize, Instant), outcome: &mut Outcome) {
        let clock = self.clock;
        let Some(nth) = self.walks.iter().position(|known| known.id == walk) else { return };
        for content in self.walks[nth].reach(at, clock) {
            // It may still be read: then it is used, but not by this walk.
            if let Some(promise) = self.promises.get_mut(content).filter(|promise| promise.walk == Some(walk)) {
                promise.walk = None;
                self.walks[nth].was_not_read(promise.bytes);
            }
        }
        let Self { walks, stretches, directories, .. } = self;
        let walk = &mut walks[nth];
        let place = walk.place();
        let stretch = stretches.iter_mut().find(|known| known.id == place.stretch);
        let directory = directories.iter_mut().find(|known| known.id == walk.directory);
        if let (Some(stretch), Some(directory)) = (stretch, directory) {
            (stretch.used_at, directory.used_at) = (clock, clock);
            if directory.allows(walk.unread, now) {
                let hired = walk.hire(room, self.bytes_max, stretch.end());
                outcome.walk = (hired > 0).then_some((walk.id, hired));
            }
        }
        outcome.load = self.load_after(place);
        self.forget_old();
    }

    /// Keeps what is remembered within its bounds.
    fn forget_old(&mut self) {
        drop_oldest(&mut self.walks, WALKS_MAX, |walk| walk.used_at);
        drop_oldest(&mut self.stretches, STRETCHES_MAX, |stretch| stretch.used_at);
        let numbered = self.stretches.iter().filter(|stretch| stretch.order == NUMBERS);
        if numbered.clone().count() > NUMBERED_MAX
            && let Some(oldest) = numbered.min_by_key(|stretch| stretch.used_at).map(|stretch| stretch.id)
        {
            self.stretches.retain(|stretch| stretch.id != oldest);
        }
        drop_oldest(&mut self.directories, DIRECTORIES_MAX, |directory| directory.used_at);
        let Self { walks, stretches, directories, .. } = self;
        stretches.retain(|stretch| directories.iter().any(|known| known.id == stretch.directory));
        walks.retain(|walk| stretches.iter().any(|known| walk.is_on(known.id)));
    }
}

fn drop_oldest<T>(all: &mut Vec<T>, max: usize, used_at: impl Fn(&T) -> u64) {
    while all.len() > max {
        let oldest = all.iter().enumerate().min_by_key(|(_, one)| used_at(one)).map(|(nth, _)| nth);
        oldest.map(|nth| all.swap_remove(nth));
    }
}
