//! Walks alone: reads of names that never were, against what is fetched for them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use forebay_model::{Entry, Fault, FaultKind, FileEntry, SourceSpec, TimestampNs, Version};

use super::stretch::Stretch;
use super::*;
use crate::source::Source;
use std::sync::Arc;
use std::time::Instant;

const FILES: usize = 1_000;
const LEN: u64 = 1_000;

/// Directories of a source, and a clock.
struct World {
    source: Arc<Source>,
    walks: Walks,
    now: Instant,
}

fn world() -> World {
    let spec = SourceSpec::new("/s".parse().unwrap(), "s3://b".to_owned(), TimestampNs(0));
    let source = Arc::new(Source::broken(spec, &Fault::new(FaultKind::Unavailable, "it is not asked")));
    World { source, walks: Walks::new(1 << 20), now: Instant::now() }
}

fn file(source: &Source, directory: usize, nth: usize) -> Arc<FileEntry> {
    let seen =
        forebay_catalog::ObservedFile { size: LEN, mtime: TimestampNs(0), version: Version::Etag("\"1\"".into()) };
    match source.facts.file(&"/s".into(), format!("{directory}/{nth:04}").into(), seen) {
        Entry::File(file) => file,
        Entry::Directory(_) => unreachable!("it is a file"),
    }
}

impl World {
    /// Reads a file, and does what that leads to. Gives what was fetched, and the outcome.
    fn read(&mut self, directory: usize, nth: usize, is_here: bool) -> (Vec<u64>, Outcome) {
        let file = file(&self.source, directory, nth);
        let whence = if is_here { Whence::Here } else { Whence::Origin };
        let read = ReadOf { source: &self.source, content: &file.content, whence, room: 48 };
        let outcome = self.walks.read(read, self.now);
        let mut fetched = self.fetch(outcome.walk);
        if let Some(load) = outcome.load.clone() {
            let files = (0..FILES).map(|nth| super::tests::file(&self.source, directory, nth)).collect();
            let names = Names { files, is_from_start: true, last: "0999".into(), more: false, until: None };
            let loaded = self.walks.loaded(&load, Some(names), 48, self.now);
            fetched.extend(self.fetch(loaded.walk));
        }
        (fetched, outcome)
    }

    fn fetch(&mut self, walk: Option<(WalkId, usize)>) -> Vec<u64> {
        let mut fetched = Vec::new();
        let Some((walk, tasks)) = walk else { return fetched };
        (0..tasks).for_each(|_| self.walks.begins(walk));
        while let Next::File { file, place, .. } = self.walks.next(walk, self.now) {
            if self.walks.fetches(walk, place, &file.content, self.now) {
                fetched.push(file.content.key.rsplit('/').next().unwrap().parse().unwrap());
            }
        }
        fetched
    }
}

#[test]
fn a_window_grows_with_what_is_read_of_it() {
    let mut w = world();
    assert!(w.read(0, 0, false).0.is_empty());
    assert_eq!(w.read(0, 1, false).0, (2..10).collect::<Vec<u64>>());
    let mut ahead = 10;
    for nth in 2..600 {
        let (fetched, outcome) = w.read(0, nth, true);
        assert_eq!(outcome.used_bytes, LEN, "{nth}");
        ahead += fetched.len();
        assert!(ahead <= nth + 1 + 256, "{nth}: {ahead}");
    }
    assert!(ahead >= 600 + 128, "{ahead}");
}

#[test]
fn bytes_bound_a_window_too() {
    let mut w = world();
    w.walks = Walks::new(20 * LEN);
    let mut ahead = 0;
    for nth in 0..600 {
        ahead += w.read(0, nth, nth > 1).0.len();
        assert!(ahead <= nth + 1 + 21, "{nth}: {ahead}");
    }
}

#[test]
fn a_directory_in_which_little_is_used_rests_and_gets_another_chance() {
    let mut w = world();
    let begin = |w: &mut World, nth: usize| (nth..nth + 4).map(|nth| w.read(0, nth, false).0.len()).sum::<usize>();
    let fetched: Vec<usize> = (0..40).map(|walk| begin(&mut w, 5 + walk * 20)).collect();
    assert_eq!(fetched[0], 4);
    assert!(fetched.iter().sum::<usize>() <= 40, "{fetched:?}");
    assert_eq!(fetched[39], 0);
    w.now += Duration::from_secs(61);
    assert_eq!(begin(&mut w, 816), 4);
}

#[test]
fn what_is_not_read_in_time_or_gone_is_counted_as_unused() {
    let mut w = world();
    w.read(0, 0, false);
    w.read(0, 1, false);
    assert_eq!(w.read(0, 2, false).1.unused_bytes, LEN, "it was fetched, and is gone");
    w.now += Duration::from_secs(601);
    let unused: u64 = (500..520).map(|nth| w.read(0, nth, true).1.unused_bytes).sum();
    assert_eq!(unused, 7 * LEN, "those that were fetched and not read");
}

#[test]
fn reads_of_what_is_here_are_looked_at_only_after_one_that_is_not() {
    let mut w = world();
    for nth in 0..500 {
        assert!(w.read(0, nth, true).0.is_empty());
    }
    assert!(!w.walks.is_watching());
    w.read(1, 0, false);
    assert!(w.walks.is_watching());
    for _ in 0..500 {
        w.read(1, 0, true);
    }
    assert!(!w.walks.is_watching());
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut w = world();
    for directory in 0..200 {
        for nth in 0..4 {
            w.read(directory, nth, false);
        }
        assert!(w.walks.is_bounded());
    }
}

#[test]
fn a_stretch_knows_the_places_of_the_files_that_it_has() {
    let w = world();
    let files = |from: usize, to: usize| (from..to).map(|nth| file(&w.source, 0, nth)).collect::<Vec<_>>();
    let names = Names { files: files(0, 1_500), is_from_start: true, last: "1499".into(), more: true, until: None };
    let mut stretch = Stretch::listed(7, 1, names);
    // Too many: those that lie behind the reader go first, then those that lie furthest before it.
    stretch.add(files(1_500, 3_000), 700);
    assert!(stretch.is_consistent());
    let at = |nth: usize| stretch.place(&file(&w.source, 0, nth).content.key).map(|place| place.at);
    assert_eq!((at(699), at(700), at(2_999)), (None, Some(700), Some(2_999)));
    assert_eq!(stretch.end(), 3_000);
    stretch.add(files(3_000, 5_000), 700);
    assert!(stretch.is_consistent());
    assert_eq!(stretch.file(700).map(|file| &*file.content.key), Some("0/0700"));
}
