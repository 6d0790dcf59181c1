//! What directories of different classes are promised: where new data goes, what is promoted and demoted, and that every
//! byte stays what it was.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use forebay_model::{ByteRange, ByteSize, Capacity, PAGE, PageIndex};
use forebay_store::{Admission, Class, DirectoryOptions, Kept, NotKept, Store, StoreOptions};
use support::{id, keep, keep_page, open, options, read, readable};

const MIB: u64 = 1 << 20;
const SMALL: u64 = 100_000;

/// A fast directory of 8 MiB and a slow one of 64.
fn tiers(fast: &Path, slow: &Path) -> StoreOptions {
    let of = |path: &Path, size: u64, class| {
        let capacity = Capacity::Bytes(ByteSize(size));
        DirectoryOptions { class: Some(class), ..DirectoryOptions::new(path.to_owned(), capacity) }
    };
    // The slow one first: the order does not matter.
    let directories = vec![of(slow, 64 * MIB, Class::Hdd), of(fast, 8 * MIB, Class::Mem)];
    StoreOptions { directories, ..options(&[fast], MIB) }
}

fn resident(store: &Store, class: Class) -> u64 {
    let of = store.directories().into_iter().filter(|directory| directory.class == Some(class));
    of.map(|directory| directory.bytes_resident).sum()
}

/// Reads a whole small object; whether it was there.
fn read_small(store: &Store, number: u64) -> bool {
    read(store, number, SMALL, ByteRange::new(0, SMALL))
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn new_data_fills_the_fast_directory_and_then_goes_to_the_slow_one() {
    let (fast, slow) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _) = open(&tiers(fast.path(), slow.path()));
    (0..40).for_each(|number| keep(&store, number, SMALL));
    assert_eq!(resident(&store, Class::Hdd), 0);
    (40..300).for_each(|number| keep(&store, number, SMALL));
    assert!(resident(&store, Class::Mem) > 7 * MIB, "{}", resident(&store, Class::Mem));
    assert!(resident(&store, Class::Hdd) > 20 * MIB);
    assert!((0..300).all(|number| read_small(&store, number)), "nothing went");
    let [mem, ssd, hdd] = store.stats().hits_by_class;
    assert!(mem > 60 && ssd == 0 && mem + hdd == 300, "{mem} {hdd}");
}

#[test]
fn small_objects_that_are_read_again_move_up_into_free_room_and_only_there() {
    let (fast, slow) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _) = open(&tiers(fast.path(), slow.path()));
    (0..300).for_each(|number| keep(&store, number, SMALL));
    let upstairs = resident(&store, Class::Mem);
    // All in use: whatever is read again stays where it is.
    (0..4).for_each(|_| assert!((0..300).all(|number| read_small(&store, number))));
    assert_eq!((store.stats().bytes_promoted, store.stats().bytes_demoted), (0, 0));
    // Room upstairs.
    (0..30).for_each(|number| store.forget(id(number)));
    wait_until("there is room upstairs", || resident(&store, Class::Mem) < upstairs - 2 * MIB);
    wait_until("what is read again moves up", || {
        assert!((30..300).all(|number| read_small(&store, number)));
        resident(&store, Class::Mem) > upstairs - MIB / 2 && store.stats().bytes_promoted >= 2 * MIB
    });
    store.close().unwrap();
    drop(store);
    let (store, recovery) = open(&tiers(fast.path(), slow.path()));
    assert_eq!(recovery.contents, 270);
    assert!((30..300).all(|number| read_small(&store, number)));
    assert_eq!(store.stats().blocks_damaged, 0);
    assert!(resident(&store, Class::Mem) > upstairs - MIB, "what moved up is found there");
}

#[test]
fn moved_objects_are_found_whichever_log_is_read_first() {
    let (fast, slow) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _) = open(&tiers(fast.path(), slow.path()));
    (0..120).for_each(|number| keep(&store, number, SMALL));
    (0..60).for_each(|number| store.forget(id(number)));
    wait_until("what is read again moves up", || {
        assert!((60..120).all(|number| read_small(&store, number)));
        store.stats().bytes_promoted > 2 * MIB
    });
    store.close().unwrap();
    drop(store);
    for _ in 0..20 {
        let (store, recovery) = open(&tiers(fast.path(), slow.path()));
        assert_eq!(recovery.contents, 60);
        assert!((60..120).all(|number| read_small(&store, number)));
    }
}

#[test]
fn what_is_idle_upstairs_makes_room_below_for_what_is_read() {
    let (fast, slow) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _) = open(&tiers(fast.path(), slow.path()));
    // Numbers 3 apart are of one group: group 0 fills the fast directory.
    let old: Vec<u64> = (0..76).map(|at| 3 * at).collect();
    old.iter().for_each(|number| keep(&store, *number, SMALL));
    let new: Vec<u64> = (0..100).map(|at| 3 * at + 1).collect();
    new.iter().for_each(|number| keep(&store, *number, SMALL));
    wait_until("idle packs go down and what is read comes up", || {
        assert!(new.iter().all(|number| read_small(&store, *number)));
        let stats = store.stats();
        stats.bytes_demoted > 2 * MIB && stats.bytes_promoted > 2 * MIB
    });
    assert!(old.iter().all(|number| read_small(&store, *number)), "what went down is there");
    assert_eq!(store.stats().blocks_damaged, 0);
}

#[test]
fn a_large_content_moves_up_whole_beside_its_readers() {
    let (fast, slow) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _) = open(&tiers(fast.path(), slow.path()));
    (0..80).for_each(|number| keep(&store, number, SMALL));
    let size = 2 * PAGE - 5;
    keep(&store, 1000, size);
    assert!(resident(&store, Class::Hdd) >= size);
    let held = store.descriptor(id(1000), size).unwrap();
    (0..80).for_each(|number| store.forget(id(number)));
    wait_until("there is room upstairs", || resident(&store, Class::Mem) < MIB);
    wait_until("it moves up", || {
        assert_eq!(readable(&store, 1000, size), 2);
        resident(&store, Class::Mem) >= size
    });
    wait_until("and is gone below", || resident(&store, Class::Hdd) < MIB);
    assert_eq!(readable(&store, 1000, size), 2);
    let mut bytes = vec![0; size as usize];
    rustix::io::pread(&held.file, &mut bytes[..], 0).unwrap();
    assert_eq!(bytes, support::content(1000, 0, size), "who had it open keeps it");
    store.close().unwrap();
    drop(store);
    let (store, _) = open(&tiers(fast.path(), slow.path()));
    assert_eq!(readable(&store, 1000, size), 2);
    assert!(resident(&store, Class::Mem) >= size);
}

#[test]
fn admission_spares_a_full_directory_what_is_offered_once_and_keeps_to_a_rate() {
    let scratch = tempfile::tempdir().unwrap();
    let admission = Admission { second_touch: true, write_rate_max: None };
    let (store, _) = open(&StoreOptions { admission, ..options(&[scratch.path()], 16 * MIB) });
    let first = (0..400).filter(|number| keep_page(&store, *number, SMALL, PageIndex(0)) == Kept::Yes).count();
    assert!((150..=200).contains(&first), "until it was full: {first}");
    assert_eq!(keep_page(&store, 1000, SMALL, PageIndex(0)), Kept::No(NotKept::FirstTouch));
    assert_ne!(keep_page(&store, 1000, SMALL, PageIndex(0)), Kept::No(NotKept::FirstTouch));

    let scratch = tempfile::tempdir().unwrap();
    let admission = Admission { second_touch: false, write_rate_max: Some(ByteSize(4 * MIB)) };
    let (store, _) = open(&StoreOptions { admission, ..options(&[scratch.path()], 256 * MIB) });
    let begun = Instant::now();
    let kept = (0..2000).filter(|number| keep_page(&store, *number, SMALL, PageIndex(0)) == Kept::Yes).count();
    let most = 4 * MIB + begun.elapsed().as_micros() as u64 * 4 * MIB / 1_000_000 + SMALL;
    assert!(kept as u64 * SMALL <= most && kept as u64 * SMALL > 3 * MIB, "{kept}");
    assert_eq!(keep_page(&store, 5000, SMALL, PageIndex(0)), Kept::No(NotKept::WriteRate));
}

#[test]
fn a_directory_in_memory_is_found_out() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut options = options(&[scratch.path()], 16 * MIB);
    options.directories[0].class = None;
    assert_eq!(open(&options).0.directories()[0].class, Some(Class::Mem));
}
