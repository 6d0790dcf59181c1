//! Measures the index and the recovery of a store of many small objects (100-500 bytes), and prints one JSON object.
//!
//! ```text
//! cargo run --release -p forebay-store --example ten_million -- DIR [--objects N] [--directories N] [--keep]
//! ```
//!
//! `DIR` must not exist, and is removed afterwards unless `--keep` is given; 10,000,000 objects (the default) take about
//! 4 GB there. The store is built by one process and opened again by another, whose memory starts out clean. Figures:
//!
//! | field | meaning |
//! |---|---|
//! | `objects`, `object_bytes` | how many, and their bytes |
//! | `build_objects_per_second` | kept one after the other through the write queue |
//! | `built_index_bytes_per_object`, `index_bytes_per_object` | bytes of the index's own structure, after building and after recovery |
//! | `built_rss_bytes_per_object`, `rss_bytes_per_object` | anonymous memory (RssAnon) less that of the same process with an empty store, all in |
//! | `start_seconds` | until the store serves |
//! | `recovery_seconds` | until all is known |
//! | `recovery_peak_bytes_per_object` | most memory (VmHWM) in that time, less that of before |
//! | `lookups_per_second` | of random objects that are here, by 1, 2 and 4 threads, all together |
//! | `absent_lookups_per_second` | of objects that are not |
//!
//! The page cache holds the log when it is read, for it has just been written; drop it between two runs with `--keep` (a
//! `DIR` that exists is opened, not built) for figures of a cold start.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that measures, and ends when it cannot")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_model::{ByteRange, ByteSize, Capacity, ContentId, PageIndex, block_sums};
use forebay_store::{
    Caching, DirectoryOptions, Fill, Group, NotKept, ReadOutcome, Recovery, Reserve, Store, StoreOptions,
};

/// Lookups of each thread.
const LOOKUPS: u64 = 4_000_000;

struct Arguments {
    directory: PathBuf,
    objects: u64,
    directories: u64,
    keep: bool,
    /// Set in the process that opens what another has built.
    reopens: bool,
}

fn main() {
    let arguments = arguments();
    if arguments.reopens {
        println!("{}", reopen(&arguments));
        return;
    }
    let built = if arguments.directory.exists() { String::new() } else { build(&arguments) };
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(std::env::args_os().skip(1)).arg("--reopens");
    let output = again.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{{{built}{}}}", String::from_utf8(output.stdout).unwrap().trim());
    if !arguments.keep {
        std::fs::remove_dir_all(&arguments.directory).unwrap();
    }
}

fn arguments() -> Arguments {
    let mut given =
        Arguments { directory: PathBuf::new(), objects: 10_000_000, directories: 1, keep: false, reopens: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.replace('_', "").parse().ok()).expect("a number");
        match word.as_str() {
            "--objects" => given.objects = number(),
            "--directories" => given.directories = number(),
            "--keep" => given.keep = true,
            "--reopens" => given.reopens = true,
            directory => given.directory = directory.into(),
        }
    }
    assert!(!given.directory.as_os_str().is_empty(), "usage: ten_million DIR [--objects N] [--directories N] [--keep]");
    given
}

fn options(base: &Path, directories: u64) -> StoreOptions {
    let directory = |n| DirectoryOptions::new(base.join(format!("{n}")), Capacity::Bytes(ByteSize(1 << 40)));
    StoreOptions {
        reserve: Reserve::Bytes(ByteSize(0)),
        ..StoreOptions::new((0..directories).map(directory).collect())
    }
}

/// Spread as ids of the catalog are.
fn id(number: u64) -> ContentId {
    ContentId::from_u128(u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// 100 to 500 bytes.
fn size(number: u64) -> u64 {
    100 + number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 401
}

/// Opens an empty store and says what memory the process then has.
fn empty(arguments: &Arguments) -> u64 {
    let base = arguments.directory.join("empty");
    let (store, _) = Store::open(&options(&base, arguments.directories)).unwrap();
    let memory = status("RssAnon");
    store.close().unwrap();
    std::fs::remove_dir_all(base).unwrap();
    memory
}

fn build(arguments: &Arguments) -> String {
    std::fs::create_dir_all(&arguments.directory).unwrap();
    let before = empty(arguments);
    let (store, _) = Store::open(&options(&arguments.directory, arguments.directories)).unwrap();
    let bytes = Bytes::from((0..500u32).map(|n| (n % 251) as u8 + 1).collect::<Vec<_>>());
    let kept = Arc::new(AtomicU64::new(0));
    let (start, mut total) = (Instant::now(), 0);
    for n in 0..arguments.objects {
        let data = bytes.slice(..size(n) as usize);
        total += size(n);
        let fill = Fill {
            id: id(n),
            size: size(n),
            group: Group(0),
            page: PageIndex(0),
            sums: block_sums(&data),
            chunks: vec![data],
        };
        loop {
            let kept = Arc::clone(&kept);
            match store.keep(fill.clone(), Box::new(move |_| _ = kept.fetch_add(1, Ordering::Release))) {
                Ok(()) => break,
                Err(NotKept::QueueFull) => thread::yield_now(),
                Err(reason) => panic!("{reason}"),
            }
        }
        // The memory of what waits is no part of the index: little waits.
        while n.saturating_sub(kept.load(Ordering::Acquire)) > 4096 {
            thread::yield_now();
        }
    }
    while kept.load(Ordering::Acquire) < arguments.objects {
        thread::yield_now();
    }
    let (rate, stats) = (arguments.objects as f64 / start.elapsed().as_secs_f64(), store.stats());
    assert_eq!(stats.contents, arguments.objects, "all are here");
    let each = |bytes: u64| bytes as f64 / arguments.objects as f64;
    let (index, memory) = (each(stats.index_bytes), each(status("RssAnon").saturating_sub(before)));
    drop(store);
    format!(
        "\"object_bytes\":{total},\"build_objects_per_second\":{rate:.0},\"built_index_bytes_per_object\":{index:.1},\
         \"built_rss_bytes_per_object\":{memory:.1},"
    )
}

fn reopen(arguments: &Arguments) -> String {
    let before = empty(arguments);
    let peak_before = status("VmHWM").max(status("VmRSS"));
    let start = Instant::now();
    let store = Store::start(&options(&arguments.directory, arguments.directories)).unwrap();
    let started = start.elapsed();
    let found = store.wait_recovered(Duration::from_secs(3600));
    let took = start.elapsed();
    let peak = status("VmHWM").saturating_sub(peak_before);
    assert_eq!((found.contents, found.recovering), (arguments.objects, 0), "{found:?}");
    prove(&store, arguments.objects);
    let each = |bytes: u64| bytes as f64 / arguments.objects as f64;
    let memory = each(status("RssAnon").saturating_sub(before));
    let index = each(store.stats().index_bytes);
    let rates = |from| {
        [1, 2, 4].map(|threads| format!("\"{threads}\":{:.0}", lookups(&store, threads, from, arguments.objects)))
    };
    let (here, absent) = (rates(0).join(","), rates(arguments.objects).join(","));
    let Recovery { unverified, .. } = found;
    format!(
        "\"objects\":{},\"directories\":{},\"index_bytes_per_object\":{index:.1},\"rss_bytes_per_object\":{memory:.1},\
         \"start_seconds\":{:.3},\"recovery_seconds\":{:.2},\"recovery_peak_bytes_per_object\":{:.1},\
         \"unverified_directories\":{unverified},\
         \"lookups_per_second\":{{{here}}},\"absent_lookups_per_second\":{{{absent}}}",
        arguments.objects,
        arguments.directories,
        started.as_secs_f64(),
        took.as_secs_f64(),
        each(peak),
    )
}

/// Some objects have the bytes that were kept.
fn prove(store: &Store, objects: u64) {
    for n in (0..objects).step_by((objects / 1000).max(1) as usize) {
        let mut buffer = vec![0; size(n) as usize];
        let outcome = store.read(id(n), size(n), ByteRange::new(0, size(n)), &mut buffer, Caching::Keep);
        assert_eq!(outcome, ReadOutcome::Filled, "object {n}");
        assert!(buffer.iter().zip(0u32..).all(|(byte, at)| *byte == (at % 251) as u8 + 1), "object {n}");
    }
}

/// Lookups a second by so many threads, of random objects among `objects` from `from` on.
fn lookups(store: &Store, threads: u64, from: u64, objects: u64) -> f64 {
    let start = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let mut random = thread + 1;
                let mut found = 0;
                for _ in 0..LOOKUPS {
                    random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                    let n = from + (random >> 20) % objects;
                    found += u64::from(store.has_page(id(n), PageIndex(0)));
                }
                assert_eq!(found, if from == 0 { LOOKUPS } else { 0 });
            });
        }
    });
    (threads * LOOKUPS) as f64 / start.elapsed().as_secs_f64()
}

/// A field of this process's status, in bytes.
fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
