//! Rows of reading, and of reading while new objects are kept.

use std::io::Result;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use forebay_store::Caching;

use crate::data::{Data, Shape};
use crate::kernel;
use crate::ours::Ours;
use crate::plain::Plain;
use crate::rival::{Rival, Way};
use crate::row::{Head, Plan};
use crate::side::Reads;
use crate::slice::{self, Slice};

/// Bytes that are resident on each side: many times what processors and memory tiers hold.
const RESIDENT: u64 = 1 << 30;
/// Room of each side: nothing is evicted.
const CAPACITY: u64 = 24 << 30;
/// Numbers of threads.
const THREADS: [usize; 2] = [1, 4];
/// A data set that lies on every side.
struct Set<'a> {
    plan: &'a Plan,
    data: Data,
    count: u64,
    name: &'static str,
}

/// Measures all rows of reading.
pub(crate) fn rows(plan: &Plan) -> Result<()> {
    for (shape, name) in [(Shape::Objects, "112k"), (Shape::Pages, "1m")] {
        let ids = ["cold", "get", "plain", "mixed"].map(|work| format!("store.{work}.{name}"));
        if !ids.iter().any(|id| plan.wants(id) || THREADS.iter().any(|threads| plan.wants(&format!("{id}.{threads}"))))
        {
            continue;
        }
        let data = Data::new(shape);
        let count = data.count_of(RESIDENT);
        let set = Set { plan, data, count, name };
        set.lay()?;
        set.cold()?;
        set.hot()?;
        if shape == Shape::Objects {
            set.mixed()?;
        }
        for side in ["ours", "foyer"] {
            kernel::empty(&set.path(side))?;
        }
        std::fs::remove_file(set.path("plain"))?;
    }
    Ok(())
}

impl Set<'_> {
    fn path(&self, side: &str) -> PathBuf {
        self.plan.directory.join(format!("{}-{side}", self.name))
    }

    fn ours(&self, caching: Caching) -> Result<Ours> {
        Ours::open(&self.path("ours"), CAPACITY, &self.data, caching)
    }

    fn rival(&self, way: Way) -> Result<Rival> {
        Rival::open(&self.path("foyer"), CAPACITY, &self.data, way)
    }

    /// Lays the data set down on every side.
    fn lay(&self) -> Result<()> {
        eprintln!("{}: {} objects on every side", self.name, self.count);
        let (ours, rival) = (self.path("ours"), self.path("foyer"));
        kernel::empty(&ours)?;
        kernel::empty(&rival)?;
        let ours = self.ours(Caching::Keep)?;
        slice::inserts(&ours, &self.data, 0..self.count, 1)?;
        ours.close()?;
        let rival = self.rival(Way::PLAIN)?;
        slice::inserts(&rival, &self.data, 0..self.count, 1)?;
        rival.close()?;
        Plain::write(&self.path("plain"), &self.data, self.count)
    }

    fn slice(&self, threads: usize, length: Duration, seed: u64) -> Slice {
        Slice { threads, length, seed }
    }

    /// Reads of the rival, opened for one slice: an io_uring thread of it would never rest.
    fn rival_gets(&self, way: Way, slice: Slice) -> Result<f64> {
        let rival = self.rival(way)?;
        let rate = match way.tasks {
            true => rival.gets_by_tasks(slice::orders(self.count, slice), slice.length)?,
            false => slice::gets(&rival, &self.data, self.count, slice)?,
        };
        rival.close()?;
        Ok(rate)
    }

    /// Both sides past the page cache, which has nothing of them.
    fn cold(&self) -> Result<()> {
        for threads in THREADS {
            let id = format!("store.cold.{}.{threads}", self.name);
            if self.plan.wants(&id) {
                self.gets(&id, threads, Caching::Drop)?;
            }
        }
        Ok(())
    }

    /// Everything in the page cache. Hot is what was read, not what was written: the kernel keeps the two in folios of
    /// different sizes.
    fn hot(&self) -> Result<()> {
        kernel::drop_caches(&self.plan.directory)?;
        let (ours, plain) = (self.ours(Caching::Keep)?, Plain::open(&self.path("plain"), &self.data)?);
        self.warm(&ours)?;
        self.warm(&plain)?;
        self.warm(&self.rival(Way::PLAIN)?)?;
        drop(ours);
        for threads in THREADS {
            let id = format!("store.get.{}.{threads}", self.name);
            if self.plan.wants(&id) {
                self.gets(&id, threads, Caching::Keep)?;
            }
        }
        let id = format!("store.plain.{}", self.name);
        if self.plan.wants(&id) {
            let ours = self.ours(Caching::Keep)?;
            let rate = |side: &dyn Reads, seed| {
                slice::gets(side, &self.data, self.count, self.slice(1, self.plan.slice, seed))
            };
            let head = Head { target: 0.9, ..Head::rate(&id, "reads/s") };
            self.plan.compare(head, "pread of a plain file", |seed| rate(&ours, seed), |seed| rate(&plain, seed))?;
        }
        Ok(())
    }

    /// Every byte is proved on the way, in the order in which it was written.
    fn warm(&self, side: &dyn Reads) -> Result<()> {
        let mut buffer = vec![0; self.data.len_max()];
        (0..self.count).try_for_each(|n| side.prove(n, &mut buffer))
    }

    fn gets(&self, id: &str, threads: usize, caching: Caching) -> Result<()> {
        if caching == Caching::Drop {
            kernel::drop_caches(&self.plan.directory)?;
        }
        // As ours reads: past the page cache, or what is in it.
        let ways = Way::to_read(caching == Caching::Drop);
        let way = self
            .plan
            .fastest(id, &ways, |way, length| self.rival_gets(way, self.slice(threads, length, u64::MAX >> 8)))?;
        let ours = self.ours(caching)?;
        let slice = |seed| self.slice(threads, self.plan.slice, seed);
        self.plan.compare(
            Head::rate(id, "reads/s"),
            &way.name(),
            |seed| slice::gets(&ours, &self.data, self.count, slice(seed)),
            |seed| self.rival_gets(way, slice(seed)),
        )
    }

    /// Nine reads, then one object that is kept.
    fn mixed(&self) -> Result<()> {
        let (next_ours, next_rival) = (AtomicU64::new(self.count), AtomicU64::new(self.count));
        for threads in THREADS {
            let id = format!("store.mixed.{}.{threads}", self.name);
            if !self.plan.wants(&id) {
                continue;
            }
            let rival = |way, slice| {
                let rival = self.rival(way)?;
                let rate = slice::mixed(&rival, &self.data, self.count, &next_rival, slice)?;
                rival.close()?;
                kernel::sync(&self.plan.directory)?;
                Ok(rate)
            };
            let way = self.plan.fastest(&id, &[Way::PLAIN, Way { uring: true, ..Way::PLAIN }], |way, length| {
                rival(way, self.slice(threads, length, 0))
            })?;
            // As behind a mount: what is inserted leaves the page cache once it is on the disk.
            let caching = (Caching::Keep, Caching::Drop);
            let ours = Ours::open_to_fill(&self.path("ours"), CAPACITY, &self.data, caching)?;
            let slice = |seed| self.slice(threads, self.plan.slice, seed);
            self.plan.compare(
                Head::rate(&id, "operations/s"),
                &way.name(),
                |seed| {
                    let rate = slice::mixed(&ours, &self.data, self.count, &next_ours, slice(seed))?;
                    kernel::sync(&self.plan.directory)?;
                    Ok(rate)
                },
                |seed| rival(way, slice(seed)),
            )?;
        }
        Ok(())
    }
}
