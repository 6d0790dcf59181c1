//! What is kept is read back, across sizes, restarts and threads; what is not kept is absent.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay_model::{BLOCK, ByteRange, EXTENT, PAGE, PageIndex, page_count};
use forebay_store::{Kept, NotKept, Residency, StoreError};
use proptest::prelude::*;
use support::{cases, id, keep, keep_page, open, options, read, readable};

const SIZES: [u64; 14] = [
    0,
    1,
    4095,
    BLOCK - 1,
    BLOCK,
    BLOCK + 1,
    PAGE - 1,
    PAGE,
    PAGE + 1,
    2 * PAGE,
    3 * PAGE + 5,
    EXTENT - 1,
    EXTENT + 1,
    EXTENT + PAGE + 1,
];

#[test]
fn contents_of_all_sizes_come_back_also_after_closing() {
    let scratch = tempfile::tempdir().unwrap();
    let options = options(&[scratch.path()], 1 << 30);
    let (store, _) = open(&options);
    for (number, size) in SIZES.into_iter().enumerate() {
        keep(&store, number as u64, size);
    }
    let check = |store: &forebay_store::Store| {
        for (number, size) in SIZES.into_iter().enumerate() {
            let number = number as u64;
            assert_eq!(store.residency(id(number), size), Residency::Whole, "size {size}");
            assert_eq!(readable(store, number, size), page_count(size), "size {size}");
            // Across blocks, pages and extents.
            for start in [0, 1, BLOCK - 1, PAGE - 3, EXTENT - 3, size.saturating_sub(2)] {
                assert!(read(store, number, size, ByteRange::at(start, 2 * PAGE, size)), "size {size} from {start}");
            }
            assert_ne!(store.residency(id(number), size + 1), Residency::Whole, "another size");
        }
    };
    check(&store);
    store.close().unwrap();
    assert!(!read(&store, 1, 1, ByteRange::new(0, 1)), "closed: another process may punch holes now");
    assert_eq!(keep_page(&store, 1, 1, PageIndex(0)), Kept::No(NotKept::Closed));
    drop(store);
    let (store, recovery) = open(&options);
    assert_eq!((recovery.contents, recovery.cut_bytes, recovery.unclean, recovery.unverified), (13, 0, 0, 0));
    check(&store);
    drop(store);
    let mut rebooted = options;
    rebooted.boot_id = Some(forebay_store::BootId([2; 16]));
    let (store, recovery) = open(&rebooted);
    assert_eq!(recovery.unverified, 1);
    assert!(store.descriptor(id(12), EXTENT + 1).is_none(), "not verified since the machine started");
    check(&store);
    assert!(store.descriptor(id(12), EXTENT + 1).is_some(), "now it is");
    assert!(store.descriptor(id(1), 1).is_none(), "a pack's descriptor never leaves");
}

#[test]
fn two_stores_on_one_directory_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let options = options(&[scratch.path()], 1 << 30);
    let (store, _) = open(&options);
    let Err(StoreError::InUse { directory, pid }) = forebay_store::Store::open(&options) else { panic!("not refused") };
    assert_eq!((directory.as_path(), pid), (scratch.path(), std::process::id().to_string()));
    store.close().unwrap();
    assert!(forebay_store::Store::open(&options).is_ok(), "closed, though not yet dropped");
}

#[test]
fn forgotten_contents_are_absent_also_after_restart() {
    let scratch = tempfile::tempdir().unwrap();
    let options = options(&[scratch.path()], 1 << 30);
    let (store, _) = open(&options);
    for (number, size) in [(1, 100), (2, 100), (3, 2 * PAGE), (4, 2 * PAGE)] {
        keep(&store, number, size);
    }
    store.forget(id(1));
    store.forget(id(3));
    let check = |store: &forebay_store::Store| {
        let left: Vec<_> = [(1, 100), (2, 100), (3, 2 * PAGE), (4, 2 * PAGE)]
            .into_iter()
            .filter(|(number, size)| store.residency(id(*number), *size) == Residency::Whole)
            .map(|(number, _)| number)
            .collect();
        assert_eq!(left, [2, 4]);
    };
    check(&store);
    drop(store);
    let (store, _) = open(&options);
    check(&store);
    keep(&store, 1, 100);
    keep(&store, 3, 2 * PAGE);
    assert_eq!(readable(&store, 3, 2 * PAGE), 2);
    drop(store);
    let (store, _) = open(&options);
    assert_eq!((readable(&store, 3, 2 * PAGE), readable(&store, 1, 100)), (2, 1));
}

#[test]
fn a_long_log_of_little_use_is_rewritten() {
    let scratch = tempfile::tempdir().unwrap();
    let options = options(&[scratch.path()], 1 << 30);
    let (store, _) = open(&options);
    keep(&store, 1, 2 * PAGE);
    let log = scratch.path().join("index.log");
    let mut longest = 0;
    for round in 0..60 {
        for number in 10..1000 {
            keep(&store, number, 3);
        }
        (10..1000).for_each(|number| store.forget(id(number)));
        keep(&store, 5000 + round, 3);
        longest = longest.max(std::fs::metadata(&log).unwrap().len());
    }
    assert!(longest < 3 << 20, "{longest}");
    drop(store);
    let (store, recovery) = open(&options);
    assert_eq!((recovery.contents, recovery.pages), (61, 2));
    assert_eq!(readable(&store, 1, 2 * PAGE), 2);
    assert!((0..60).all(|round| readable(&store, 5000 + round, 3) == 1));
}

#[test]
fn ten_thousand_large_contents_need_few_descriptors() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut options = options(&[scratch.path()], 4 << 30);
    options.max_open_files = 16;
    let (store, _) = open(&options);
    let size = PAGE + 1;
    for number in 0..10_000 {
        // The last page only: one byte each.
        assert_eq!(keep_page(&store, number, size, PageIndex(1)), Kept::Yes);
    }
    let open_files = || {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        fds.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(scratch.path()))).count()
    };
    for number in 0..10_000 {
        assert!(read(&store, number, size, ByteRange::new(PAGE, size)), "{number}");
        assert!(!read(&store, number, size, ByteRange::new(0, 1)), "{number}");
    }
    assert!(open_files() < 64, "{}", open_files());
    drop(store);
    let (store, recovery) = open(&options);
    assert_eq!((recovery.contents, recovery.pages), (10_000, 10_000));
    assert!(recovery.micros < 1_000_000, "{recovery:?}");
    assert!(read(&store, 9_999, size, ByteRange::new(PAGE, size)));
}

#[test]
fn half_a_data_set_read_and_kept_by_eight_threads_has_no_wrong_byte() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut options = options(&[scratch.path(), other.path()], 40 << 20);
    options.max_open_files = 8;
    let (store, _) = open(&options);
    // 160 MiB of small, middling and large contents over 80 MiB of store.
    let size_of = |number: u64| match number % 8 {
        0 => 17 * PAGE + number,
        1 => PAGE + number,
        2 => 2 * PAGE,
        _ => (number * 7919) % PAGE + 1,
    };
    let hits = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (store, hits) = (&store, &hits);
            scope.spawn(move || {
                let mut random = 0x1234_5678 ^ (thread << 32);
                for _ in 0..600 {
                    random = u64::wrapping_mul(random ^ random >> 13, 0x2545_f491_4f6c_dd1d).wrapping_add(thread);
                    let number = (random >> 20) % 64;
                    let size = size_of(number);
                    let page = PageIndex(((random >> 40) % u64::from(page_count(size))) as u32);
                    let range = ByteRange::at(page.start() + random % 4096, (random >> 8) % (2 * PAGE), size);
                    if read(store, number, size, range) {
                        hits.fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert!(support::may_refuse(keep_page(store, number, size, page)), "{number} {page:?}");
                    }
                    if random % 97 == 0 {
                        store.forget(id(number));
                    }
                    if random % 31 == 0 {
                        drop(store.descriptor(id(number), size));
                    }
                }
            });
        }
    });
    let stats = store.stats();
    assert!(hits.into_inner() > 300, "{stats:?}");
    assert!(stats.bytes_evicted > 0 && stats.blocks_damaged == 0, "{stats:?}");
    assert!(stats.bytes_resident <= 80 << 20, "{stats:?}");
    assert_eq!(stats.directories_down, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Keep(u64, u32),
    Read(u64, u64, u64),
    Forget(u64),
    Reopen,
    Reboot,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..8u64, 0..4u32).prop_map(|(number, page)| Step::Keep(number, page)),
        6 => (0..8u64, 0..4 * PAGE, 0..2 * PAGE).prop_map(|(number, at, len)| Step::Read(number, at, len)),
        1 => (0..8u64).prop_map(Step::Forget),
        1 => Just(Step::Reopen),
        1 => Just(Step::Reboot),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(cases(48))]

    /// Against the plainest model: a set of pages. Nothing is evicted here.
    #[test]
    fn behaves_as_a_set_of_pages(steps in steps()) {
        let size_of = |number: u64| [5, PAGE, PAGE + 1, 3 * PAGE + 7, BLOCK, 2 * PAGE, 4 * PAGE, 77_777][number as usize];
        let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut options = options(&[scratch.path()], 1 << 30);
        let mut store = open(&options).0;
        let mut model = HashSet::new();
        for step in steps {
            match step {
                Step::Keep(number, page) => {
                    let size = size_of(number);
                    let page = page % page_count(size);
                    prop_assert_eq!(keep_page(&store, number, size, PageIndex(page)), Kept::Yes);
                    model.insert((number, page));
                }
                Step::Read(number, at, len) => {
                    let range = ByteRange::at(at, len, size_of(number));
                    let here = forebay_model::pages_of(range).all(|page| model.contains(&(number, page.0)));
                    prop_assert_eq!(read(&store, number, size_of(number), range), here);
                }
                Step::Forget(number) => {
                    store.forget(id(number));
                    model.retain(|(of, _)| *of != number);
                }
                Step::Reopen | Step::Reboot => {
                    drop(store);
                    if matches!(step, Step::Reboot) {
                        options.boot_id = options.boot_id.map(|boot| forebay_store::BootId(boot.0.map(|b| b + 1)));
                    }
                    store = open(&options).0;
                }
            }
            for number in 0..8 {
                let here = model.iter().filter(|(of, _)| *of == number).count() as u32;
                let expected = match here {
                    0 => Residency::None,
                    n if n == page_count(size_of(number)) => Residency::Whole,
                    _ => Residency::Partial,
                };
                prop_assert_eq!(store.residency(id(number), size_of(number)), expected);
            }
        }
    }
}
