//! What the store counts, and the one table of its metrics.

use std::fmt;
use std::path::PathBuf;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::error::NotKept;
use crate::shared::Shared;

/// Counters since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) pages_kept: AtomicU64,
    pub(crate) bytes_kept: AtomicU64,
    pub(crate) not_kept: [AtomicU64; NotKept::ALL.len()],
    pub(crate) bytes_evicted: AtomicU64,
    pub(crate) bytes_rewritten: AtomicU64,
    pub(crate) holes_punched: AtomicU64,
    pub(crate) leases_refused: AtomicU64,
    pub(crate) blocks_damaged: AtomicU64,
    pub(crate) bytes_scrubbed: AtomicU64,
    pub(crate) scrubs: AtomicU64,
}

/// Figures of a store at one moment. Counters count since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Reads that were filled.
    pub hits: u64,
    /// Reads of which some byte was absent.
    pub misses: u64,
    /// Bytes that reads were filled with.
    pub bytes_read: u64,
    /// Pages and small objects kept.
    pub pages_kept: u64,
    /// Their bytes.
    pub bytes_kept: u64,
    /// Fills that were not kept.
    pub not_kept: u64,
    /// Bytes evicted.
    pub bytes_evicted: u64,
    /// Bytes of small objects written again, so that they outlive their packs.
    pub bytes_rewritten: u64,
    /// Holes punched for extents and small objects that are gone.
    pub holes_punched: u64,
    /// Extents for which the kernel refused a write lease, so that their file was unlinked.
    pub leases_refused: u64,
    /// Blocks, entries and files found damaged, and dropped.
    pub blocks_damaged: u64,
    /// Bytes that the scrub read and compared with their checksums.
    pub bytes_scrubbed: u64,
    /// Times that it went through everything.
    pub scrubs: u64,
    /// Contents of which something is here.
    pub contents: u64,
    /// Bytes of memory that the index of small objects takes, without what the allocator adds.
    pub index_bytes: u64,
    /// Bytes of packs and pages on all directories that are up.
    pub bytes_resident: u64,
    /// Bytes that may be kept on all directories that are up.
    pub capacity: u64,
    /// Bytes that wait to be written.
    pub bytes_queued: u64,
    /// Bytes of contents of which descriptors are handed out.
    pub bytes_handed_out: u64,
    /// Directories.
    pub directories: u64,
    /// Directories that were taken out.
    pub directories_down: u64,
    /// Directories whose logs are still being read.
    pub directories_recovering: u64,
}

/// Figures of one directory at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryStats {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes that may be kept there.
    pub capacity: u64,
    /// Bytes of packs and pages there.
    pub bytes_resident: u64,
    /// Whether it failed: it is neither read nor written until the store is opened again.
    pub is_down: bool,
    /// Whether its log is still being read: not all that lies there is known yet.
    pub is_recovering: bool,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn not_kept(&self, reason: NotKept) {
        Self::add(&self.not_kept[reason as usize], 1);
    }
}

impl Shared {
    /// Figures of each directory.
    pub(crate) fn directory_stats(&self) -> Vec<DirectoryStats> {
        let up = self.directories.iter().map(|directory| DirectoryStats {
            path: directory.root.path().to_owned(),
            capacity: directory.quota,
            bytes_resident: directory.used.load(Ordering::Relaxed),
            is_down: directory.is_down(),
            is_recovering: directory.is_recovering(),
        });
        let failed = self.failed.iter().map(|(path, capacity)| DirectoryStats {
            path: path.clone(),
            capacity: *capacity,
            bytes_resident: 0,
            is_down: true,
            is_recovering: false,
        });
        up.chain(failed).collect()
    }

    /// Figures at this moment.
    pub(crate) fn stats(&self) -> StoreStats {
        let counters = &self.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let up = || self.directories.iter().filter(|directory| !directory.is_down());
        StoreStats {
            hits: get(&counters.hits),
            misses: get(&counters.misses),
            bytes_read: get(&counters.bytes_read),
            pages_kept: get(&counters.pages_kept),
            bytes_kept: get(&counters.bytes_kept),
            not_kept: counters.not_kept.iter().map(get).sum(),
            bytes_evicted: get(&counters.bytes_evicted),
            bytes_rewritten: get(&counters.bytes_rewritten),
            holes_punched: get(&counters.holes_punched),
            leases_refused: get(&counters.leases_refused),
            blocks_damaged: get(&counters.blocks_damaged),
            bytes_scrubbed: get(&counters.bytes_scrubbed),
            scrubs: get(&counters.scrubs),
            contents: self.index.contents(),
            index_bytes: self.index.small_bytes(),
            bytes_resident: up().map(|directory| get(&directory.used)).sum(),
            capacity: up().map(|directory| directory.quota).sum(),
            bytes_queued: self.directories.iter().map(|directory| directory.queue.bytes()).sum(),
            bytes_handed_out: self.handed_out.bytes(),
            directories: (self.directories.len() + self.failed.len()) as u64,
            directories_recovering: up().filter(|directory| directory.is_recovering()).count() as u64,
            directories_down: (self.directories.len() - up().count() + self.failed.len()) as u64,
        }
    }
}

/// Encodes the figures when they are asked for. Holds the store weakly: a registry outlives it.
#[derive(Debug)]
pub(crate) struct StoreCollector(pub(crate) Weak<Shared>);

impl Collector for StoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let s = shared.stats();
        let counters = [
            ("hits", "reads that were filled from the store", s.hits),
            ("misses", "reads of which some byte was not in the store", s.misses),
            ("read_bytes", "bytes that reads were filled with", s.bytes_read),
            ("kept_pages", "pages and small objects kept", s.pages_kept),
            ("kept_bytes", "bytes kept", s.bytes_kept),
            ("evicted_bytes", "bytes evicted", s.bytes_evicted),
            ("rewritten_bytes", "bytes of small objects written again to outlive their packs", s.bytes_rewritten),
            ("punched_holes", "holes punched for extents and small objects that are gone", s.holes_punched),
            ("refused_leases", "extents whose file was unlinked because somebody else had it open", s.leases_refused),
            ("damaged_blocks", "blocks, entries and files found damaged and dropped", s.blocks_damaged),
            ("scrubbed_bytes", "bytes read in the background and compared with their checksums", s.bytes_scrubbed),
            ("scrubs", "times that everything was read in the background", s.scrubs),
        ];
        for (name, help, value) in counters {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        let gauges = [
            ("contents", "contents of which something is in the store", s.contents),
            ("index_bytes", "bytes of memory that the index of small objects takes", s.index_bytes),
            ("resident_bytes", "bytes in the store", s.bytes_resident),
            ("capacity_bytes", "bytes that may be in the store", s.capacity),
            ("queued_bytes", "bytes that wait to be written", s.bytes_queued),
            ("handed_out_bytes", "bytes of contents whose descriptors are handed out", s.bytes_handed_out),
            ("directories", "cache directories", s.directories),
            ("directories_down", "cache directories that failed and were taken out", s.directories_down),
            ("directories_recovering", "cache directories whose logs are still being read", s.directories_recovering),
        ];
        for (name, help, value) in gauges {
            let metric = ConstGauge::new(value as i64);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        let counter_type = ConstCounter::new(0u64).metric_type();
        let mut family = encoder.encode_descriptor("not_kept", "pages not kept, by reason", None, counter_type)?;
        for reason in NotKept::ALL {
            let value = shared.counters.not_kept[reason as usize].load(Ordering::Relaxed);
            ConstCounter::new(value).encode(family.encode_family(&[("reason", reason.label())])?)?;
        }
        Ok(())
    }
}
