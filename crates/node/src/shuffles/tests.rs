//! Shuffles alone: reads of names that never were, against what is fetched for them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::time::Instant;

use forebay_model::{Entry, Fault, FaultKind, SourceSpec, TimestampNs, Version};
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::walks::Names;

const LEN: u64 = 1_000;
const PLACES: Places = Places { now: 48, most: 48 };

/// Directories of a source with so many files each, and what is here of them.
struct World {
    source: Arc<Source>,
    shuffles: Shuffles,
    now: Instant,
    files: usize,
    here: HashSet<(usize, usize)>,
    /// Files that were waited for, fetched ahead, and used of these.
    waited: usize,
    fetched: usize,
    used: u64,
    unused: u64,
    loads: usize,
    tasks: usize,
}

fn source() -> Arc<Source> {
    let spec = SourceSpec::new("/s".parse().unwrap(), "s3://b".to_owned(), TimestampNs(0));
    Arc::new(Source::broken(spec, &Fault::new(FaultKind::Unavailable, "it is not asked")))
}

fn world(files: usize) -> World {
    World {
        source: source(),
        shuffles: Shuffles::default(),
        now: Instant::now(),
        files,
        here: HashSet::new(),
        waited: 0,
        fetched: 0,
        used: 0,
        unused: 0,
        loads: 0,
        tasks: 0,
    }
}

impl World {
    fn file(&self, directory: usize, nth: usize) -> Arc<FileEntry> {
        let seen =
            forebay_catalog::ObservedFile { size: LEN, mtime: TimestampNs(0), version: Version::Etag("\"1\"".into()) };
        match self.source.facts.file(&"/s".into(), format!("{directory}/{nth:06}").into(), seen) {
            Entry::File(file) => file,
            Entry::Directory(_) => unreachable!("it is a file"),
        }
    }

    fn read(&mut self, directory: usize, nth: usize) {
        self.read_as(directory, nth, false);
    }

    /// Reads a file, and starts what that leads to.
    fn read_as(&mut self, directory: usize, nth: usize, is_foreseen: bool) {
        let (file, is_here) = (self.file(directory, nth), self.here.contains(&(directory, nth)));
        self.waited += usize::from(!is_here);
        let whence = if is_here { Whence::Here } else { Whence::Origin };
        let read = Read { source: &self.source, content: &file.content, whence, is_foreseen };
        let noted = self.shuffles.read(read, || PLACES, self.now);
        self.here.insert((directory, nth));
        self.note(&noted);
    }

    fn note(&mut self, noted: &Noted) {
        self.used += noted.used_bytes / LEN;
        self.unused += noted.unused_bytes / LEN;
        self.tasks += noted.tasks;
    }

    /// Lets all tasks do what they may.
    fn work(&mut self) {
        while self.tasks > 0 {
            if !self.step() {
                self.tasks -= 1;
            }
        }
    }

    /// One step of a task. False: it has ended.
    fn step(&mut self) -> bool {
        match self.shuffles.next(&self.source, self.now) {
            Next::Nothing => return false,
            Next::Load { directory, after, most } => {
                self.loads += 1;
                let names = self.names(&directory, &after, most as usize);
                self.tasks += self.shuffles.loaded(&self.source, &directory, Some(names), (PLACES, self.now));
            }
            Next::File(file) => {
                let (directory, nth) = file.content.key.split_once('/').unwrap();
                let at = (directory.parse().unwrap(), nth.parse().unwrap());
                if self.here.insert(at) {
                    self.fetched += 1;
                    self.shuffles.fetches(&self.source, &file);
                    let outcome = Fetched::Came { bytes: LEN, took: Duration::from_millis(20) };
                    let noted = self.shuffles.fetched(&self.source, &file, outcome, (PLACES, self.now));
                    self.note(&noted);
                }
            }
        }
        true
    }

    /// The next file that a task is told of.
    fn next_file(&mut self) -> Arc<FileEntry> {
        loop {
            match self.shuffles.next(&self.source, self.now) {
                Next::File(file) => return file,
                Next::Load { directory, after, most } => {
                    let names = self.names(&directory, &after, most as usize);
                    self.shuffles.loaded(&self.source, &directory, Some(names), (PLACES, self.now));
                }
                Next::Nothing => panic!("there is work"),
            }
        }
    }

    fn names(&self, directory: &str, after: &str, most: usize) -> Names {
        let first = if after.is_empty() { 0 } else { after.parse::<usize>().unwrap() + 1 };
        let end = (first + most).min(self.files);
        let directory = directory.trim_end_matches('/').parse().unwrap();
        let last = if end > first { format!("{:06}", end - 1) } else { after.to_owned() };
        Names {
            files: (first..end).map(|nth| self.file(directory, nth)).collect(),
            is_from_start: first == 0,
            last: last.into(),
            more: end < self.files,
            until: None,
        }
    }
}

fn shuffled(files: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..files).collect();
    order.shuffle(&mut StdRng::seed_from_u64(seed));
    order
}

#[test]
fn a_shuffled_epoch_waits_for_few_of_its_files() {
    for seed in 0..10 {
        let mut w = world(4_000);
        for nth in shuffled(4_000, seed) {
            w.read(7, nth);
            w.work();
        }
        // Each read allows four more, and most of them find one of those.
        assert!(w.waited < 550, "{} of 4,000 were waited for", w.waited);
        assert_eq!((w.waited + w.fetched, w.used as usize, w.unused), (4_000, w.fetched, 0));
        assert_eq!(w.shuffles.unread(), 0);
        assert!(w.loads <= 4_000 / 32 + 8, "{} looks into the catalog", w.loads);
    }
}

#[test]
fn who_reads_few_files_costs_four_for_each_at_most() {
    for reads in [1, 15, 16, 50, 400] {
        let mut w = world(20_000);
        for nth in shuffled(20_000, 1).into_iter().take(reads) {
            w.read(0, nth);
            w.work();
        }
        assert!(w.fetched as u64 <= FACTOR * reads as u64, "{} fetched for {reads}", w.fetched);
        assert_eq!(w.fetched > 0, reads >= 16, "{} fetched for {reads}", w.fetched);
        // Who does not come back leaves them unread.
        let unread = w.shuffles.unread() as u64;
        w.now += Duration::from_secs(700);
        (0..2_048).for_each(|_| w.read(1, 0));
        assert_eq!((w.unused, w.shuffles.unread()), (unread, 0));
    }
}

#[test]
fn what_others_foresaw_or_is_here_shows_nothing() {
    let mut w = world(1_000);
    for nth in 0..1_000 {
        w.read_as(0, nth, true);
        w.here.insert((1, nth));
        w.read(1, nth);
    }
    assert_eq!(w.tasks, 0);
}

#[test]
fn directories_take_turns_and_each_is_fetched_whole() {
    let mut w = world(100);
    let mut order: Vec<(usize, usize)> = (0..50).flat_map(|of| (0..100).map(move |nth| (of, nth))).collect();
    order.shuffle(&mut StdRng::seed_from_u64(3));
    for (directory, nth) in order {
        w.read(directory, nth);
        w.work();
    }
    assert!(w.waited <= 2_000, "{} of 5,000 were waited for", w.waited);
    assert_eq!((w.waited + w.fetched, w.used as usize), (5_000, w.fetched));
}

#[test]
fn a_directory_that_was_read_to_its_end_rests_until_files_are_missing_again() {
    let mut w = world(200);
    for nth in shuffled(200, 5) {
        w.read(0, nth);
        w.work();
    }
    let loads = w.loads;
    for nth in (0..200).cycle().take(2_000) {
        w.read(0, nth);
        w.work();
    }
    assert_eq!(w.loads, loads, "nothing is missing");
    w.here.clear();
    let waited = w.waited;
    for nth in shuffled(200, 6) {
        w.read(0, nth);
        w.work();
    }
    assert!(w.loads > loads && w.waited - waited < 100, "{} waited for", w.waited - waited);
}

#[test]
fn where_there_is_no_room_nothing_is_fetched_for_a_while() {
    let mut w = world(1_000);
    for nth in 0..16 {
        w.read(0, nth * 7);
    }
    assert!(w.tasks > 0);
    let Next::Load { directory, after, most } = w.shuffles.next(&w.source, w.now) else { panic!("names are needed") };
    let names = w.names(&directory, &after, most as usize);
    w.shuffles.loaded(&w.source, &directory, Some(names), (PLACES, w.now));
    let Next::File(file) = w.shuffles.next(&w.source, w.now) else { panic!("a file is next") };
    w.shuffles.put_back(&w.source, file.clone(), Hindrance::NoRoom, w.now);
    w.tasks = 0;
    w.read(0, 500);
    w.work();
    assert_eq!((w.fetched, w.tasks), (0, 0));
    w.now += Duration::from_secs(11);
    w.read(0, 501);
    w.work();
    assert!(w.fetched > 40, "{}: from where it was put back", w.fetched);
    assert!(w.here.contains(&(0, 1)), "{}", file.content.key);
}

#[test]
fn an_origin_that_fails_is_left_alone_and_what_changed_is_looked_up_again() {
    for outcome in [Fetched::Failed, Fetched::Changed] {
        let mut w = world(1_000);
        for nth in 0..16 {
            w.read(0, nth * 7);
        }
        let file = w.next_file();
        w.shuffles.fetches(&w.source, &file);
        let noted = w.shuffles.fetched(&w.source, &file, outcome, (PLACES, w.now));
        assert_eq!((noted.unused_bytes, w.shuffles.unread()), (LEN, 0));
        match (outcome, w.shuffles.next(&w.source, w.now)) {
            (Fetched::Failed, Next::Nothing) => {}
            (Fetched::Changed, Next::Load { after, .. }) => assert_eq!(*after, file.content.key[2..]),
            (_, next) => panic!("{outcome:?}: {next:?}"),
        }
    }
}

#[test]
fn a_large_directory_leaves_others_their_turn() {
    let mut w = world(5_000);
    for nth in shuffled(5_000, 1).into_iter().take(1_000) {
        w.read(0, nth);
    }
    for nth in shuffled(5_000, 2).into_iter().take(40) {
        w.read(1, nth);
    }
    // Far less than the first one allows.
    (0..1_000).for_each(|_| {
        w.step();
    });
    let of_second = w.here.iter().filter(|(directory, _)| *directory == 1).count();
    assert!(of_second >= 40 + 100, "{of_second} files of the second directory are here");
}

#[test]
fn what_was_fetched_and_is_gone_was_in_vain_and_is_missing() {
    let mut w = world(300);
    for nth in shuffled(300, 5) {
        w.read(0, nth);
        w.work();
    }
    let (used, waited) = (w.used, w.waited);
    assert_eq!((w.unused, w.shuffles.unread()), (0, 0));
    // All of it goes, is fetched once more, and goes before it is read.
    w.here.clear();
    for nth in 0..16 {
        w.read(0, nth);
    }
    w.work();
    let unread = w.shuffles.unread() as u64;
    assert!(unread > 30);
    w.here.clear();
    for nth in (0..300).rev() {
        w.read(0, nth);
    }
    assert_eq!((w.used - used, w.unused), (0, unread), "{} waited for", w.waited - waited);
}

#[test]
fn what_was_put_back_is_looked_at_when_its_directory_has_its_turn_again() {
    let mut w = world(1_000);
    (500..516).for_each(|nth| w.read(0, nth));
    let first = w.next_file();
    assert!(first.content.key.ends_with("/000000"));
    w.shuffles.put_back(&w.source, first.clone(), Hindrance::Busy, w.now);
    let busy = w.shuffles.next(&w.source, w.now);
    assert!(matches!(busy, Next::Nothing), "{busy:?}: it rests for a moment");
    w.now += Duration::from_millis(60);
    assert_eq!(w.next_file().content.key, first.content.key);
    w.shuffles.put_back(&w.source, first.clone(), Hindrance::Requests, w.now);
    // What the names say may be old.
    let other = w.file(0, 0);
    w.shuffles.fetched(&w.source, &other, Fetched::Changed, (PLACES, w.now));
    assert_eq!(w.next_file().content.key[2..], *"000001", "what has changed is not tried again");
}

#[test]
fn names_that_are_not_known_are_asked_for_less_and_less_often() {
    let mut w = world(1_000);
    let mut asked = 0;
    for tick in 0..6_000 {
        w.now += Duration::from_millis(100);
        w.read(0, tick % 1_000);
        w.here.clear();
        while let Next::Load { directory, .. } = w.shuffles.next(&w.source, w.now) {
            asked += 1;
            w.shuffles.loaded(&w.source, &directory, None, (PLACES, w.now));
        }
    }
    assert!((10..=20).contains(&asked), "{asked} times in ten minutes");
}

#[test]
fn all_of_it_is_bounded() {
    let mut w = world(10);
    for nth in 0..10_000 {
        w.read(nth, nth % 10);
    }
    for _ in 0..200 {
        w.source = source();
        (0..20).for_each(|nth| w.read(0, nth % 10));
        w.tasks = 0;
    }
    assert!(w.shuffles.is_bounded());
}
