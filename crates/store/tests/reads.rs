//! The ways of reading beside `read`: many at once, without waiting, and in memory that is lent.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use forebay_model::{BLOCK, ByteRange, PAGE};
use forebay_store::{BatchRead, BootId, Caching, LEND_MAX, ReadOutcome, Store, StoreOptions};
use proptest::prelude::*;
use support::{cases, content, files, id, keep, open, options, read};

/// Small objects of all sizes, a large content, the empty one, and one that was never kept.
fn size(number: u64) -> u64 {
    match number {
        0 => 0,
        40 => 2 * PAGE + 5,
        41 => 900,
        n => (n * n * n * 37) % (3 * BLOCK) + 1,
    }
}

const ABSENT: u64 = 41;

fn fill_up(store: &Store) {
    (0..=40).for_each(|number| keep(store, number, size(number)));
}

/// Reads all at once; which were filled. Panics at a wrong byte.
fn batch(store: &Store, wanted: &[(u64, ByteRange)], caching: Caching) -> Vec<bool> {
    let mut buffers: Vec<Vec<u8>> = wanted.iter().map(|(_, range)| vec![0; range.len() as usize]).collect();
    let mut reads: Vec<_> = wanted
        .iter()
        .zip(&mut buffers)
        .map(|((number, range), buffer)| BatchRead {
            id: id(*number),
            size: size(*number),
            range: *range,
            buffer,
            outcome: ReadOutcome::Absent,
        })
        .collect();
    store.read_batch(&mut reads, caching);
    let filled: Vec<_> = reads.iter().map(|read| read.outcome == ReadOutcome::Filled).collect();
    for (((number, range), buffer), filled) in wanted.iter().zip(&buffers).zip(&filled) {
        assert!(!filled || *buffer == content(*number, range.start, range.len()), "content {number}, {range:?}");
    }
    filled
}

/// A store of all contents that was opened again: with nothing verified if the machine `restarts`, and then a byte of a pack
/// flipped.
fn reopened(scratch: &Path, restarts: bool, damage: Option<prop::sample::Index>) -> Store {
    let mut options = options(&[scratch], 1 << 30);
    let (store, _) = open(&options);
    fill_up(&store);
    drop(store);
    if restarts {
        // Entries are proved on the way.
        options.boot_id = Some(BootId([2; 16]));
    }
    if let Some(at) = damage.filter(|_| restarts) {
        let packs = files(&scratch.join("packs"));
        let pack = &packs[at.index(packs.len())];
        let offset = at.index(fs::metadata(pack).unwrap().len() as usize) as u64;
        let file = File::options().read(true).write(true).open(pack).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[!byte[0]], offset).unwrap();
    }
    open(&options).0
}

/// Has the page cache let go of all files of a directory on a disk.
fn drop_from_memory(directory: &Path) {
    for path in files(directory) {
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

fn wanted() -> impl Strategy<Value = Vec<(u64, ByteRange)>> {
    let one = (0..=ABSENT, any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(|(number, a, b)| {
        let end = |at: prop::sample::Index| at.index(size(number) as usize + 1) as u64;
        (number, ByteRange::new(end(a).min(end(b)), end(a).max(end(b))))
    });
    prop::collection::vec(one, 0..60)
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn a_batch_comes_out_as_its_reads_would_alone(
        wanted in wanted(),
        drops in any::<bool>(),
        restarts in any::<bool>(),
        damage in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let scratch = tempfile::tempdir().unwrap();
        let store = reopened(scratch.path(), restarts, damage);
        let together = batch(&store, &wanted, if drops { Caching::Drop } else { Caching::Keep });
        for ((number, range), filled) in wanted.iter().zip(together) {
            let alone = read(&store, *number, size(*number), *range);
            prop_assert_eq!(alone, filled, "content {} {:?}", number, range);
            prop_assert!(damage.is_some() || alone == (*number != ABSENT || range.is_empty()));
        }
    }

    #[test]
    fn what_is_lent_comes_out_as_its_read_would(
        drops in any::<bool>(),
        in_memory in any::<bool>(),
        restarts in any::<bool>(),
        damage in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let store = reopened(scratch.path(), restarts, damage);
        if !in_memory {
            drop_from_memory(scratch.path());
        }
        let caching = if drops { Caching::Drop } else { Caching::Keep };
        let mut held = Vec::new();
        for number in 0..=ABSENT {
            let (size, read_before) = (size(number), store.stats().bytes_read);
            let lent = store.lend(id(number), size, caching);
            let counted = store.stats().bytes_read - read_before;
            prop_assert_eq!(counted, lent.as_ref().map_or(0, |bytes| bytes.len() as u64));
            if (1..=LEND_MAX).contains(&size) {
                prop_assert_eq!(lent.is_some(), read(&store, number, size, ByteRange::new(0, size)), "content {}", number);
                prop_assert!(damage.is_some() || lent.is_some() == (number != ABSENT));
            } else {
                prop_assert!(lent.is_none(), "content {} of {} bytes", number, size);
            }
            held.extend(lent.map(|bytes| (number, bytes)));
        }
        // All at once: nobody's memory was lent to another.
        for (number, bytes) in held {
            prop_assert!(bytes == content(number, 0, size(number)), "content {}", number);
        }
    }
}

#[test]
fn what_lies_in_memory_is_read_without_waiting_and_nothing_else() {
    // On a disk: a tmpfs is memory whatever one does.
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = StoreOptions { fills: Caching::Keep, ..options(&[scratch.path()], 1 << 30) };
    let (store, _) = open(&options);
    fill_up(&store);
    let cached = |store: &Store, number: u64, range: ByteRange| {
        let mut buffer = vec![0; range.len() as usize];
        let outcome = store.read_cached(id(number), size(number), range, &mut buffer);
        assert!(outcome != Some(ReadOutcome::Filled) || buffer == content(number, range.start, range.len()));
        outcome
    };
    let all = |number: u64| ByteRange::new(0, size(number));
    for number in [0, 7, 20, 40] {
        assert_eq!(cached(&store, number, all(number)), Some(ReadOutcome::Filled), "content {number} was just written");
    }
    assert_eq!(cached(&store, ABSENT, all(ABSENT)), Some(ReadOutcome::Absent));
    drop_from_memory(scratch.path());
    let misses = store.stats().misses;
    for number in [7, 20, 40] {
        assert_eq!(cached(&store, number, all(number)), None, "content {number} is on the disk");
    }
    assert_eq!(store.stats().misses, misses, "to have to wait is no miss");
    assert!(read(&store, 40, size(40), ByteRange::new(0, 2 * PAGE)));
    assert_eq!(cached(&store, 40, ByteRange::new(0, 9)), Some(ReadOutcome::Filled), "it is in memory again");
    drop(store);
    let (store, _) = open(&StoreOptions { boot_id: Some(BootId([2; 16])), ..options });
    assert_eq!(cached(&store, 40, all(40)), None, "it has to be verified first");
    assert!(read(&store, 40, size(40), all(40)));
    assert_eq!(cached(&store, 40, all(40)), Some(ReadOutcome::Filled));
}
