//! A directory looked at without opening its store: nothing in it changes, and what is told to be dropped is exactly what
//! the next store that opens drops, whatever was done to it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use forebay_model::{BLOCK, ByteRange, ContentId, EXTENT, PAGE, PageIndex, block_sum, page_len};
use forebay_store::{
    BootId, Caching, Content, Event, Fate, Finding, Flaw, Kept, Kind, Level, Lost, Offline, ReadOutcome, Recovery,
    Scrub, Store, StoreError, StoreOptions, Summary,
};
use support::{content, copy, files, id, keep_page, open, options};

/// Contents by number and size, and which pages of each are kept. The first is forgotten, the last has pages in two extents.
const CONTENTS: [(u64, u64, &[u32]); 8] = [
    (FORGOTTEN, 5000, &[0]),
    (1, 90, &[0]),
    (2, 700, &[0]),
    (3, BLOCK + 1, &[0]),
    (4, 3 * BLOCK, &[0]),
    (5, 333, &[0]),
    (6, 2 * PAGE + 10, &[0, 1, 2]),
    (7, EXTENT + 2 * PAGE, &[0, 63, 64, 65]),
];
/// The content that is forgotten when it was kept.
const FORGOTTEN: u64 = 10;
/// The start of the machine in which the store was written, and another.
const BOOTS: [u8; 2] = [1, 2];

/// A store that is stopped, and its files as they were.
struct Stopped {
    scratch: tempfile::TempDir,
}

/// How many pages of each content are readable, and of which contents some bytes are wrong.
#[derive(Debug, Default, PartialEq, Eq)]
struct Readable {
    pages: BTreeMap<u64, u32>,
    wrong: BTreeSet<u64>,
}

/// What was told.
struct Told {
    findings: Vec<Finding>,
    contents: Vec<Content>,
    summary: Summary,
    readable: Readable,
}

impl Stopped {
    fn make() -> Self {
        let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = scratch.path().join("store");
        let (store, _) = open(&options(&[&path], 1 << 30));
        for (number, size, pages) in CONTENTS {
            pages.iter().for_each(|page| assert_eq!(keep_page(&store, number, size, PageIndex(*page)), Kept::Yes));
            if number == FORGOTTEN {
                store.forget(id(number));
            }
        }
        store.close().unwrap();
        copy(&path, &scratch.path().join("kept"));
        Self { scratch }
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join("store")
    }

    /// Lays it out as it was. The directory is the same: its log is believed in the same start of the machine.
    /// As if the log had been written after all that is done to the files.
    fn trust(&self) {
        let log = fs::File::options().write(true).open(self.path().join("index.log")).unwrap();
        log.set_modified(SystemTime::now() + Duration::from_secs(60)).unwrap();
    }

    fn lay(&self) {
        for entry in fs::read_dir(self.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                fs::remove_dir_all(entry.path()).unwrap();
            } else {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        copy(&self.scratch.path().join("kept"), &self.path());
    }

    /// The file of a content.
    fn file(&self, number: u64) -> PathBuf {
        let offline = Offline::open(&self.path(), None).unwrap();
        let mut file = None;
        let _ = offline.contents(&mut |content| {
            file = file.take().or((content.id == id(number)).then(|| content.file.clone()));
            ControlFlow::Continue(())
        });
        self.path().join(file.unwrap())
    }

    /// Does some harm to it, looks at it, and opens it: what was told is what is found. In each start of the machine.
    fn harmed(&self, what: &str, harm: impl Fn(), check: impl Fn(&Told, u8)) {
        for boot in BOOTS {
            self.lay();
            harm();
            if fs::exists(self.path().join("index.log")).unwrap() {
                self.trust();
            }
            let before = state(&self.path());
            let told = tell(&self.path(), boot);
            assert_eq!(state(&self.path()), before, "{what}: something in the directory has changed");
            let (recovery, readable) = found(&self.path(), boot);
            assert_eq!(readable, told.readable, "{what}, boot {boot}: {:#?}", told.findings);
            let cut = told.findings.iter().filter(|finding| finding.fate == Fate::Cut).map(|finding| finding.bytes);
            assert_eq!((recovery.contents, recovery.cut_bytes), (told.contents.len() as u64, cut.sum()), "{what}");
            check(&told, boot);
        }
    }
}

/// Every file and folder: its times, its length, its bytes.
fn state(path: &Path) -> BTreeMap<PathBuf, (i64, i64, i64, u64, Option<u64>)> {
    let all = [path.to_owned(), path.join("packs"), path.join("large")].into_iter().chain(files(path));
    let of = |file: PathBuf| {
        let stat = fs::metadata(&file).unwrap();
        let sum = stat.is_file().then(|| block_sum(&fs::read(&file).unwrap()).0);
        (file, (stat.mtime(), stat.mtime_nsec(), stat.ctime_nsec(), stat.len(), sum))
    };
    all.filter(|file| file.exists()).map(of).collect()
}

/// Looks at it, and says what will be readable.
fn tell(path: &Path, boot: u8) -> Told {
    let offline = Offline::open(path, Some(BootId([boot; 16]))).unwrap();
    assert_eq!(offline.in_use_by(), None);
    let (mut contents, mut findings, mut read) = (Vec::new(), Vec::new(), 0);
    assert!(offline.contents(&mut |content| push(&mut contents, content.clone())).is_continue());
    let mut lost_entries = 0;
    let each = &mut |event: Event<'_>| {
        match event {
            Event::Finding(finding) => findings.push(finding.clone()),
            Event::Read(bytes) => read += bytes,
            Event::Pack(pack) => lost_entries += pack.entries_lost,
            Event::Large(_) => {}
        }
        ControlFlow::Continue(())
    };
    let summary = offline.check(Level::Data, each).unwrap();
    assert_eq!((summary.findings, summary.contents), (findings.len() as u64, contents.len() as u64));
    assert_eq!(summary.bytes_compared, read);
    assert!(read <= offline.bytes_to_read());
    let mut pages: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for content in &contents {
        let (number, _, kept) = numbered(content.id);
        // Of what a log that is cut does not speak of the last pages are missing.
        pages.insert(number, kept[..content.pages as usize].iter().copied().collect());
    }
    let mut wrong = BTreeSet::new();
    for finding in &findings {
        let content = finding.content.map(|id| numbered(id).0);
        match (finding.fate, finding.lost) {
            (Fate::Cut | Fate::Removed, _) => {}
            (Fate::Served, _) => wrong.extend(content.filter(|_| finding.flaw == Flaw::Data)),
            (Fate::Dropped, Lost::Extent(extent)) => {
                pages.get_mut(&content.unwrap()).unwrap().retain(|page| page / 64 != extent);
            }
            (Fate::Dropped, Lost::Object | Lost::Content) => pages.get_mut(&content.unwrap()).unwrap().clear(),
            (Fate::Dropped, Lost::Pack(objects)) => {
                let of = contents.iter().filter(|content| content.file == finding.file);
                let of: Vec<u64> = of.map(|content| numbered(content.id).0).collect();
                assert_eq!(of.len() as u64, objects);
                of.iter().for_each(|number| pages.get_mut(number).unwrap().clear());
            }
            (Fate::Dropped, lost) => panic!("{lost:?} is not to be expected"),
        }
    }
    let mut readable = Readable { wrong, ..Readable::default() };
    readable.pages.extend(pages.iter().map(|(number, pages)| (*number, pages.len() as u32)));
    readable.pages.retain(|_, pages| *pages > 0);
    let resident = |content: &Content| content.bytes_resident;
    assert_eq!(summary.bytes_resident, contents.iter().map(resident).sum::<u64>());
    let left = pages.iter().flat_map(|(number, pages)| {
        let (_, size, _) = numbered(id(*number));
        pages.iter().map(move |page| page_len(size, PageIndex(*page)))
    });
    assert_eq!(summary.bytes_resident - summary.bytes_lost, left.sum::<u64>());
    let small_lost = contents.iter().filter(|content| content.kind == Kind::Small);
    let small_lost = small_lost.filter(|content| !readable.pages.contains_key(&numbered(content.id).0)).count();
    assert_eq!(lost_entries, small_lost as u64);
    Told { findings, contents, summary, readable }
}

fn push<T>(to: &mut Vec<T>, one: T) -> ControlFlow<()> {
    to.push(one);
    ControlFlow::Continue(())
}

fn numbered(content: ContentId) -> (u64, u64, &'static [u32]) {
    CONTENTS.into_iter().find(|(number, ..)| id(*number) == content).unwrap()
}

/// Opens it and reads everything, and again when what was found damaged is dropped: what recovery said, and what is left.
fn found(path: &Path, boot: u8) -> (Recovery, Readable) {
    // The scrub would find what readers are given.
    let scrub = Scrub { period: Duration::ZERO, ..Scrub::default() };
    let options = StoreOptions { boot_id: Some(BootId([boot; 16])), scrub, ..options(&[path], 1 << 30) };
    let (store, recovery) = open(&options);
    read_all(&store);
    drop(store);
    (recovery, read_all(&open(&options).0))
}

fn read_all(store: &Store) -> Readable {
    let mut readable = Readable::default();
    for (number, size, pages) in CONTENTS {
        for page in pages {
            let range = ByteRange::at(PageIndex(*page).start(), PAGE, size);
            let mut buffer = vec![0; range.len() as usize];
            if store.read(id(number), size, range, &mut buffer, Caching::Keep) == ReadOutcome::Filled {
                *readable.pages.entry(number).or_default() += 1;
                if buffer != content(number, range.start, range.len()) {
                    readable.wrong.insert(number);
                }
            }
        }
    }
    readable
}

fn flip(file: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn cut(file: &Path, len: u64) {
    fs::File::options().write(true).open(file).unwrap().set_len(len).unwrap();
}

fn only(told: &Told) -> &Finding {
    assert_eq!(told.findings.len(), 1, "{:#?}", told.findings);
    &told.findings[0]
}

/// The place of a small object's bytes in its pack.
fn data_of(file: &Path, number: u64) -> u64 {
    let bytes = fs::read(file).unwrap();
    let start = content(number, 0, 40);
    bytes.windows(40).position(|window| window == start).unwrap() as u64
}

#[test]
fn a_whole_store_is_whole() {
    let stopped = Stopped::make();
    stopped.harmed(
        "nothing",
        || (),
        |told, boot| {
            assert!(told.summary.is_whole(), "{:#?}", told.findings);
            assert_eq!(told.contents.len(), CONTENTS.len() - 1);
            // And the filler before the two that are long enough for it.
            let forgotten = 48 + CONTENTS[0].1;
            assert!(
                (forgotten..forgotten + 2 * 4096).contains(&told.summary.bytes_dead),
                "{}",
                told.summary.bytes_dead
            );
            for content in &told.contents {
                let (number, size, pages) = numbered(content.id);
                assert_eq!((content.size, content.pages as usize), (size, pages.len()));
                assert_eq!((content.group.0, content.is_verified), (number % 3, boot == 1));
                assert_eq!(content.extents, [0, 0, 0, 0, 0, 1, 2][number as usize - 1]);
            }
        },
    );
    stopped.lay();
    let offline = Offline::open(&stopped.path(), Some(BootId([1; 16]))).unwrap();
    let log = offline.log();
    assert_eq!((log.format, log.boot, log.is_closed, log.is_believed), (Some(1), Some(BootId([1; 16])), true, true));
    assert!(log.records > 17 && log.cut.is_none());
    let offline = Offline::open(&stopped.path(), Some(BootId([2; 16]))).unwrap();
    assert_eq!((offline.log().boot, offline.log().is_believed), (Some(BootId([1; 16])), false));
}

#[test]
fn what_was_changed_after_the_log_was_is_told_to_be_dropped() {
    let stopped = Stopped::make();
    for (number, ..) in CONTENTS.into_iter().filter(|(number, ..)| *number != FORGOTTEN) {
        stopped.lay();
        let file = stopped.file(number);
        flip(&file, fs::metadata(&file).unwrap().len() - 1);
        let told = tell(&stopped.path(), 1);
        assert!(told.findings.iter().all(|finding| finding.fate == Fate::Dropped), "{:#?}", told.findings);
        assert_eq!(told.findings.len(), 1);
        assert_eq!(found(&stopped.path(), 1).1, told.readable);
    }
}

#[test]
fn a_store_in_use_is_told_and_goes_on() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let (store, _) = open(&options(&[scratch.path()], 1 << 30));
    assert_eq!(keep_page(&store, 1, 90, PageIndex(0)), Kept::Yes);
    let offline = Offline::open(scratch.path(), Some(BootId([1; 16]))).unwrap();
    assert_eq!(offline.in_use_by(), Some(&*std::process::id().to_string()));
    assert!(offline.check(Level::Data, &mut |_| ControlFlow::Continue(())).unwrap().is_whole());
    assert!(!offline.log().is_closed);
    assert!(support::read(&store, 1, 90, ByteRange::new(0, 90)));
}

#[test]
fn a_damaged_log_is_cut_where_it_is_told() {
    let stopped = Stopped::make();
    let log = stopped.path().join("index.log");
    let len = fs::metadata(&log).unwrap().len();
    for at in (32..len).step_by(61) {
        stopped.harmed(
            &format!("byte {at} of the log"),
            || flip(&log, at),
            |told, _| {
                let finding = &told.findings[0];
                assert_eq!((&*finding.file, finding.fate, finding.lost), ("index.log", Fate::Cut, Lost::Records));
                // Where the log does not say any more that it is gone, the object that was forgotten is a hole.
                let is_hole = |finding: &Finding| {
                    finding.content == Some(id(CONTENTS[0].0))
                        && (finding.fate, finding.lost) == (Fate::Dropped, Lost::Object)
                };
                let rest = &told.findings[1..];
                assert!(rest.iter().all(|finding| finding.flaw == Flaw::Stray || is_hole(finding)), "{rest:#?}");
                assert!(finding.offset <= at && finding.offset + finding.bytes == len);
                assert!(matches!(finding.flaw, Flaw::RecordChecksum | Flaw::RecordLength | Flaw::Torn), "{finding:?}");
            },
        );
        stopped.harmed(
            &format!("{at} bytes of the log"),
            || cut(&log, at),
            |told, _| {
                // It may end with a record.
                for finding in told.findings.iter().filter(|finding| finding.fate == Fate::Cut) {
                    assert_eq!((&*finding.file, &finding.flaw), ("index.log", &Flaw::Torn));
                    assert!(finding.offset < at && finding.offset + finding.bytes == at);
                }
            },
        );
    }
}

#[test]
fn a_store_without_its_log_has_strays_only() {
    let stopped = Stopped::make();
    let log = stopped.path().join("index.log");
    let older = || {
        let mut bytes = fs::read(&log).unwrap();
        bytes[8] = 0;
        let sum = block_sum(&bytes[..24]).0;
        bytes[24..32].copy_from_slice(&sum.to_le_bytes());
        fs::write(&log, bytes).unwrap();
    };
    let harms: [(&str, &dyn Fn(), Flaw); 4] = [
        ("a header's byte", &|| flip(&log, 3), Flaw::LogHeader),
        ("half a header", &|| cut(&log, 20), Flaw::LogHeader),
        ("an older format", &older, Flaw::LogHeader),
        ("no log", &|| fs::remove_file(&log).unwrap(), Flaw::Missing),
    ];
    for (what, harm, flaw) in harms {
        stopped.harmed(what, harm, |told, _| {
            assert_eq!((&told.findings[0].flaw, told.findings[0].fate), (&flaw, Fate::Cut));
            let strays = &told.findings[1..];
            assert!(strays.iter().all(|finding| finding.flaw == Flaw::Stray && finding.fate == Fate::Removed));
            // Three packs, a group each, and two large contents.
            assert_eq!((strays.len(), told.contents.len()), (5, 0));
        });
    }
}

#[test]
fn damage_in_a_pack_is_told_by_object_and_place() {
    let stopped = Stopped::make();
    let pack = stopped.file(4);
    let data = data_of(&pack, 4);
    let header = data - 40 - 3 * 8;
    let name = pack.strip_prefix(stopped.path()).unwrap().to_str().unwrap().to_owned();
    let of_4 = |told: &Told| told.contents.iter().filter(|content| content.file == name).count();
    for (at, flaw, place) in [
        (header, Flaw::EntryHeader, (header, 64)),
        (header + 41, Flaw::EntryHeader, (header, 64)),
        (data, Flaw::Data, (data, BLOCK)),
        (data + 2 * BLOCK + 7, Flaw::Data, (data + 2 * BLOCK, BLOCK)),
    ] {
        stopped.harmed(
            &format!("byte {at} of a pack"),
            || flip(&pack, at),
            |told, boot| {
                let finding = only(told);
                assert_eq!((&finding.file, finding.content, finding.lost), (&name, Some(id(4)), Lost::Object));
                assert_eq!((&finding.flaw, (finding.offset, finding.bytes)), (&flaw, place));
                // In the same start of the machine the log is believed.
                assert_eq!(finding.fate, if boot == 1 { Fate::Served } else { Fate::Dropped });
            },
        );
    }
    stopped.harmed(
        "a pack that is cut",
        || cut(&pack, data + 9),
        |told, _| {
            let finding = told.findings.iter().find(|finding| finding.content == Some(id(4))).unwrap();
            assert_eq!((&finding.flaw, finding.fate, finding.offset), (&Flaw::Short, Fate::Dropped, data + 9));
        },
    );
    stopped.harmed(
        "a pack that is missing",
        || fs::remove_file(&pack).unwrap(),
        |told, _| {
            let finding = only(told);
            assert_eq!((&finding.file, &finding.flaw, finding.fate), (&name, &Flaw::Missing, Fate::Dropped));
            assert_eq!(finding.lost, Lost::Pack(of_4(told) as u64));
        },
    );
}

#[test]
fn damage_in_a_large_content_is_told_by_block_and_extent() {
    let stopped = Stopped::make();
    let large = stopped.file(7);
    for (at, extent) in [(5, 0), (63 * PAGE + 3 * BLOCK + 1, 0), (EXTENT, 1), (EXTENT + 2 * PAGE - 1, 1)] {
        stopped.harmed(
            &format!("byte {at} of a large content"),
            || flip(&large, at),
            |told, boot| {
                let finding = only(told);
                assert_eq!((finding.content, &finding.flaw), (Some(id(7)), &Flaw::Data));
                assert_eq!((finding.offset, finding.bytes), (at - at % BLOCK, BLOCK));
                assert_eq!(finding.lost, Lost::Extent(extent));
                assert_eq!(finding.fate, if boot == 1 { Fate::Served } else { Fate::Dropped });
                assert_eq!(told.summary.bytes_served, if boot == 1 { BLOCK } else { 0 });
            },
        );
    }
    stopped.harmed("a byte of a hole", || flip(&large, 3 * PAGE), |told, _| assert!(told.summary.is_whole()));
    stopped.harmed(
        "a large content that is cut",
        || cut(&large, EXTENT + PAGE + 1),
        |told, _| {
            let finding = only(told);
            assert_eq!((&finding.flaw, finding.lost, finding.fate), (&Flaw::Short, Lost::Extent(1), Fate::Dropped));
            assert_eq!((finding.offset, finding.bytes), (EXTENT + PAGE + 1, PAGE - 1));
        },
    );
    stopped.harmed(
        "a large content that is missing",
        || fs::remove_file(&large).unwrap(),
        |told, _| {
            let finding = only(told);
            assert_eq!((&finding.flaw, finding.lost, finding.fate), (&Flaw::Missing, Lost::Content, Fate::Dropped));
            assert_eq!((finding.content, finding.bytes), (Some(id(7)), 4 * PAGE));
        },
    );
}

#[test]
fn files_that_no_record_names_are_told_and_removed() {
    let stopped = Stopped::make();
    stopped.lay();
    let path = stopped.path();
    let strays = ["packs/0000ffff", "packs/what is this", "large/00/00000000000000000000000000000001.0000000000000001"];
    for stray in strays {
        fs::create_dir_all(path.join(stray).parent().unwrap()).unwrap();
        fs::write(path.join(stray), "x").unwrap();
    }
    // Nobody's business.
    fs::write(path.join("notes"), "x").unwrap();
    let before = state(&path);
    let told = tell(&path, 1);
    assert_eq!(state(&path), before);
    let names: BTreeSet<_> = told.findings.iter().map(|finding| &*finding.file).collect();
    assert_eq!(names, strays.into());
    assert!(told.findings.iter().all(|finding| (&finding.flaw, finding.fate) == (&Flaw::Stray, Fate::Removed)));
    assert_eq!(told.summary.bytes_stray, 3);
    // The change time cannot be set: wait until all are old enough for the sweeper.
    let is_old = |file: &PathBuf| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
        fs::metadata(file).unwrap().ctime() < now - 2
    };
    while !files(&path).iter().all(is_old) {
        std::thread::yield_now();
    }
    let kept: BTreeSet<PathBuf> = files(&path).into_iter().collect();
    let (store, _) = open(&options(&[&path], 1 << 30));
    while strays.iter().any(|stray| path.join(stray).exists()) {
        std::thread::yield_now();
    }
    assert_eq!(read_all(&store), told.readable);
    drop(store);
    let removed: BTreeSet<PathBuf> = &kept - &files(&path).into_iter().collect();
    assert_eq!(removed, strays.map(|stray| path.join(stray)).into());
}

#[test]
fn what_is_no_store_or_a_newer_one_is_named() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = scratch.path().join("it");
    let check = |parts: &[&str]| {
        let error = Offline::open(&path, None).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, StoreError::NotAStore { .. }), "{text}");
        for part in parts.iter().chain(&[path.to_str().unwrap(), "expected", "index.log"]) {
            assert!(text.contains(part), "{part:?} is missing in: {text}");
        }
    };
    check(&["does not exist"]);
    fs::write(&path, "x").unwrap();
    check(&["it is a file"]);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    check(&["it holds no `index.log`"]);
    fs::write(path.join("index.log"), "some other program's").unwrap();
    check(&["is no index log"]);
    assert_eq!(files(&path).len(), 1);

    let stopped = Stopped::make();
    let log = stopped.path().join("index.log");
    let mut bytes = fs::read(&log).unwrap();
    bytes[8] = 9;
    let sum = block_sum(&bytes[..24]).0;
    bytes[24..32].copy_from_slice(&sum.to_le_bytes());
    fs::write(&log, bytes).unwrap();
    let before = state(&stopped.path());
    assert!(matches!(Offline::open(&stopped.path(), None), Err(StoreError::Newer { version: 9, .. })));
    assert_eq!(state(&stopped.path()), before);
}
