//! foyer's block engine as the other side: `Store::load` and the storage writer of its hybrid cache, whose memory tier holds nothing.
//!
//! Its loads are futures, driven by the thread that wants the value. Read for its API only; nothing of it is copied here.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::{Error, Result};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foyer::{
    BlockEngineConfig, DeviceBuilder as _, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    IoEngineConfig, Load, PsyncIoEngineConfig, UringIoEngineConfig,
};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::data::Data;
use crate::side::{Keeps, Reads, absent, wrong};

/// Unit of its eviction, and files of the directory: as large as an extent of ours. Its default is 16 MiB.
const BLOCK: usize = 64 << 20;
/// Its two write buffers, each so large. Default 16 MiB; as our write queue is.
const BUFFER: usize = 64 << 20;
/// What is submitted between two waits. Three of them fit in a buffer: what does not is dropped by it, silently.
const WAVE: u64 = 20 << 20;
/// Waits that may be open.
const WAVES: usize = 2;
/// It lays entries out in multiples of this.
const ALIGN: u64 = 4096;
/// Its header and key.
const HEAD: u64 = 64;
/// Threads of its runtime; reads of `psync` have more of their own.
const WORKERS: usize = 2;
/// Memory tier in bytes: smaller than any object.
const MEMORY: usize = 1;
/// A name for messages.
const NAME: &str = "foyer";

/// How it does its I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// io_uring in place of `pread` and `pwrite` on threads.
    pub(crate) uring: bool,
    /// O_DIRECT.
    pub(crate) direct: bool,
    /// Reads are tasks of its runtime; else each is driven by the thread that wants the value.
    pub(crate) tasks: bool,
}

/// A hybrid cache on one directory.
pub(crate) struct Rival {
    cache: HybridCache<u128, Bytes>,
    data: Data,
    waves: Mutex<Waves>,
    /// Last: what runs on it goes first.
    runtime: Runtime,
}

#[derive(Default)]
struct Waves {
    bytes: u64,
    open: VecDeque<JoinHandle<()>>,
}

impl Way {
    /// `pread` and `pwrite` on threads, through the page cache: its default.
    pub(crate) const PLAIN: Self = Self { uring: false, direct: false, tasks: false };

    /// With io_uring or without, and either with O_DIRECT or without: a row takes the fastest.
    pub(crate) const ALL: [Self; 4] = [
        Self::PLAIN,
        Self { direct: true, ..Self::PLAIN },
        Self { uring: true, ..Self::PLAIN },
        Self { uring: true, direct: true, ..Self::PLAIN },
    ];

    /// The ways to read, with O_DIRECT or without.
    pub(crate) fn to_read(direct: bool) -> [Self; 4] {
        [(false, false), (false, true), (true, false), (true, true)].map(|(uring, tasks)| Self { uring, direct, tasks })
    }

    /// As it stands in the results.
    pub(crate) fn name(self) -> String {
        let engine = if self.uring { "io_uring" } else { "psync" };
        let cache = if self.direct { "O_DIRECT" } else { "page cache" };
        let tasks = if self.tasks { ", tasks" } else { "" };
        format!("foyer {}, {engine}, {cache}{tasks}", version())
    }
}

/// The version in Cargo.lock.
pub(crate) fn version() -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let after = lock.split_once("name = \"foyer\"\nversion = \"").map_or("", |(_, after)| after);
    after.split_once('"').map_or("unknown", |(version, _)| version)
}

impl Rival {
    /// Opens the cache in `directory` and waits until its recovery has ended.
    pub(crate) fn open(directory: &Path, capacity: u64, data: &Data, way: Way) -> Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(WORKERS).enable_all().build()?;
        let device = FsDeviceBuilder::new(directory).with_capacity(capacity as usize).with_direct(way.direct).build();
        let engine = BlockEngineConfig::new(device.map_err(Error::other)?)
            .with_block_size(BLOCK)
            .with_buffer_pool_size(BUFFER)
            // What is under way is bounded here, by what its buffer takes.
            .with_submit_queue_size_threshold(usize::MAX);
        let io: Box<dyn IoEngineConfig> =
            if way.uring { Box::new(UringIoEngineConfig::new()) } else { Box::new(PsyncIoEngineConfig::new()) };
        let builder = HybridCacheBuilder::new()
            .with_name("bench")
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(false)
            .memory(MEMORY)
            .with_weighter(|_, value: &Bytes| value.len())
            .storage()
            .with_engine_config(engine)
            .with_io_engine_config(io);
        let cache = runtime.block_on(builder.build()).map_err(Error::other)?;
        Ok(Self { cache, data: data.clone(), waves: Mutex::default(), runtime })
    }

    /// The n-th object's value, none if it is not there.
    fn load(&self, n: u64) -> Result<Option<Bytes>> {
        let loaded = self.runtime.block_on(self.cache.storage().load(&self.data.key(n)));
        match loaded.map_err(Error::other)? {
            Load::Entry { value, .. } => Ok(Some(value)),
            Load::Piece { piece, .. } => Ok(Some(piece.value().clone())),
            Load::Throttled | Load::Miss => Ok(None),
        }
    }

    /// As `slice::gets`, but each reader is a task of the runtime.
    pub(crate) fn gets_by_tasks(&self, orders: Vec<Vec<u64>>, length: Duration) -> Result<f64> {
        let reader = |order: Vec<u64>| {
            let (cache, data) = (self.cache.clone(), self.data.clone());
            self.runtime.spawn(async move {
                let (begun, mut done) = (Instant::now(), 0_u64);
                loop {
                    for &n in &order {
                        let loaded = cache.storage().load(&data.key(n)).await.map_err(Error::other)?;
                        let Load::Entry { value, .. } = loaded else { return Err(absent(NAME, n)) };
                        black_box(&value[..]);
                        done += 1;
                        let took = begun.elapsed();
                        if took >= length {
                            return Ok(done as f64 / took.as_secs_f64());
                        }
                    }
                }
            })
        };
        let readers: Vec<_> = orders.into_iter().map(reader).collect();
        let rates = readers.into_iter().map(|reader| self.runtime.block_on(reader).map_err(Error::other)?);
        rates.sum()
    }

    /// Closes in order.
    pub(crate) fn close(self) -> Result<()> {
        self.runtime.block_on(self.cache.close()).map_err(Error::other)
    }

    fn wait(&self, wave: JoinHandle<()>) -> Result<()> {
        self.runtime.block_on(wave).map_err(Error::other)
    }

    fn begin_wave(&self, waves: &mut Waves) {
        let storage = self.cache.storage().clone();
        waves.open.push_back(self.runtime.spawn(async move { storage.wait().await }));
        waves.bytes = 0;
    }
}

impl Reads for Rival {
    fn get(&self, n: u64, _buffer: &mut [u8]) -> Result<()> {
        let value = self.load(n)?.ok_or_else(|| absent(NAME, n))?;
        black_box(&value[..]);
        Ok(())
    }

    fn prove(&self, n: u64, _buffer: &mut [u8]) -> Result<()> {
        let value = self.load(n)?.ok_or_else(|| absent(NAME, n))?;
        if value == self.data.bytes(n) { Ok(()) } else { Err(wrong(NAME, n)) }
    }
}

impl Keeps for Rival {
    fn insert(&self, n: u64) -> Result<()> {
        let bytes = self.data.bytes(n);
        let room = (bytes.len() as u64 + HEAD).next_multiple_of(ALIGN);
        drop(self.cache.storage_writer(self.data.key(n)).force().insert(bytes));
        let mut waves = self.waves.lock().unwrap_or_else(PoisonError::into_inner);
        waves.bytes += room;
        if waves.bytes >= WAVE {
            self.begin_wave(&mut waves);
            while waves.open.len() > WAVES
                && let Some(wave) = waves.open.pop_front()
            {
                self.wait(wave)?;
            }
        }
        Ok(())
    }

    fn settle(&self, range: Range<u64>) -> Result<u64> {
        let mut waves = self.waves.lock().unwrap_or_else(PoisonError::into_inner);
        self.begin_wave(&mut waves);
        while let Some(wave) = waves.open.pop_front() {
            self.wait(wave)?;
        }
        // It drops silently what it cannot take: only what is there counts.
        Ok(range.filter(|&n| self.cache.storage().may_contains(&self.data.key(n))).count() as u64)
    }
}
