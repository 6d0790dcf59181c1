//! What a plan is promised: what is read last goes first, its room comes back, and no reader ever sees the hole.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use forebay_model::{ByteRange, ContentId, PAGE, PageIndex};
use forebay_store::{Access, Kept, NotKept, Plan, Store, optimum};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use support::{files, id, keep_page, open, options, read};

const MIB: u64 = 1 << 20;

/// Reads in an order that is known.
#[derive(Debug)]
struct Order {
    /// Where in the order each content is read, ascending.
    uses: HashMap<ContentId, Vec<u64>>,
    /// How far it has come.
    at: AtomicU64,
}

impl Order {
    fn of(numbers: &[u64]) -> Arc<Self> {
        let mut uses: HashMap<ContentId, Vec<u64>> = HashMap::new();
        for (at, number) in numbers.iter().enumerate() {
            uses.entry(id(*number)).or_default().push(at as u64);
        }
        Arc::new(Self { uses, at: 0.into() })
    }
}

impl Plan for Order {
    fn next_use(&self, id: ContentId, _: PageIndex) -> Option<u64> {
        let (uses, now) = (self.uses.get(&id)?, self.at.load(Ordering::Relaxed));
        Some(uses.get(uses.partition_point(|at| *at <= now)).copied().unwrap_or(u64::MAX))
    }
}

/// `epochs` over contents `0..count`, each in an order of its own.
fn shuffled(count: u64, epochs: usize, seed: u64) -> Vec<u64> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut epoch = || {
        let mut order: Vec<u64> = (0..count).collect();
        order.shuffle(&mut random);
        order
    };
    (0..epochs).flat_map(|_| epoch()).collect()
}

/// Reads contents of `size` bytes in order, keeping what is absent; how many were there.
fn run(store: &Store, order: &[u64], size: u64, plan: Option<&Order>) -> u64 {
    let mut hits = 0;
    for (at, number) in order.iter().enumerate() {
        if let Some(plan) = plan {
            plan.at.store(at as u64, Ordering::Relaxed);
        }
        if read(store, *number, size, ByteRange::new(0, size)) {
            hits += 1;
        } else {
            let kept = keep_page(store, *number, size, PageIndex(0));
            assert!(matches!(kept, Kept::Yes | Kept::No(NotKept::Outranked)), "{kept:?}");
        }
    }
    hits
}

fn best(order: &[u64], size: u64, quota: u64) -> u64 {
    let access = |number: &u64| Access { id: id(*number), size, group: 0, offset: 0, len: size };
    optimum(&order.iter().map(access).collect::<Vec<_>>(), quota).hits
}

/// Bytes that the files of a directory take on the disk.
fn on_disk(directory: &Path) -> u64 {
    files(&directory.join("packs")).iter().map(|file| file.metadata().map_or(0, |file| file.blocks() * 512)).sum()
}

#[test]
fn with_a_plan_the_store_is_near_the_optimum_within_its_quota() {
    const SIZE: u64 = 112 << 10;
    let quota = 40 * MIB;
    let scratch = tempfile::tempdir().unwrap();
    let (store, _) = open(&options(&[scratch.path()], quota));
    let order = shuffled(2 * quota / SIZE, 6, 1);
    let plan = Order::of(&order);
    store.set_plan(Some(Arc::clone(&plan) as Arc<dyn Plan>));
    let hits = run(&store, &order, SIZE, Some(&plan));
    let best = best(&order, SIZE, quota);
    assert!(hits as f64 >= 0.95 * best as f64, "{hits} hits of {best}");
    let stats = store.stats();
    assert!(stats.bytes_resident <= quota, "{stats:?}");
    assert!(stats.holes_punched > 100, "{stats:?}");
    assert!(stats.bytes_rewritten * 10 <= stats.bytes_kept, "{stats:?}");
    // 3 % for the ends of blocks of objects that are gone, and what the log takes.
    assert!(on_disk(scratch.path()) <= quota + quota / 32, "{} bytes on disk", on_disk(scratch.path()));

    // What lies there is found again, whole, and the room of what is gone is not counted.
    let contents = stats.contents;
    store.close().unwrap();
    drop(store);
    let (store, recovery) = open(&options(&[scratch.path()], quota));
    assert_eq!(recovery.contents, contents);
    assert!(recovery.bytes <= quota, "{recovery:?}");
    let there = (0..2 * quota / SIZE).filter(|number| read(&store, *number, SIZE, ByteRange::new(0, SIZE))).count();
    assert_eq!(there as u64, contents);
    assert_eq!(store.stats().blocks_damaged, 0);
}

#[test]
fn objects_too_small_for_holes_go_by_packs_of_which_the_soonest_are_written_again() {
    const SIZE: u64 = 3000;
    let quota = 16 * MIB;
    let scratch = tempfile::tempdir().unwrap();
    let (store, _) = open(&options(&[scratch.path()], quota));
    let order = shuffled(2 * quota / SIZE, 4, 2);
    let plan = Order::of(&order);
    store.set_plan(Some(Arc::clone(&plan) as Arc<dyn Plan>));
    let hits = run(&store, &order, SIZE, Some(&plan));
    let scratch = tempfile::tempdir().unwrap();
    let (other, _) = open(&options(&[scratch.path()], quota));
    let without = run(&other, &order, SIZE, None);
    let (stats, best) = (store.stats(), best(&order, SIZE, quota));
    assert!(hits > without && hits * 10 >= best * 8, "{hits} with a plan, {without} without, {best} at best");
    assert!(stats.bytes_rewritten <= stats.bytes_kept, "{stats:?}");
    assert!(stats.bytes_resident <= quota, "{stats:?}");
}

#[test]
fn extents_of_large_contents_go_by_the_plan_too() {
    let size = 3 * PAGE;
    let scratch = tempfile::tempdir().unwrap();
    let (store, _) = open(&options(&[scratch.path()], 31 * MIB));
    // 0 to 9 fill it; 10 is read before any of them but 3, which is read last.
    let order: Vec<u64> = (0..11).chain([10, 9, 8, 7, 6, 5, 4, 2, 1, 0, 3]).collect();
    let plan = Order::of(&order);
    store.set_plan(Some(Arc::clone(&plan) as Arc<dyn Plan>));
    for number in 0..11 {
        plan.at.store(number, Ordering::Relaxed);
        support::keep(&store, number, size);
    }
    let there: Vec<u64> = (0..11).filter(|number| support::readable(&store, *number, size) == 3).collect();
    assert_eq!(there, [0, 1, 2, 4, 5, 6, 7, 8, 9, 10], "the farthest went");
    // 11 is never read again: it takes nobody's place.
    store.set_plan(Some(Order::of(&order.iter().copied().chain([11]).collect::<Vec<_>>()) as Arc<dyn Plan>));
    assert_eq!(keep_page(&store, 11, size, PageIndex(0)), Kept::No(NotKept::Outranked));
}

#[test]
fn readers_beside_the_writer_never_see_a_hole() {
    const SIZE: u64 = 70_000;
    let quota = 8 * MIB;
    let scratch = tempfile::tempdir().unwrap();
    let (store, _) = open(&options(&[scratch.path()], quota));
    let count = 2 * quota / SIZE;
    let order = shuffled(count, 30, 3);
    let plan = Order::of(&order);
    store.set_plan(Some(Arc::clone(&plan) as Arc<dyn Plan>));
    let done = AtomicBool::new(false);
    let found = AtomicU64::new(0);
    thread::scope(|scope| {
        for reader in 0..4 {
            let (store, done, found) = (&store, &done, &found);
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(reader);
                while !done.load(Ordering::Relaxed) {
                    // Compares every byte.
                    let start = random.random_range(0..SIZE);
                    let range = ByteRange::new(start, SIZE);
                    found.fetch_add(
                        u64::from(read(store, random.random_range(0..count), SIZE, range)),
                        Ordering::Relaxed,
                    );
                }
            });
        }
        run(&store, &order, SIZE, Some(&plan));
        done.store(true, Ordering::Relaxed);
    });
    let stats = store.stats();
    assert!(found.load(Ordering::Relaxed) > 100 && stats.holes_punched > 100, "{stats:?}");
    assert_eq!(stats.blocks_damaged, 0, "{stats:?}");
}

#[test]
fn what_is_hot_in_a_pack_that_goes_is_written_again() {
    const SIZE: u64 = 100_000;
    let quota = 32 * MIB;
    let scratch = tempfile::tempdir().unwrap();
    let (store, _) = open(&options(&[scratch.path()], quota));
    // A few are read all the time, all else once: reads by rank to the power of -1.
    let mut random = StdRng::seed_from_u64(5);
    let count = 4 * quota / SIZE;
    let order: Vec<u64> = (0..12_000)
        .map(|_| {
            let unit: f64 = random.random();
            ((count as f64).powf(unit) as u64).min(count - 1)
        })
        .collect();
    run(&store, &order, SIZE, None);
    let stats = store.stats();
    assert!(stats.bytes_rewritten > 0 && stats.bytes_rewritten <= stats.bytes_kept / 2, "{stats:?}");
    assert!(stats.bytes_resident <= quota, "{stats:?}");
    let there = |store: &Store| {
        let is_there = |number: &u64| read(store, *number, SIZE, ByteRange::new(0, SIZE));
        (1..count).filter(is_there).collect::<Vec<_>>()
    };
    let before = there(&store);
    store.close().unwrap();
    drop(store);
    let (store, _) = open(&options(&[scratch.path()], quota));
    assert_eq!(there(&store), before);
    assert_eq!(store.stats().blocks_damaged, 0);
}
