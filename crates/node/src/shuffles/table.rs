//! All directories that are read in no order.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use forebay_model::FileEntry;
use hashbrown::HashMap;

use super::directory::Directory;
use super::pace::Pace;
use super::{Fetched, Hindrance, Next, Noted, Places, Read};
use crate::source::Source;
use crate::walks::{Names, Whence, directory_of};

/// Sources that are remembered.
const SOURCES_MAX: usize = 64;
/// Directories of a source that are remembered; the one that was not used for longest goes. Some 300 bytes each, and its names
/// while it is being fetched.
const DIRECTORIES_MAX: usize = 4_096;
/// Files of all directories that were fetched and not read yet: 9 MiB at most. With more, readers are waited for.
const UNREAD_MAX: usize = 1 << 19;
/// For how long files that were fetched are expected to be read, after the last read in their directory.
const EXPECTED: Duration = Duration::from_secs(600);
/// Between looks for what is not expected any more.
const LOOK: Duration = Duration::from_secs(10);
/// Files of a directory that are looked at before another one has its turn.
const TURN: usize = 256;
/// For how long nothing is fetched for a source whose origin failed, for which there is no room, or for which memory was short.
const REST_OF_FAILED: Duration = Duration::from_secs(1);
const REST_WITHOUT_ROOM: Duration = Duration::from_secs(10);
const REST_OF_BUSY: Duration = Duration::from_millis(50);

/// All directories that are read in no order, by source.
#[derive(Debug, Default)]
pub(crate) struct Shuffles {
    sources: Vec<OfSource>,
    /// Files that were fetched and not read yet.
    unread: usize,
    looked_at: Option<Instant>,
    turns: u64,
}

#[derive(Debug)]
struct OfSource {
    source: Weak<Source>,
    /// By their prefixes of keys.
    directories: HashMap<Arc<str>, Directory>,
    /// The one that is being fetched.
    current: Option<Arc<str>>,
    /// Files of it that were looked at in this turn.
    looked_at: usize,
    resting: Option<Instant>,
    pace: Pace,
    /// Tasks that fetch for it.
    tasks: usize,
    used_at: Instant,
}

impl Shuffles {
    /// Whether reads of what is here are of interest.
    pub(crate) fn is_watching(&self) -> bool {
        self.unread > 0
    }

    /// A small file is read from its start; `places` are asked for if something could be fetched.
    pub(crate) fn read(&mut self, read: Read<'_>, places: impl FnOnce() -> Places, now: Instant) -> Noted {
        let mut noted = Noted::default();
        if self.looked_at.is_none_or(|at| now > at + LOOK) {
            self.looked_at = Some(now);
            noted.unused_bytes += self.forget_idle(now);
        }
        let is_waiting = read.whence != Whence::Here && !read.is_foreseen;
        let nth = match self.position(read.source) {
            Some(nth) => nth,
            None if is_waiting => self.add(read.source, now, &mut noted),
            None => return noted,
        };
        let of = &mut self.sources[nth];
        of.used_at = now;
        let prefix = directory_of(&read.content.key);
        if is_waiting && !of.directories.contains_key(prefix) {
            if of.directories.len() >= DIRECTORIES_MAX {
                let gone = of.forget_oldest();
                self.unread -= gone.0;
                noted.unused_bytes += gone.1;
            }
            of.directories.insert(prefix.into(), Directory::new(now));
        }
        let Some(directory) = of.directories.get_mut(prefix) else { return noted };
        let before = directory.unread();
        let whence = if read.is_foreseen && read.whence == Whence::Origin { Whence::Here } else { read.whence };
        let fetched = directory.read(read.content.id, read.content.size, whence, now);
        let is_of_use = read.whence != Whence::Origin;
        *(if is_of_use { &mut noted.used_bytes } else { &mut noted.unused_bytes }) += fetched;
        self.unread -= before - directory.unread();
        if directory.is_due(now) && !of.is_at_work(now) {
            of.turn_to(prefix.into(), &mut self.turns);
        }
        noted.tasks = self.hire(nth, places, now);
        noted
    }

    /// What a task of a source is to do next. With [`Next::Nothing`] it has ended.
    pub(crate) fn next(&mut self, source: &Arc<Source>, now: Instant) -> Next {
        let is_full = self.unread >= UNREAD_MAX;
        let Some(nth) = self.position(source) else { return Next::Nothing };
        let Self { sources, turns, .. } = self;
        let of = &mut sources[nth];
        while !is_full && !of.rests(now) && of.tasks <= of.pace.width() {
            if of.looked_at >= TURN
                && let Some(next) = of.next_due(now)
            {
                of.turn_to(next, turns);
            }
            let Some((prefix, directory)) = of.current() else {
                match of.next_due(now) {
                    Some(prefix) => of.turn_to(prefix, turns),
                    None => break,
                }
                continue;
            };
            if let Some(file) = directory.next(now) {
                of.looked_at += 1;
                return Next::File(file);
            }
            if let Some((after, most)) = directory.load(now) {
                return Next::Load { directory: prefix, after, most };
            }
            if directory.is_loading() {
                break;
            }
            of.leave();
        }
        of.tasks = of.tasks.saturating_sub(1);
        Next::Nothing
    }

    /// A task of a source has ended, and was not told to.
    pub(crate) fn ended(&mut self, source: &Arc<Source>) {
        if let Some(nth) = self.position(source) {
            self.sources[nth].tasks = self.sources[nth].tasks.saturating_sub(1);
        }
    }

    /// Names that were asked for have come; none: the catalog does not have them. How many tasks more should fetch.
    pub(crate) fn loaded(
        &mut self,
        source: &Arc<Source>,
        directory: &str,
        names: Option<Names>,
        (places, now): (Places, Instant),
    ) -> usize {
        let Some(nth) = self.position(source) else { return 0 };
        if let Some(directory) = self.sources[nth].directories.get_mut(directory) {
            directory.loaded(names, now);
        }
        self.hire(nth, || places, now)
    }

    /// A file that was next is being fetched.
    pub(crate) fn fetches(&mut self, source: &Arc<Source>, file: &FileEntry) {
        if let Some(directory) = self.directory(source, file) {
            let before = directory.unread();
            directory.fetches(file.content.id, file.content.size);
            let more = directory.unread() - before;
            self.unread += more;
        }
    }

    /// A file that was next is not fetched now. The task that was told of it has ended.
    pub(crate) fn put_back(&mut self, source: &Arc<Source>, file: Arc<FileEntry>, why: Hindrance, now: Instant) {
        if let Some(directory) = self.directory(source, &file) {
            directory.put_back(file);
        }
        if let Some(nth) = self.position(source) {
            match why {
                Hindrance::NoRoom => self.sources[nth].rest(now + REST_WITHOUT_ROOM),
                Hindrance::Busy => self.sources[nth].rest(now + REST_OF_BUSY),
                Hindrance::Requests => {}
            }
        }
        self.ended(source);
    }

    /// What came of a fetch. Gives how many tasks more should fetch, and the bytes that are not expected to be read any more.
    pub(crate) fn fetched(
        &mut self,
        source: &Arc<Source>,
        file: &FileEntry,
        outcome: Fetched,
        (places, now): (Places, Instant),
    ) -> Noted {
        let mut noted = Noted::default();
        let Some(nth) = self.position(source) else { return noted };
        if let Fetched::Came { bytes, took } = outcome {
            self.sources[nth].pace.took(bytes, took, places.most);
        } else if let Some(directory) = self.directory(source, file) {
            let before = directory.unread();
            noted.unused_bytes = directory.failed(file.content.id, file.content.size);
            if outcome == Fetched::Changed {
                directory.look_up_again();
            }
            let gone = before - directory.unread();
            self.unread -= gone;
        }
        if outcome == Fetched::Failed {
            self.sources[nth].pace.failed();
            self.sources[nth].rest(now + REST_OF_FAILED);
        }
        noted.tasks = self.hire(nth, || places, now);
        noted
    }

    /// Files that were fetched and not read yet.
    #[cfg(test)]
    pub(super) fn unread(&self) -> usize {
        let all: usize = self.sources.iter().flat_map(|of| of.directories.values()).map(Directory::unread).sum();
        assert_eq!(self.unread, all);
        all
    }

    #[cfg(test)]
    pub(super) fn is_bounded(&self) -> bool {
        self.sources.len() <= SOURCES_MAX && self.sources.iter().all(|of| of.directories.len() <= DIRECTORIES_MAX)
    }

    fn directory(&mut self, source: &Arc<Source>, file: &FileEntry) -> Option<&mut Directory> {
        let nth = self.position(source)?;
        self.sources[nth].directories.get_mut(directory_of(&file.content.key))
    }

    fn position(&self, source: &Arc<Source>) -> Option<usize> {
        self.sources.iter().position(|of| of.source.as_ptr() == Arc::as_ptr(source))
    }

    fn add(&mut self, source: &Arc<Source>, now: Instant, noted: &mut Noted) -> usize {
        // Sources that were removed first; their tasks end by themselves.
        let gone = |of: &OfSource| of.source.strong_count() == 0;
        let oldest =
            (self.sources.len() >= SOURCES_MAX).then(|| self.sources.iter().map(|of| of.used_at).min()).flatten();
        let Self { sources, unread, .. } = self;
        sources.retain(|of| {
            let goes = gone(of) || Some(of.used_at) == oldest;
            if goes {
                let (files, bytes) = of.unread();
                *unread -= files;
                noted.unused_bytes += bytes;
            }
            !goes
        });
        sources.push(OfSource {
            source: Arc::downgrade(source),
            directories: HashMap::new(),
            current: None,
            looked_at: 0,
            resting: None,
            pace: Pace::default(),
            tasks: 0,
            used_at: now,
        });
        sources.len() - 1
    }

    /// How many tasks more should fetch for a source.
    fn hire(&mut self, nth: usize, places: impl FnOnce() -> Places, now: Instant) -> usize {
        let of = &mut self.sources[nth];
        if self.unread >= UNREAD_MAX || of.rests(now) {
            return 0;
        }
        let at_hand = of.current().map_or(0, |(_, directory)| directory.at_hand(now));
        let wanted = of.pace.width().saturating_sub(of.tasks).min(at_hand);
        if wanted == 0 {
            return 0;
        }
        let hired = wanted.min(places().now);
        of.tasks += hired;
        hired
    }

    /// Forgets directories of which nobody has read for long. Gives the bytes that nobody has read there.
    fn forget_idle(&mut self, now: Instant) -> u64 {
        let mut unused = 0;
        for of in &mut self.sources {
            of.directories.retain(|_, directory| {
                let stays = now < directory.used_at + EXPECTED;
                if !stays {
                    self.unread -= directory.unread();
                    unused += directory.unread_bytes();
                }
                stays
            });
        }
        unused
    }
}

impl OfSource {
    /// The directory that is being fetched.
    fn current(&mut self) -> Option<(Arc<str>, &mut Directory)> {
        let current = self.current.clone()?;
        let directory = self.directories.get_mut(&current)?;
        Some((current, directory))
    }

    /// Whether something is to be done in the directory that is being fetched.
    fn is_at_work(&mut self, now: Instant) -> bool {
        self.current().is_some_and(|(_, directory)| directory.is_loading() || directory.at_hand(now) > 0)
    }

    fn leave(&mut self) {
        if let Some((_, directory)) = self.current() {
            directory.look_up_again();
        }
        self.current = None;
    }

    fn turn_to(&mut self, directory: Arc<str>, turns: &mut u64) {
        self.looked_at = 0;
        if self.current.as_ref() != Some(&directory) {
            self.leave();
            self.current = Some(directory);
        }
        *turns += 1;
        if let Some((_, directory)) = self.current() {
            directory.turn = *turns;
        }
    }

    /// The one of those that may be fetched from whose turn is the longest ago.
    fn next_due(&self, now: Instant) -> Option<Arc<str>> {
        let due = self.directories.iter().filter(|(_, directory)| directory.is_due(now));
        due.min_by_key(|(_, directory)| directory.turn).map(|(prefix, _)| prefix.clone())
    }

    fn rests(&self, now: Instant) -> bool {
        self.resting.is_some_and(|until| now < until)
    }

    fn rest(&mut self, until: Instant) {
        self.resting = self.resting.max(Some(until));
    }

    fn unread(&self) -> (usize, u64) {
        let all = self.directories.values();
        all.fold((0, 0), |(files, bytes), of| (files + of.unread(), bytes + of.unread_bytes()))
    }

    /// Forgets the eighth of the directories that were not used for longest: files and bytes that nobody has read there.
    fn forget_oldest(&mut self) -> (usize, u64) {
        let mut ages: Vec<Instant> = self.directories.values().map(|directory| directory.used_at).collect();
        let eighth = ages.len() / 8;
        let Some((_, last, _)) = (eighth < ages.len()).then(|| ages.select_nth_unstable(eighth)) else { return (0, 0) };
        let (last, mut gone) = (*last, (0, 0));
        self.directories.retain(|_, directory| {
            let stays = directory.used_at > last;
            if !stays {
                gone = (gone.0 + directory.unread(), gone.1 + directory.unread_bytes());
            }
            stays
        });
        gone
    }
}
