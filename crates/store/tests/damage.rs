//! Torn, cut and flipped bytes, in the index and in the data: never a wrong byte, and what is provably whole comes back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;

use forebay_model::{BLOCK, PAGE, PageIndex, page_count};
use forebay_store::{BootId, Kept, Store};
use proptest::prelude::*;
use proptest::sample::Index;
use support::{cases, copy, files, id, keep, keep_page, open, options, readable};

/// Contents of the small store that is damaged: number and size.
const CONTENTS: [(u64, u64); 5] = [(1, 9), (2, BLOCK + 1), (3, 700), (4, PAGE + 3), (5, 2 * PAGE)];

/// Makes the store, with a forgotten small object, a forgotten large one and one that is not whole.
fn make(path: &Path) {
    let (store, _) = open(&options(&[path], 1 << 30));
    keep(&store, 8, 50);
    keep(&store, 9, 2 * PAGE);
    store.forget(id(8));
    store.forget(id(9));
    for (number, size) in CONTENTS {
        keep(&store, number, size);
    }
    assert_eq!(keep_page(&store, 10, 3 * PAGE, PageIndex(1)), Kept::Yes);
}

/// Reads everything; how many pages were there. Panics at a wrong byte.
fn read_all(store: &Store) -> u32 {
    let all = CONTENTS.into_iter().chain([(8, 50), (9, 2 * PAGE), (10, 3 * PAGE)]);
    all.map(|(number, size)| readable(store, number, size)).sum()
}

fn pages() -> u32 {
    CONTENTS.into_iter().map(|(_, size)| page_count(size)).sum::<u32>() + 1
}

#[test]
fn a_log_torn_at_any_byte_gives_back_what_stands_before() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let (whole, torn) = (scratch.path().join("whole"), scratch.path().join("torn"));
    make(&whole);
    copy(&whole, &torn);
    let log = fs::read(whole.join("index.log")).unwrap();
    let mut before = 0;
    for cut in 0..=log.len() {
        fs::write(torn.join("index.log"), &log[..cut]).unwrap();
        let (store, recovery) = open(&options(&[&torn], 1 << 30));
        let found = read_all(&store);
        assert!(recovery.cut_bytes < log.len() as u64);
        assert!(found + 3 >= before && found <= pages() + 2, "cut at {cut}: {found} pages after {before}");
        before = found;
        drop(store);
        if found < 2 {
            // The store has taken away what its log no longer knew.
            fs::remove_dir_all(&torn).unwrap();
            copy(&whole, &torn);
        } else if cut % 8 == 0 {
            copy(&whole, &torn);
        }
    }
    assert_eq!(before, pages());
}

#[test]
fn a_flipped_byte_of_the_log_is_never_believed() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let (whole, flipped) = (scratch.path().join("whole"), scratch.path().join("flipped"));
    make(&whole);
    copy(&whole, &flipped);
    let log = fs::read(whole.join("index.log")).unwrap();
    for at in 0..log.len() {
        let mut bytes = log.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(flipped.join("index.log"), &bytes).unwrap();
        let (store, recovery) = open(&options(&[&flipped], 1 << 30));
        assert!(recovery.cut_bytes > 0, "byte {at}: {recovery:?}");
        assert!(read_all(&store) <= pages() + 2);
        drop(store);
        copy(&whole, &flipped);
    }
}

#[test]
fn a_flipped_byte_of_the_data_is_never_served_after_a_restart_of_the_machine() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = scratch.path().join("store");
    make(&path);
    let mut rebooted = options(&[&path], 1 << 30);
    rebooted.boot_id = Some(BootId([2; 16]));
    for file in files(&path) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "lock" || name == "index.log" {
            continue;
        }
        let data = fs::read(&file).unwrap();
        // Every byte of a pack's first entry, and some of each block elsewhere.
        let header = if name.contains('.') { 1 } else { 60 };
        let places = (0..data.len()).filter(|at| *at < header || at % 50_021 == 0 || at + 1 == data.len());
        for at in places {
            let kept = path.with_extension("kept");
            copy(&path, &kept);
            let mut bytes = data.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&file, &bytes).unwrap();
            let (store, recovery) = open(&rebooted);
            assert_eq!(recovery.unverified, 1);
            let found = read_all(&store);
            // A byte of a hole, of a forgotten object's entry or of one that nobody reads hurts nobody.
            let damaged = store.stats().blocks_damaged as u32;
            assert!(found == pages() && damaged == 0 || found < pages() && damaged > 0, "{name} byte {at}: {found}");
            assert!(damaged <= 2);
            if damaged > 0 {
                // Fetched anew, it is whole again.
                for (number, size) in CONTENTS {
                    keep(&store, number, size);
                }
                assert_eq!(keep_page(&store, 10, 3 * PAGE, PageIndex(1)), Kept::Yes);
                assert_eq!(read_all(&store), pages());
            }
            drop(store);
            fs::remove_dir_all(&path).unwrap();
            fs::rename(&kept, &path).unwrap();
        }
    }
}

#[test]
fn files_that_are_missing_or_cut_are_absent_and_fetched_anew() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    for cut in [true, false] {
        let path = scratch.path().join(format!("{cut}"));
        make(&path);
        for file in files(&path.join("large")).into_iter().chain(files(&path.join("packs"))) {
            if cut {
                let len = fs::metadata(&file).unwrap().len();
                fs::File::options().write(true).open(&file).unwrap().set_len(len / 2).unwrap();
            } else {
                fs::remove_file(&file).unwrap();
            }
        }
        // Of the same boot: the log is believed, the files are not there.
        let (store, _) = open(&options(&[&path], 1 << 30));
        let found = read_all(&store);
        assert!(found < pages() && (cut || found == 0), "{found}");
        for (number, size) in CONTENTS {
            keep(&store, number, size);
        }
        for (number, size) in CONTENTS {
            assert_eq!(readable(&store, number, size), page_count(size), "{number}");
        }
        assert_eq!(store.stats().directories_down, 0);
    }
}

#[test]
fn files_that_no_index_knows_are_removed() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    make(scratch.path());
    let strays = [
        scratch.path().join("packs/0000ffff"),
        scratch.path().join("large/00/00000000000000000000000000000001.0000000000000001"),
    ];
    for stray in &strays {
        fs::create_dir_all(stray.parent().unwrap()).unwrap();
        fs::write(stray, "x").unwrap();
    }
    // The change time cannot be set: wait until it is old enough for the sweeper.
    let old = || {
        use std::os::unix::fs::MetadataExt;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
        strays.iter().all(|stray| fs::metadata(stray).unwrap().ctime() < now - 2)
    };
    while !old() {
        std::thread::yield_now();
    }
    let (store, _) = open(&options(&[scratch.path()], 1 << 30));
    while strays.iter().any(|stray| stray.exists()) {
        std::thread::yield_now();
    }
    assert_eq!(read_all(&store), pages());
}

#[test]
fn a_newer_format_is_refused_and_not_touched() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    make(scratch.path());
    let path = scratch.path().join("index.log");
    let mut log = fs::read(&path).unwrap();
    log[8] = 9;
    let sum = forebay_model::block_sum(&log[..24]).0;
    log[24..32].copy_from_slice(&sum.to_le_bytes());
    fs::write(&path, &log).unwrap();
    let refused = Store::open(&options(&[scratch.path()], 1 << 30));
    assert!(matches!(refused, Err(forebay_store::StoreError::Newer { version: 9, .. })));
    assert_eq!(fs::read(&path).unwrap(), log);
}

#[test]
fn a_copy_of_a_directory_is_checked_before_it_is_believed() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let (path, copied) = (scratch.path().join("one"), scratch.path().join("two"));
    make(&path);
    copy(&path, &copied);
    let large = files(&copied.join("large")).pop().unwrap();
    let mut bytes = fs::read(&large).unwrap();
    bytes[PAGE as usize + 1] ^= 1;
    fs::write(&large, &bytes).unwrap();
    let (store, recovery) = open(&options(&[&copied], 1 << 30));
    assert_eq!((recovery.cut_bytes, recovery.unverified), (0, 1));
    assert_eq!(read_all(&store), pages() - 1);
    drop(store);
    let (_, recovery) = open(&options(&[&path], 1 << 30));
    assert_eq!(recovery.unverified, 0);
}

#[test]
fn a_start_that_was_killed_while_it_cut_a_torn_log_leaves_it_untrusted() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = scratch.path().join("store");
    make(&path);
    let log_path = path.join("index.log");
    let log = fs::read(&log_path).unwrap();
    // A record in the middle is damaged; those behind it are whole.
    let mut torn = log.clone();
    torn[32 + 29 + 20] ^= 1;
    fs::write(&log_path, &torn).unwrap();
    let (store, recovery) = open(&options(&[&path], 1 << 30));
    assert!(recovery.cut_bytes > 0 && recovery.unverified <= 1);
    drop(store);
    let begun = fs::read(&log_path).unwrap();
    // The steps of cutting: zeros, the record of the start before them, the cut.
    let start = 32 + 29;
    let boot = &begun[start..start + 29];
    let mut steps = vec![torn.clone()];
    torn[start + 29..start + 29 + 13].fill(0);
    steps.push(torn.clone());
    torn[start..start + 29].copy_from_slice(boot);
    steps.push(torn);
    for step in steps {
        fs::write(&log_path, &step).unwrap();
        let (_, recovery) = open(&options(&[&path], 1 << 30));
        assert!(recovery.cut_bytes > 0, "killed here, the log was trusted");
    }
}

/// The records of a log, each with its frame.
fn records(log: &[u8]) -> Vec<&[u8]> {
    let mut rest = &log[HEADER..];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let len = 13 + u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        let (record, after) = rest.split_at(len);
        records.push(record);
        rest = after;
    }
    records
}

/// Length of a log's header.
const HEADER: usize = 32;

proptest! {
    #![proptest_config(cases(48))]

    /// More than a crash may leave of a log: records lost, in another order, twice, and torn at the end.
    #[test]
    fn a_log_of_true_records_in_any_order_gives_no_wrong_byte(
        picks in proptest::collection::vec(any::<Index>(), 0..40),
        tail in proptest::collection::vec(any::<u8>(), 0..40),
        reboot in any::<bool>(),
    ) {
        let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
        make(scratch.path());
        let place = scratch.path().join("index.log");
        let log = fs::read(&place).unwrap();
        let records = records(&log);
        let mut mixed = log[..HEADER].to_vec();
        picks.iter().for_each(|pick| mixed.extend_from_slice(pick.get::<&[u8]>(&records)));
        mixed.extend_from_slice(&tail);
        fs::write(&place, &mixed).unwrap();
        let mut options = options(&[scratch.path()], 1 << 30);
        if reboot {
            options.boot_id = Some(BootId([2; 16]));
        }
        let (store, _) = open(&options);
        read_all(&store);
        for (number, size) in CONTENTS {
            keep(&store, number, size);
            prop_assert_eq!(readable(&store, number, size), page_count(size));
        }
        drop(store);
        let (store, _) = open(&options);
        for (number, size) in CONTENTS {
            prop_assert_eq!(readable(&store, number, size), page_count(size));
        }
    }
}
