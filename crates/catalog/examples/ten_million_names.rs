//! What a directory of ten million names takes in the catalog: CPU to write it, bytes on disk and in memory, lookups a second,
//! and how long the next start takes after the process was killed.
//!
//! ```sh
//! cargo run --release -p forebay-catalog --example ten_million_names -- [--entries N] [--dir DIR]
//! ```
//! Names come as an origin would list them, by parts of 1,000 in four ranges at once; nothing is asked of an origin. The last
//! line is the result as JSON.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay_catalog::{Absence, Catalog, CatalogOptions, Held, Observed, ObservedFile, Paged, SourceFacts};
use forebay_model::{ByteSize, Freshness, NsPath, OriginId, TimestampNs, Version};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::time::{ClockId, clock_gettime};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const LISTERS: u64 = 4;
const PART: u64 = 1_000;
const LOOKUPS: u64 = 400_000;

fn source() -> Arc<SourceFacts> {
    Arc::new(SourceFacts {
        path: "/ml".parse().unwrap_or_else(|_| NsPath::root()),
        origin: OriginId { scheme: "s3".into(), endpoint: "http://127.0.0.1:8333".into(), bucket: "ml".into() },
        prefix: "".into(),
        freshness: Freshness::Immutable,
        added: TimestampNs(7),
    })
}

fn open(directory: &Path) -> Outcome<Catalog> {
    let options =
        CatalogOptions { directory: directory.join("catalog"), disk: ByteSize(8 << 30), memory: ByteSize(96 << 20) };
    Ok(Catalog::open(&options)?)
}

fn name(n: u64) -> String {
    format!("n{:08}_{:05}.JPEG", n / 1_300, n % 1_300)
}

/// Names from `first` to `end`, as an S3 store tells of them.
fn part(first: u64, end: u64) -> Vec<(String, Observed)> {
    let seen = |n: u64| {
        let digest = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let version = Version::Etag(format!("\"{digest:032x}\"").into());
        let mtime = TimestampNs((1_700_000_000 + (n % 86_400) as i64) * 1_000_000_000);
        Observed::File(ObservedFile { size: 100_000 + n % 50_000, mtime, version })
    };
    (first..end).map(|n| (name(n), seen(n))).collect()
}

/// CPU of this process so far, in seconds.
fn cpu() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let times = clock_gettime(clock);
    times.tv_sec as f64 + times.tv_nsec as f64 / 1e9
}

/// Anonymous memory of this process, in bytes.
fn rss_anon() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Calls `each` with every part of every range, each range on a thread of its own. Gives the CPU that it took to make the parts, in
/// seconds.
fn listers(entries: u64, each: impl Fn(&str, &[(String, Observed)]) + Sync) -> f64 {
    let quarter = entries / LISTERS;
    let making = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for lister in 0..LISTERS {
            let (each, making) = (&each, &making);
            scope.spawn(move || {
                let end = if lister == LISTERS - 1 { entries } else { (lister + 1) * quarter };
                let mut after = (lister * quarter).checked_sub(1).map(name).unwrap_or_default();
                for first in (lister * quarter..end).step_by(PART as usize) {
                    let before = seconds(ClockId::ThreadCPUTime);
                    let part = part(first, end.min(first + PART));
                    let spent = (seconds(ClockId::ThreadCPUTime) - before) * 1e9;
                    making.fetch_add(spent as u64, Ordering::Relaxed);
                    each(&after, &part);
                    after = part.last().map(|(name, _)| name.clone()).unwrap_or_default();
                }
            });
        }
    });
    making.into_inner() as f64 / 1e9
}

/// The process that is killed: writes the listing, tells what that took, and waits.
fn write(entries: u64, directory: &Path) -> Outcome<()> {
    let catalog = open(directory)?;
    let (source, at) = (source(), "/ml/train".parse::<NsPath>()?);
    let (before, begun) = (cpu(), Instant::now());
    let writer = catalog.begin_listing(&source, &at, Absence::Told);
    let (peak, is_done, failed) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let making = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                peak.fetch_max(rss_anon(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let making = listers(entries, |after, part| {
            if writer.range(&catalog.begin(), after, part).is_err() {
                failed.store(true, Ordering::Relaxed);
            }
        });
        is_done.store(true, Ordering::Relaxed);
        making
    });
    writer.covered(&catalog.begin(), &name(entries - 1), None)?;
    writer.finish()?;
    catalog.flush();
    if failed.into_inner() {
        return Err("a part could not be written".into());
    }
    let (spent, wall) = (cpu() - before - making, begun.elapsed());
    println!(
        "{{\"cpu_us_per_entry\":{:.3},\"making_cpu_us_per_entry\":{:.3},\"write_s\":{:.2},\"write_rss_anon\":{},\"disk_used\":{}}}",
        spent * 1e6 / entries as f64,
        making * 1e6 / entries as f64,
        wall.as_secs_f64(),
        peak.into_inner(),
        catalog.disk_used(),
    );
    std::io::stdout().flush()?;
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

fn look_up(catalog: &Catalog, entries: u64, threads: u64) -> Outcome<(f64, f64)> {
    let (source, before, begun) = (source(), cpu(), Instant::now());
    let wrong = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (source, wrong) = (&source, &wrong);
            scope.spawn(move || {
                let mut random = SmallRng::seed_from_u64(thread);
                let directory: NsPath = "/ml/train".parse().unwrap_or_else(|_| NsPath::root());
                for _ in 0..LOOKUPS / threads {
                    let n = random.random_range(0..entries);
                    match catalog.lookup(source, &directory.join(&name(n)), Instant::now()) {
                        Held::Found(found) if found.entry.size() == 100_000 + n % 50_000 => {}
                        _ => drop(wrong.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            });
        }
    });
    if wrong.load(Ordering::Relaxed) > 0 {
        return Err(format!("{} lookups were answered wrongly", wrong.into_inner()).into());
    }
    Ok((LOOKUPS as f64 / begun.elapsed().as_secs_f64(), (cpu() - before) * 1e6 / LOOKUPS as f64))
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |flag: &str| arguments.iter().position(|a| a == flag).and_then(|at| arguments.get(at + 1));
    let entries: u64 = value("--entries").map_or(Ok(10_000_000), |n| n.parse())?;
    let (temporary, directory);
    let directory = match value("--dir") {
        Some(given) => Path::new(given),
        None => {
            temporary = tempfile::tempdir()?;
            directory = temporary.path().to_owned();
            &directory
        }
    };
    if arguments.iter().any(|a| a == "--write") {
        return write(entries, directory);
    }
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--write", "--entries", &entries.to_string(), "--dir"])
        .arg(directory)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut written = String::new();
    let told = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut written));
    child.kill()?;
    child.wait()?;
    told.ok_or("the writer has no output")??;
    println!("written: {}", written.trim());

    let begun = Instant::now();
    let catalog = open(directory)?;
    let first = catalog.lookup(&source(), &"/ml/train".parse::<NsPath>()?.join(&name(0)), Instant::now());
    let opened = begun.elapsed();
    if !matches!(first, Held::Found(_)) {
        return Err("nothing is known after the restart".into());
    }
    println!("first answer {:.3} s after kill -9", opened.as_secs_f64());
    // The page cache has the file, for it was just written.
    let (one, one_cpu) = look_up(&catalog, entries, 1)?;
    let (two, two_cpu) = look_up(&catalog, entries, 2)?;
    println!("lookups: {one:.0}/s on one thread ({one_cpu:.2} us of CPU each), {two:.0}/s on two ({two_cpu:.2} us)");

    let (begun, before) = (Instant::now(), cpu());
    let held = catalog.listing_to_continue(&source(), &"/ml/train".parse()?, Instant::now()).ok_or("no listing")?;
    let (mut listed, mut after) = (0, String::new());
    while listed < entries.min(2_000_000) {
        let Paged::Page(page) = held.page(&after, 1_024) else { return Err("the listing ended early".into()) };
        listed += page.entries.len() as u64;
        match page.entries.last().filter(|_| page.more) {
            Some(last) => after = last.name.to_string(),
            None => break,
        }
    }
    let list = listed as f64 / begun.elapsed().as_secs_f64();
    println!("listing: {list:.0} names/s ({:.2} us of CPU each)", (cpu() - before) * 1e6 / listed as f64);

    let used = catalog.disk_used();
    let file = std::fs::metadata(directory.join("catalog/data.mdb"))?.len();
    let rss = rss_anon();
    println!(
        "on disk {:.1} bytes an entry ({} MiB in use, file {} MiB); anonymous memory {} MiB",
        used as f64 / entries as f64,
        used >> 20,
        file >> 20,
        rss >> 20
    );
    println!(
        "{{\"entries\":{entries},\"written\":{},\"open_s\":{:.3},\"lookups_per_s_1\":{one:.0},\"lookups_per_s_2\":{two:.0},\"lookup_cpu_us\":{one_cpu:.2},\"names_listed_per_s\":{list:.0},\"bytes_per_entry\":{:.1},\"file_bytes\":{file},\"rss_anon\":{rss}}}",
        written.trim(),
        opened.as_secs_f64(),
        used as f64 / entries as f64,
    );
    Ok(())
}
