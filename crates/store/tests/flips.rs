//! Every byte of a small store flipped, every length cut, every sector emptied or as it was before: it opens, gives no wrong
//! byte, and serves all that was not touched.
//!
//! What may be lost, exactly. Of a pack: the object whose entry was touched. Of a large content's file: the extent whose
//! page was touched. Of the log: what is first spoken of in the touched record or behind it; with its header all.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use forebay_model::{ByteRange, PAGE, PageIndex, page_count};
use forebay_store::{BootId, Kept, Store, StoreOptions};
use support::{files, id, keep_page, open, options, read};

/// Contents by number and size, in the order in which they are kept. Of a large one only its short last page is.
const CONTENTS: [(u64, u64); 7] = [(1, 90), (2, 700), (3, 1), (4, PAGE + 300), (5, 333), (6, 2 * PAGE + 10), (7, 256)];
/// Length of a log's header.
const HEADER: usize = 32;

/// A file: its name, its length, and its bytes behind the hole at its start.
#[derive(Clone)]
struct Image {
    name: PathBuf,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

/// A store that is stopped.
struct Stopped {
    path: PathBuf,
    images: Vec<Image>,
}

impl Stopped {
    fn make(path: &Path) -> Self {
        let (store, _) = open(&options(&[path], 1 << 30));
        CONTENTS.iter().for_each(|content| assert_eq!(keep_one(&store, *content), Kept::Yes));
        store.close().unwrap();
        Self { path: path.to_owned(), images: images(path) }
    }

    /// Lays it out anew, with one file changed. The directory is the same: its log is believed in this boot.
    fn lay(&self, changed: &Image) {
        for entry in fs::read_dir(&self.path).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                fs::remove_dir_all(entry.path()).unwrap();
            } else {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        for image in &self.images {
            let image = if image.name == changed.name { changed } else { image };
            let place = self.path.join(&image.name);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            let file = File::create_new(place).unwrap();
            file.set_len(image.len).unwrap();
            let len = image.len.saturating_sub(image.start).min(image.bytes.len() as u64) as usize;
            file.write_all_at(&image.bytes[..len], image.start).unwrap();
        }
        // As if nothing had been changed since the log was written.
        self.log_was_written(SystemTime::now() + Duration::from_secs(60));
    }

    /// A time of the clock that files get theirs from, which goes by ticks of some milliseconds: after `time`, and not before any that a
    /// file has by now.
    fn later_than(&self, time: SystemTime) -> SystemTime {
        let probe = tempfile::tempfile_in(self.path.parent().unwrap()).unwrap();
        let begun = Instant::now();
        loop {
            probe.write_all_at(b"x", 0).unwrap();
            let now = probe.metadata().unwrap().modified().unwrap();
            if now > time {
                return now;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "files' times stand still");
            std::thread::yield_now();
        }
    }

    fn log_was_written(&self, when: SystemTime) {
        if let Ok(log) = File::options().write(true).open(self.path.join("index.log")) {
            log.set_modified(when).unwrap();
        }
    }

    /// Opens it with one file changed and reads all; `after` has it then.
    fn found(&self, changed: &Image, boot: u8, after: impl FnOnce(&Store)) -> BTreeSet<u64> {
        self.lay(changed);
        let options = StoreOptions { boot_id: Some(BootId([boot; 16])), ..options(&[&self.path], 1 << 30) };
        let (store, _) = open(&options);
        let found = CONTENTS.iter().filter(|content| read_one(&store, **content)).map(|(number, _)| *number).collect();
        after(&store);
        assert_eq!(store.stats().directories_down, 0);
        found
    }

    fn log(&self) -> &Image {
        self.images.iter().find(|image| image.name == Path::new("index.log")).unwrap()
    }

    fn data(&self) -> impl Iterator<Item = &Image> {
        self.images.iter().filter(|image| image.name.components().count() > 1)
    }
}

impl Image {
    fn flipped(&self, at: usize) -> Self {
        let mut image = self.clone();
        image.bytes[at] ^= 1 << (at % 8);
        image
    }

    fn cut(&self, len: u64) -> Self {
        Self { len, ..self.clone() }
    }

    /// With the sector at `at` replaced by what the same place has in `old`, or by zeros.
    fn with_sector(&self, at: usize, old: &[u8]) -> Self {
        let mut image = self.clone();
        for place in at..image.bytes.len().min(at + 512) {
            image.bytes[place] = old.get(place).copied().unwrap_or(0);
        }
        image
    }

    /// The contents whose bytes lie in that part of the file; of a pack's entry also its header.
    fn holds(&self, from: u64, to: u64) -> BTreeSet<u64> {
        let touches = |start: u64, end: u64| start < to && from < end;
        if self.name.starts_with("large") {
            let of = |(number, _): &&(u64, u64)| self.name.to_str().unwrap().contains(&id(*number).to_string());
            let is_touched = touches(self.start, self.start + self.bytes.len() as u64);
            return CONTENTS.iter().filter(of).filter(|_| is_touched).map(|(number, _)| *number).collect();
        }
        let (mut at, mut held) = (0, BTreeSet::new());
        while at < self.bytes.len() {
            let len = u32::from_le_bytes(self.bytes[at + 4..at + 8].try_into().unwrap()) as usize;
            let (number, _) = CONTENTS
                .iter()
                .find(|(number, _)| self.bytes[at + 8..at + 24] == id(*number).as_u128().to_le_bytes())
                .unwrap();
            let end = at + 48 + len;
            if touches(at as u64, end as u64) {
                held.insert(*number);
            }
            at = end;
        }
        held
    }
}

/// All files but the lock.
fn images(path: &Path) -> Vec<Image> {
    let of = |file: PathBuf| {
        let bytes = fs::read(&file).unwrap();
        let name = file.strip_prefix(path).unwrap().to_owned();
        let start = if name.starts_with("large") { bytes.iter().take_while(|byte| **byte == 0).count() } else { 0 };
        Image { name, len: bytes.len() as u64, start: start as u64, bytes: bytes[start..].to_vec() }
    };
    files(path).into_iter().filter(|file| !file.ends_with("lock")).map(of).collect()
}

fn last_page(size: u64) -> PageIndex {
    PageIndex(page_count(size) - 1)
}

fn keep_one(store: &Store, (number, size): (u64, u64)) -> Kept {
    keep_page(store, number, size, last_page(size))
}

/// Panics at a wrong byte.
fn read_one(store: &Store, (number, size): (u64, u64)) -> bool {
    read(store, number, size, ByteRange::at(last_page(size).start(), PAGE, size))
}

fn size_of(number: u64) -> u64 {
    CONTENTS.iter().find(|(other, _)| *other == number).unwrap().1
}

fn all() -> BTreeSet<u64> {
    CONTENTS.iter().map(|(number, _)| *number).collect()
}

/// Contents that the log has spoken of before `end`.
fn spoken_of(log: &[u8], end: usize) -> BTreeSet<u64> {
    let (mut at, mut spoken) = (HEADER, BTreeSet::new());
    while end >= HEADER && at < log.len() {
        let next = at + 13 + u32::from_le_bytes(log[at + 8..at + 12].try_into().unwrap()) as usize;
        // `Small` and `Pages` begin with the id.
        if next <= end && [3, 7].contains(&log[at + 12]) {
            let is = |(number, _): &&(u64, u64)| log[at + 13..at + 29] == id(*number).as_u128().to_le_bytes();
            spoken.insert(CONTENTS.iter().find(is).unwrap().0);
        }
        at = next;
    }
    spoken
}

/// A store that was damaged keeps and serves all again, now and at its next start.
fn heal(store: &Store) {
    for content in CONTENTS {
        assert_eq!(keep_one(store, content), Kept::Yes);
        assert!(read_one(store, content), "{content:?}");
    }
}

#[test]
fn a_byte_flipped_in_the_log_cuts_it_there_and_costs_nothing_before() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let stopped = Stopped::make(scratch.path());
    let log = stopped.log();
    for at in 0..log.bytes.len() {
        // In the same start of the machine, and in another.
        for boot in [1, 2] {
            let found = stopped.found(&log.flipped(at), boot, |store| {
                if at % 8 == 0 {
                    heal(store);
                }
            });
            let spoken = spoken_of(&log.bytes, at);
            // The last byte is that of the record which says that the store was closed.
            assert_eq!(found, spoken, "byte {at}");
        }
    }
}

#[test]
fn a_byte_flipped_in_the_data_costs_what_it_belongs_to_and_nothing_else() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let stopped = Stopped::make(scratch.path());
    let mut touched = BTreeSet::new();
    for image in stopped.data() {
        for at in 0..image.bytes.len() {
            let found = stopped.found(&image.flipped(at), 2, |store| {
                if at % 16 == 0 {
                    heal(store);
                }
            });
            let place = image.start + at as u64;
            let held = image.holds(place, place + 1);
            assert_eq!(found, &all() - &held, "byte {place} of {}", image.name.display());
            touched.extend(held);
        }
        // In a hole there is nothing to lose.
        if image.start > 0 {
            let mut image = image.clone();
            image.bytes.insert(0, 7);
            image.start -= 1;
            assert_eq!(stopped.found(&image, 2, |_| ()), all());
        }
    }
    assert_eq!(touched, all());
}

#[test]
fn a_file_cut_at_any_length_costs_what_is_cut_off() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let stopped = Stopped::make(scratch.path());
    let log = stopped.log();
    for len in 0..log.len {
        let found = stopped.found(&log.cut(len), 1 + (len % 2) as u8, |store| {
            if len % 16 == 0 {
                heal(store);
            }
        });
        assert_eq!(found, spoken_of(&log.bytes, len as usize), "{len} bytes of the log");
    }
    for image in stopped.data() {
        for len in (image.start.saturating_sub(1)..image.len).chain([0]) {
            let found = stopped.found(&image.cut(len), 2, |store| {
                if len % 16 == 0 {
                    heal(store);
                }
            });
            assert_eq!(found, &all() - &image.holds(len, image.len), "{len} bytes of {}", image.name.display());
            // In the same start of the machine it is found too: there is nothing to be read.
            let found = stopped.found(&image.cut(len), 1, |_| ());
            assert!(found.is_disjoint(&image.holds(len, image.len)));
        }
    }
}

#[test]
fn a_sector_that_is_empty_or_old_costs_what_it_holds() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let stopped = Stopped::make(scratch.path());
    let log = stopped.log();
    // What may stand there instead: nothing, the same file an hour ago, another log, another file's bytes.
    let half = &log.bytes[..log.bytes.len() / 2];
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    let other = Stopped::make(other.path());
    let pack = stopped.data().find(|image| image.name.starts_with("packs")).unwrap();
    for at in (0..log.bytes.len()).step_by(512) {
        for old in [&[][..], half, &other.log().bytes, &pack.bytes] {
            let changed = log.with_sector(at, old);
            let first = (0..log.bytes.len())
                .find(|place| log.bytes[*place] != changed.bytes[*place])
                .unwrap_or(log.bytes.len());
            for boot in [1, 2] {
                let found = stopped.found(&changed, boot, heal);
                // With its header another log is that log: what it says is true here, or found to be false.
                let is_another = at == 0 && old == other.log().bytes;
                assert!(is_another || found == spoken_of(&log.bytes, first), "sector at {at}: {found:?}");
            }
        }
    }
    for image in stopped.data() {
        for at in (0..image.bytes.len()).step_by(512) {
            let place = image.start + at as u64;
            let all_of_it = image.holds(place, place + 512);
            for old in [&[][..], &log.bytes] {
                let found = stopped.found(&image.with_sector(at, old), 2, heal);
                assert_eq!(found, &all() - &all_of_it, "sector at {place} of {}", image.name.display());
            }
        }
    }
}

#[test]
fn a_byte_flipped_in_the_data_while_the_process_is_stopped_is_found_by_the_time_of_the_file() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let stopped = Stopped::make(scratch.path());
    for image in stopped.data() {
        for at in (0..image.bytes.len()).step_by(5) {
            let place = image.start + at as u64;
            stopped.lay(image);
            let log = stopped.later_than(SystemTime::UNIX_EPOCH);
            let log = stopped.later_than(log);
            stopped.log_was_written(log);
            stopped.later_than(log);
            let file = File::options().write(true).open(stopped.path.join(&image.name)).unwrap();
            file.write_all_at(&[image.bytes[at] ^ 1 << (at % 8)], place).unwrap();
            // What was found by one start is not forgotten by the next, whatever that did.
            for _ in 0..at % 3 {
                let (store, _) = open(&options(&[&stopped.path], 1 << 30));
                assert!(at % 2 == 0 || keep_page(&store, 100 + at as u64, 50, PageIndex(0)) == Kept::Yes);
                store.close().unwrap();
            }
            let (store, recovery) = open(&options(&[&stopped.path], 1 << 30));
            assert_eq!(recovery.unverified, 0, "the log is believed");
            let held = image.holds(place, place + 1);
            assert!(held.iter().all(|number| store.descriptor(id(*number), size_of(*number)).is_none()));
            let found =
                CONTENTS.iter().filter(|content| read_one(&store, **content)).map(|(number, _)| *number).collect();
            assert_eq!(&all() - &held, found, "byte {place} of {}", image.name.display());
        }
    }
}

#[test]
fn in_the_same_start_of_the_machine_a_flipped_byte_of_the_data_reaches_nobody_else() {
    // The log is believed, for the files say that they were not changed since: rot below the file system. The bytes are not
    // read to prove them; what holds is that nothing else is wrong or lost.
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let stopped = Stopped::make(scratch.path());
    for image in stopped.data() {
        for at in (0..image.bytes.len()).step_by(7) {
            let place = image.start + at as u64;
            let held = image.holds(place, place + 1);
            stopped.lay(&image.flipped(at));
            let (store, recovery) = open(&options(&[&stopped.path], 1 << 30));
            assert_eq!(recovery.unverified, 0);
            for content in CONTENTS.iter().filter(|(number, _)| !held.contains(number)) {
                assert!(read_one(&store, *content), "{content:?}");
            }
        }
    }
}
