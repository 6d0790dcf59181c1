//! Rows of many small objects: memory for each, and the time until all can be served after a start.
//!
//! Each side is built once and opened again by a process of its own, whose memory starts out clean. The files that recovery reads are
//! in the page cache, for they have just been written.

use std::io::{Error, Result};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use forebay_store::Caching;
use serde::{Deserialize, Serialize};

use crate::data::{Data, Shape};
use crate::kernel;
use crate::ours::Ours;
use crate::rival::{Rival, Way};
use crate::row::{Head, Plan};
use crate::side::Reads;
use crate::slice;

/// Objects.
const OBJECTS: u64 = 1_000_000;
/// Room: the rival takes 4 KiB an object.
const CAPACITY: u64 = 8 << 30;
/// Objects that are compared byte for byte after each start.
const PROVED: u64 = 1000;
/// Threads that build.
const THREADS: usize = 1;

/// Which side a process opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Which {
    /// The page store.
    Ours,
    /// foyer, over psync.
    Foyer,
    /// foyer, over io_uring.
    FoyerUring,
}

/// What such a process prints.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Reopened {
    seconds: f64,
    bytes_per_object: f64,
}

impl Which {
    fn folder(self) -> &'static str {
        if self == Self::Ours { "tiny-ours" } else { "tiny-foyer" }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Foyer => "foyer",
            Self::FoyerUring => "foyer-uring",
        }
    }

    fn way(self) -> Way {
        Way { uring: self == Self::FoyerUring, ..Way::PLAIN }
    }

    fn open(self, directory: &Path, data: &Data) -> Result<Box<dyn Reads>> {
        Ok(match self {
            Self::Ours => Box::new(Ours::open(directory, CAPACITY, data, Caching::Keep)?),
            Self::Foyer | Self::FoyerUring => Box::new(Rival::open(directory, CAPACITY, data, self.way())?),
        })
    }
}

/// Measures both rows; each start gives a figure of either.
pub(crate) fn rows(plan: &Plan) -> Result<()> {
    let (memory, recovery) = ("store.memory.1m-objects", "store.recovery.1m-objects");
    if !plan.wants(memory) && !plan.wants(recovery) {
        return Ok(());
    }
    build(plan)?;
    let way = plan.fastest(recovery, &[Which::Foyer.way(), Which::FoyerUring.way()], |way, _| {
        let which = if way.uring { Which::FoyerUring } else { Which::Foyer };
        Ok(1.0 / again(plan, which)?.seconds)
    })?;
    let rival = if way.uring { Which::FoyerUring } else { Which::Foyer };
    let (mut ours_bytes, mut rival_bytes) = (Vec::new(), Vec::new());
    let start = |which, bytes: &mut Vec<f64>| {
        let one = again(plan, which)?;
        bytes.push(one.bytes_per_object);
        Ok(one.seconds)
    };
    let head = Head { higher_is_better: false, ..Head::rate(recovery, "seconds") };
    plan.compare(head, &way.name(), |_| start(Which::Ours, &mut ours_bytes), |_| start(rival, &mut rival_bytes))?;
    let head = Head { id: memory, unit: "bytes/object", ..head };
    let (mut ours, mut rival) = (ours_bytes.into_iter(), rival_bytes.into_iter());
    let next = |bytes: &mut dyn Iterator<Item = f64>| bytes.next().ok_or_else(|| Error::other("a start is missing"));
    plan.compare(head, &way.name(), |_| next(&mut ours), |_| next(&mut rival))?;
    for which in [Which::Ours, Which::Foyer] {
        kernel::empty(&plan.directory.join(which.folder()))?;
    }
    Ok(())
}

fn build(plan: &Plan) -> Result<()> {
    let data = Data::new(Shape::Tiny);
    for which in [Which::Ours, Which::Foyer] {
        kernel::empty(&plan.directory.join(which.folder()))?;
    }
    eprintln!("tiny: {OBJECTS} objects on both sides");
    let ours = Ours::open(&plan.directory.join(Which::Ours.folder()), CAPACITY, &data, Caching::Keep)?;
    slice::inserts(&ours, &data, 0..OBJECTS, THREADS)?;
    ours.close()?;
    let rival = Rival::open(&plan.directory.join(Which::Foyer.folder()), CAPACITY, &data, Which::Foyer.way())?;
    slice::inserts(&rival, &data, 0..OBJECTS, THREADS)?;
    rival.close()?;
    kernel::sync(&plan.directory)
}

/// Opens a side in a process of its own.
fn again(plan: &Plan, which: Which) -> Result<Reopened> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["reopen", "--side", which.name(), "--dir"]).arg(&plan.directory).stderr(Stdio::inherit());
    let output = command.output()?;
    if !output.status.success() {
        return Err(Error::other(format!("reopening {} failed: {}", which.name(), output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(Error::from)
}

/// What such a process does: opens an empty side, for what all cost alike, and then the one that was built.
pub(crate) fn reopen(directory: &Path, which: Which) -> Result<Reopened> {
    let data = Data::new(Shape::Tiny);
    let empty = directory.join(format!("{}-empty", which.folder()));
    kernel::empty(&empty)?;
    let side = which.open(&empty, &data)?;
    let before = kernel::anonymous_memory()?;
    drop(side);
    std::fs::remove_dir_all(&empty)?;

    let begun = Instant::now();
    let side = which.open(&directory.join(which.folder()), &data)?;
    let seconds = begun.elapsed().as_secs_f64();
    let memory = kernel::anonymous_memory()?.saturating_sub(before);
    let mut buffer = vec![0; data.len_max()];
    (0..OBJECTS).step_by((OBJECTS / PROVED) as usize).try_for_each(|n| side.prove(n, &mut buffer))?;
    Ok(Reopened { seconds, bytes_per_object: memory as f64 / OBJECTS as f64 })
}
