//! How an async runtime may read a local file: in place, by a pool of threads, by the page cache first (`RWF_NOWAIT`) and the
//! pool else, or by io_uring. For each: reads a second, and how late a timer of the same runtime was meanwhile.
//!
//! ```text
//! cargo run --release -p forebay-bench --example waits -- FILE [SECONDS]
//! ```
//!
//! FILE is some hundred MiB on a disk, with bytes in it. Each row is measured in turns, five times; medians are printed
//! (docs/decisions/0009-reads-that-wait.md).
#![expect(unsafe_code, reason = "what a submission to io_uring points to must outlive it")]

use std::fs::File;
use std::io::{IoSliceMut, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::io::ReadWriteFlags;
use tokio::sync::oneshot;

const ROUNDS: usize = 5;
/// How often the timer is to go off.
const TICK: Duration = Duration::from_millis(1);
/// Reads that io_uring may have under way.
const ENTRIES: u32 = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    InPlace,
    Pool,
    NoWaitThenPool,
    Ring,
}

const WAYS: [(Way, &str); 4] = [
    (Way::InPlace, "in place"),
    (Way::Pool, "pool"),
    (Way::NoWaitThenPool, "page cache, else pool"),
    (Way::Ring, "io_uring"),
];

/// One read for the ring's thread: buffer and offset, and where it goes back to.
type Wanted = (Vec<u8>, u64, oneshot::Sender<Vec<u8>>);

struct World {
    file: Arc<File>,
    size: u64,
    ring: mpsc::Sender<Wanted>,
    slice: Duration,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or_else(|| std::io::Error::other("waits FILE [SECONDS]"))?;
    let seconds: f64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(0.5);
    let file = Arc::new(File::open(path)?);
    let size = file.metadata()?.len();
    let (ring, wanted) = mpsc::channel();
    let of_ring = file.clone();
    std::thread::spawn(move || serve_ring(&of_ring, &wanted));
    let world = Arc::new(World { file, size, ring, slice: Duration::from_secs_f64(seconds) });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("{:<24} {:>8} {:>6} {:>8} {:>12} {:>14}", "way", "bytes", "tasks", "cache", "reads/s", "timer late");
    for len in [4 << 10, 112 << 10] {
        for is_hot in [true, false] {
            for tasks in [1, 4] {
                let mut found = vec![Vec::new(); WAYS.len()];
                for _ in 0..ROUNDS {
                    for ((way, _), found) in WAYS.iter().zip(&mut found) {
                        prepare(&world.file, size, is_hot)?;
                        found.push(runtime.block_on(measure(&world, *way, len, tasks)));
                    }
                }
                for ((_, name), mut found) in WAYS.iter().zip(found) {
                    found.sort_by(|a, b| a.0.total_cmp(&b.0));
                    let rate = found[ROUNDS / 2].0;
                    found.sort_by_key(|(_, late)| *late);
                    let (late, cache) = (found[ROUNDS / 2].1, if is_hot { "hot" } else { "dropped" });
                    println!("{name:<24} {len:>8} {tasks:>6} {cache:>8} {rate:>12.0} {late:>14.1?}");
                }
            }
        }
    }
    Ok(())
}

/// Brings all of the file into the page cache, or nothing.
fn prepare(file: &File, size: u64, is_hot: bool) -> Result<()> {
    if !is_hot {
        return Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?);
    }
    let mut buffer = vec![0; 1 << 20];
    (0..size).step_by(1 << 20).try_for_each(|at| file.read_at(&mut buffer, at).map(drop))
}

/// Reads a second, and how late one tick in a hundred was.
async fn measure(world: &Arc<World>, way: Way, len: usize, tasks: usize) -> (f64, Duration) {
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    let timer = tokio::spawn(async move {
        let mut late = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let due = Instant::now() + TICK;
            tokio::time::sleep_until(due.into()).await;
            late.push(due.elapsed());
        }
        late.sort();
        late[late.len() * 99 / 100]
    });
    let begun = Instant::now();
    let readers: Vec<_> = (0..tasks)
        .map(|task| {
            let (world, is_over) = (world.clone(), is_over.clone());
            tokio::spawn(async move {
                let mut random = SmallRng::seed_from_u64(task as u64);
                let (mut reads, mut buffer) = (0, vec![0; len]);
                while !is_over.load(Ordering::Relaxed) {
                    let at = random.random_range(0..(world.size - len as u64) / 4096) * 4096;
                    buffer = read(&world, way, buffer, at).await;
                    reads += 1;
                    tokio::task::consume_budget().await;
                }
                reads
            })
        })
        .collect();
    tokio::time::sleep(world.slice).await;
    is_over.store(true, Ordering::Relaxed);
    let mut reads = 0;
    for reader in readers {
        reads += reader.await.unwrap_or(0);
    }
    (f64::from(reads) / begun.elapsed().as_secs_f64(), timer.await.unwrap_or_default())
}

async fn read(world: &Arc<World>, way: Way, mut buffer: Vec<u8>, at: u64) -> Vec<u8> {
    match way {
        Way::InPlace => {
            world.file.read_exact_at(&mut buffer, at).expect("the file is there");
            buffer
        }
        Way::NoWaitThenPool if is_cached(&world.file, &mut buffer, at) => buffer,
        Way::Pool | Way::NoWaitThenPool => {
            let file = world.file.clone();
            let read = move || {
                file.read_exact_at(&mut buffer, at).expect("the file is there");
                buffer
            };
            tokio::task::spawn_blocking(read).await.expect("a read does not panic")
        }
        Way::Ring => {
            let (give, take) = oneshot::channel();
            world.ring.send((buffer, at, give)).expect("the ring's thread lives");
            take.await.expect("every read is answered")
        }
    }
}

fn is_cached(file: &File, buffer: &mut [u8], at: u64) -> bool {
    let len = buffer.len();
    matches!(rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], at, ReadWriteFlags::NOWAIT), Ok(read) if read == len)
}

/// Reads by a ring: takes what waits, submits it, and waits for the first to come back. A thread waits for work only when
/// nothing is under way, so new work may wait for the read that is: with one task none does.
fn serve_ring(file: &File, wanted: &mpsc::Receiver<Wanted>) {
    let mut ring = io_uring::IoUring::new(ENTRIES).expect("the kernel has io_uring");
    let mut under_way: Vec<Option<Wanted>> = (0..ENTRIES).map(|_| None).collect();
    let mut count = 0;
    loop {
        while count < ENTRIES {
            let next = if count == 0 { wanted.recv().ok() } else { wanted.try_recv().ok() };
            let Some(next) = next else { break };
            let slot = under_way.iter().position(Option::is_none).expect("fewer are under way than there are slots");
            let (buffer, at, _) = under_way[slot].insert(next);
            let entry = io_uring::opcode::Read::new(
                io_uring::types::Fd(file.as_raw_fd()),
                buffer.as_mut_ptr(),
                buffer.len() as u32,
            );
            let entry = entry.offset(*at).build().user_data(slot as u64);
            // SAFETY: the buffer is not touched until its completion has come, and the file lives as long as this call.
            unsafe { ring.submission().push(&entry).expect("there is room") };
            count += 1;
        }
        if count == 0 {
            return;
        }
        ring.submit_and_wait(1).expect("it is submitted");
        let done: Vec<_> = ring.completion().map(|done| done.user_data() as usize).collect();
        for slot in done {
            if let Some((buffer, _, give)) = under_way[slot].take() {
                let _ = give.send(buffer);
                count -= 1;
            }
        }
    }
}
