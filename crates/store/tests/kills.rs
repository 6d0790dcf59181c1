//! `kill -9` at any instant of a process that fills, reads, forgets and evicts: the next one opens, and no byte is wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use forebay_model::{EXTENT, PAGE, PageIndex, page_count};
use forebay_store::{Caching, Kept, Store, StoreOptions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::{id, keep_page, may_refuse, open, options, readable};

/// Tells a copy of this program where to work, with how much room, by which seed.
const WORK: &str = "FOREBAY_TEST_STORE_TO_KILL";
/// Tells this program by which seed to kill.
const SEED: &str = "FOREBAY_KILL_SEED";
/// Contents that there are.
const CONTENTS: u64 = 64;

/// Mostly small; some of two pages, some of two extents, of which the first and the last page are kept.
fn size(number: u64) -> u64 {
    match number % 8 {
        0 => EXTENT + 1000 + number,
        1 => PAGE + 5000 + number,
        _ => 1 + number * 997 % 60_000,
    }
}

fn pages(number: u64) -> BTreeSet<PageIndex> {
    BTreeSet::from([PageIndex(0), PageIndex(page_count(size(number)) - 1)])
}

fn store_options(path: &Path, quota: u64) -> StoreOptions {
    let mut options = options(&[path], quota);
    options.fills = if quota.is_multiple_of(2) { Caching::Keep } else { Caching::Drop };
    options
}

#[test]
fn process_that_works_until_it_is_killed() {
    // What the next tests run in a process of its own; nothing by itself.
    let Ok(work) = std::env::var(WORK) else { return };
    let (numbers, path) = work.split_once(':').unwrap();
    let (quota, seed) = numbers.split_once(',').unwrap();
    let (quota, seed): (u64, u64) = (quota.parse().unwrap(), seed.parse().unwrap());
    let (store, _) = open(&store_options(Path::new(path), quota));
    let mut random = StdRng::seed_from_u64(seed);
    let say = |what: &str, number: u64| {
        // One write: what is read of it is a whole line.
        std::io::stdout().write_all(format!("{what} {number}\n").as_bytes()).unwrap();
    };
    say("\nopen", 0);
    // Killed long before.
    for _ in 0..1_000_000 {
        let number = random.random_range(0..CONTENTS);
        match random.random_range(0..12) {
            0 => {
                say("forget", number);
                store.forget(id(number));
            }
            1 => _ = readable_pages(&store, number),
            _ => {
                let kept: Vec<_> =
                    pages(number).into_iter().map(|page| keep_page(&store, number, size(number), page)).collect();
                assert!(kept.iter().all(|kept| may_refuse(*kept)), "{kept:?}");
                if kept.iter().all(|kept| *kept == Kept::Yes) {
                    say("kept", number);
                }
            }
        }
    }
}

/// Pages of the content that can be read. Panics at a wrong byte.
fn readable_pages(store: &Store, number: u64) -> usize {
    let whole = |page: &PageIndex| forebay_model::ByteRange::at(page.start(), PAGE, size(number));
    pages(number).iter().filter(|page| support::read(store, number, size(number), whole(page))).count()
}

/// Lets a process work on `path` and kills it after `lines` lines and some time; what it said.
fn work_and_kill(path: &Path, quota: u64, seed: u64, lines: usize, then: Duration) -> Vec<(String, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["process_that_works_until_it_is_killed", "--exact", "--nocapture"])
        .env(WORK, format!("{quota},{seed}:{}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said: Vec<String> = output.by_ref().take(lines).map(Result::unwrap).collect();
    let until = Instant::now() + then;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it ended by itself");
    // What it had said before it died. The last line may be cut.
    said.extend(output.map_while(Result::ok));
    let parse =
        |line: String| line.split_once(' ').and_then(|(what, number)| Some((what.to_owned(), number.parse().ok()?)));
    said.into_iter().filter_map(parse).filter(|(what, _)| what == "kept" || what == "forget").collect()
}

fn seed() -> u64 {
    let seed = std::env::var(SEED).map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("do it again with {SEED}={seed}");
    seed
}

/// So many kills, or as many as the cases of `make soak` suggest.
fn kills() -> u32 {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse::<u32>().ok());
    cases.map_or(30, |cases| (cases / 20).max(30))
}

#[test]
fn a_store_that_is_full_survives_kills_without_a_wrong_byte() {
    let mut random = StdRng::seed_from_u64(seed());
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    // Room for a part of the contents; the odd number writes past the page cache.
    let quota = 12 << 20;
    let mut found = 0;
    for _ in 0..kills() {
        let (lines, then) = (random.random_range(0..150), Duration::from_micros(random.random_range(0..3000)));
        let fills = quota + random.random_range(0..2);
        work_and_kill(scratch.path(), fills, random.random(), lines, then);
        let (store, recovery) = open(&store_options(scratch.path(), quota));
        assert!(recovery.unverified == 0 || recovery.cut_bytes > 0, "{recovery:?}");
        found += (0..CONTENTS).map(|number| readable_pages(&store, number)).sum::<usize>();
        // It goes on.
        for number in 0..8 {
            keep_page(&store, 1000 + number, 3000, PageIndex(0));
            readable(&store, 1000 + number, 3000);
        }
        assert_eq!(store.stats().directories_down, 0);
        // Every other one is killed again before it was closed in order.
        if random.random_ratio(1, 2) {
            store.close().unwrap();
        }
    }
    assert!(found > 100, "{found} pages were served");
}

#[test]
fn what_was_acknowledged_and_not_evicted_survives_every_kill() {
    let mut random = StdRng::seed_from_u64(seed());
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let quota = 1 << 30;
    let mut kept: BTreeMap<u64, bool> = BTreeMap::new();
    for _ in 0..kills() {
        let (lines, then) = (random.random_range(0..40), Duration::from_micros(random.random_range(0..3000)));
        for (what, number) in work_and_kill(scratch.path(), quota, random.random(), lines, then) {
            // Whether an order to forget was carried out before the kill nobody knows.
            kept.insert(number, what == "kept");
        }
        let (store, _) = open(&store_options(scratch.path(), quota));
        for (number, is_kept) in &kept {
            let readable = readable_pages(&store, *number);
            assert!(
                !is_kept || readable == pages(*number).len(),
                "content {number} was acknowledged: {readable} pages"
            );
        }
        assert_eq!(store.stats().directories_down, 0);
    }
    assert!(kept.len() > 30, "{kept:?}");
}
