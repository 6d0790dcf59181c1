//! The scrub: what rots while the store is open is found without a reader, and what a restart of the machine has made
//! doubtful is checked without one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use forebay_model::{BLOCK, ByteSize, PAGE};
use forebay_store::{BootId, Scrub, Store, StoreOptions};
use support::{files, id, keep, open, options, readable};

/// Always at it, as fast as it can.
fn eager(path: &Path) -> StoreOptions {
    StoreOptions {
        scrub: Scrub { period: Duration::from_millis(1), rate_max: ByteSize(1 << 40) },
        ..options(&[path], 1 << 30)
    }
}

fn never(path: &Path) -> StoreOptions {
    StoreOptions { scrub: Scrub { period: Duration::ZERO, ..Scrub::default() }, ..options(&[path], 1 << 30) }
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}

/// Waits until the scrub has gone through everything from here on.
fn wait_for_pass(store: &Store) {
    let before = store.stats().scrubs;
    wait_until("a pass ends", || store.stats().scrubs >= before + 2);
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
}

fn only_file(path: &Path, folder: &str) -> PathBuf {
    let found = files(&path.join(folder));
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

/// Of a small object of 700 bytes: header of 48 bytes.
const ENTRY: u64 = 748;

/// Small objects of one group, in the order in which they lie in their pack.
fn small() -> impl Iterator<Item = u64> {
    (0..50).map(|at| 3 * at)
}

fn keep_small(store: &Store) {
    small().for_each(|number| keep(store, number, 700));
}

/// Those that cannot be read, by their place in the pack.
fn gone(store: &Store) -> Vec<u64> {
    small().filter(|number| readable(store, *number, 700) == 0).map(|number| number / 3).collect()
}

#[test]
fn bytes_that_rot_under_an_open_store_are_found_without_a_reader() {
    let scratch = tempfile::tempdir().unwrap();
    let (store, _) = open(&eager(scratch.path()));
    keep_small(&store);
    keep(&store, 100, 2 * PAGE + 9);
    wait_for_pass(&store);
    assert_eq!(store.stats().blocks_damaged, 0, "nothing is damaged");
    flip(&only_file(scratch.path(), "packs"), 7 * ENTRY + 400);
    flip(&only_file(scratch.path(), "large"), PAGE + 3 * BLOCK);
    wait_until("both are found", || store.stats().blocks_damaged == 2);
    assert_eq!(gone(&store), [7], "the damaged object is, the others are not");
    wait_until("the page's extent goes", || readable(&store, 100, 2 * PAGE + 9) == 0);
    wait_for_pass(&store);
    assert_eq!(store.stats().blocks_damaged, 2, "each is counted once");
}

#[test]
fn objects_behind_a_damaged_header_are_checked_too() {
    let scratch = tempfile::tempdir().unwrap();
    let (store, _) = open(&eager(scratch.path()));
    keep_small(&store);
    let pack = only_file(scratch.path(), "packs");
    flip(&pack, 3 * ENTRY + 1);
    flip(&pack, 20 * ENTRY + 600);
    wait_until("both are found", || store.stats().blocks_damaged == 2);
    wait_for_pass(&store);
    assert_eq!(store.stats().blocks_damaged, 2);
    assert_eq!(gone(&store), [3, 20]);
}

#[test]
fn a_pack_that_is_cut_short_keeps_what_is_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let (store, _) = open(&eager(scratch.path()));
    keep_small(&store);
    let pack = File::options().write(true).open(only_file(scratch.path(), "packs")).unwrap();
    pack.set_len(30 * ENTRY + 5).unwrap();
    wait_until("the lost ones are found", || store.stats().blocks_damaged == 20);
    assert_eq!(gone(&store), (30..50).collect::<Vec<_>>());
}

#[test]
fn after_a_restart_of_the_machine_contents_are_handed_out_once_they_were_checked() {
    let scratch = tempfile::tempdir().unwrap();
    let size = 3 * PAGE + 1;
    let (store, _) = open(&never(scratch.path()));
    keep(&store, 1, 700);
    keep(&store, 2, size);
    assert!(store.descriptor(id(2), size).is_some());
    drop(store);
    let after = |options: StoreOptions| open(&StoreOptions { boot_id: Some(BootId([2; 16])), ..options });
    let (store, recovery) = after(never(scratch.path()));
    assert_eq!(recovery.unverified, 1);
    assert!(store.descriptor(id(2), size).is_none(), "nobody has looked at it yet");
    drop(store);
    // A start under the same boot id that never checked anything proves nothing either.
    let (store, _) = after(eager(scratch.path()));
    wait_until("it was checked", || store.descriptor(id(2), size).is_some());
    assert_eq!(readable(&store, 1, 700), 1);
}

#[test]
fn what_rotted_while_the_machine_was_off_is_never_handed_out() {
    let scratch = tempfile::tempdir().unwrap();
    let size = 3 * PAGE + 1;
    let (store, _) = open(&never(scratch.path()));
    keep(&store, 2, size);
    drop(store);
    flip(&only_file(scratch.path(), "large"), 2 * PAGE + 5);
    let (store, _) = open(&StoreOptions { boot_id: Some(BootId([2; 16])), ..eager(scratch.path()) });
    wait_until("it is found", || store.stats().blocks_damaged == 1);
    assert!(store.descriptor(id(2), size).is_none());
}

#[test]
fn a_store_closes_at_once_though_its_scrub_waits() {
    let scratch = tempfile::tempdir().unwrap();
    let slow = Scrub { period: Duration::from_secs(3600), rate_max: ByteSize(1) };
    let (store, _) = open(&never(scratch.path()));
    keep(&store, 2, 3 * PAGE);
    drop(store);
    let options = StoreOptions { scrub: slow, boot_id: Some(BootId([2; 16])), ..options(&[scratch.path()], 1 << 30) };
    let (store, _) = open(&options);
    wait_until("it waits after the first page", || store.stats().bytes_scrubbed > 0);
    assert_eq!(store.stats().bytes_scrubbed, PAGE, "at one byte a second the next page is far");
    store.close().unwrap();
    assert!(fs::metadata(scratch.path()).is_ok());
}

#[test]
fn after_a_restart_of_the_process_alone_nothing_is_read_again_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let (store, _) = open(&never(scratch.path()));
    keep_small(&store);
    keep(&store, 100, 2 * PAGE);
    drop(store);
    // The first pass over everything waits after its first step; what is unverified would have been read before that.
    let slow = Scrub { period: Duration::from_secs(3600), rate_max: ByteSize(1) };
    let (store, _) = open(&StoreOptions { scrub: slow, ..options(&[scratch.path()], 1 << 30) });
    wait_until("it has begun with everything", || store.stats().bytes_scrubbed > 0);
    assert!(store.descriptor(id(100), 2 * PAGE).is_some(), "it was trusted from the start");
    assert!(store.stats().bytes_scrubbed <= PAGE, "{}", store.stats().bytes_scrubbed);
}
