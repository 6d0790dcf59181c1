//! `forebay-bench`: measures the same work on two directories in turns, so that the machine's mood strikes both alike.
//!
//! ```text
//! forebay-bench WORK --native DIR --mount DIR [--file NAME] [--readers N] [--pairs N] [--slice SECONDS] [--drop]
//! forebay-bench WORK --native DIR --mount DIR --cold ORDER [--readers N] [--slice SECONDS]
//! ```
//!
//! One pair is a slice on the plain directory and a slice on the mount, each about a second long; the order changes from pair
//! to pair. It prints one JSON object: a rate for each slice, in units of the work (files, bytes or operations a second).
//! With `--cold` the mount alone is read, each file once, and nothing before: what a first pass costs. Whoever starts it sees to it that
//! the mount has nothing cached.
//!
//! The loops are plain system calls on preallocated buffers: the tool costs less than what it measures.

mod kernel;
mod slice;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;

use crate::work::{Kind, Order, Side};

/// Measures the same work on two directories in turns.
#[derive(Debug, Parser)]
struct Flags {
    /// What is done.
    #[arg(value_enum)]
    work: Kind,
    /// The plain directory.
    #[arg(long)]
    native: PathBuf,
    /// The directory to compare with it: the same names and bytes.
    #[arg(long)]
    mount: PathBuf,
    /// The file to read, for `sequential` and `random`.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Readers at once.
    #[arg(long, default_value_t = 1)]
    readers: usize,
    /// Pairs of slices.
    #[arg(long, default_value_t = 9)]
    pairs: usize,
    /// Length of a slice in seconds.
    #[arg(long, default_value_t = 1.0)]
    slice: f64,
    /// Drop the kernel's page cache, dentries and inodes before every slice, on both sides alike. Needs root.
    #[arg(long)]
    drop: bool,
    /// One pass over the mount alone, in this order; it ends after a slice if it is not through by then.
    #[arg(long, value_enum, conflicts_with_all = ["drop", "pairs"])]
    cold: Option<ColdOrder>,
}

/// The order of a cold pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum ColdOrder {
    /// By name, as a listing gives them.
    Listing,
    /// In random order, the same in every run.
    Random,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    work: Kind,
    readers: usize,
    dropped: bool,
    unit: &'static str,
    pairs: Vec<Pair>,
}

/// What is printed of a cold pass.
#[derive(Debug, Serialize)]
struct ColdReport {
    work: Kind,
    readers: usize,
    order: ColdOrder,
    unit: &'static str,
    done: u64,
    seconds: f64,
    rate: f64,
}

/// The rates of one pair.
#[derive(Debug, Serialize)]
struct Pair {
    native: f64,
    mount: f64,
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("forebay-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> std::io::Result<String> {
    let length = Duration::from_secs_f64(flags.slice);
    if let Some(order) = flags.cold {
        return cold(flags, order, length);
    }
    let native = Side::open(flags.work, &flags.native, flags.file.as_deref(), &flags.native)?;
    let mount = Side::open(flags.work, &flags.mount, flags.file.as_deref(), &flags.native)?;
    if !flags.drop {
        // Both sides hot: every byte once through each.
        native.warm()?;
        mount.warm()?;
    }
    let mut pairs = Vec::with_capacity(flags.pairs);
    for number in 0..flags.pairs {
        let rate = |side: &Side| -> std::io::Result<f64> {
            if flags.drop {
                side.forget_caches()?;
                kernel::drop_caches()?;
            }
            // The same seed on both sides: the same files, in the same order.
            slice::measure(side, flags.readers, length, Order::Random { seed: number as u64 }, flags.drop)
        };
        let pair = if number % 2 == 0 {
            let native = rate(&native)?;
            Pair { native, mount: rate(&mount)? }
        } else {
            let mount = rate(&mount)?;
            Pair { native: rate(&native)?, mount }
        };
        pairs.push(pair);
    }
    let report =
        Report { work: flags.work, readers: flags.readers, dropped: flags.drop, unit: flags.work.unit(), pairs };
    serde_json::to_string(&report).map_err(std::io::Error::other)
}

fn cold(flags: &Flags, order: ColdOrder, limit: Duration) -> std::io::Result<String> {
    let side = Side::open(flags.work, &flags.mount, flags.file.as_deref(), &flags.native)?;
    let of_side = match order {
        ColdOrder::Listing => Order::Listing,
        ColdOrder::Random => Order::Random { seed: 0 },
    };
    let all = slice::pass(&side, flags.readers, limit, of_side)?;
    let report = ColdReport {
        work: flags.work,
        readers: flags.readers,
        order,
        unit: flags.work.unit(),
        done: all.done,
        seconds: all.took.as_secs_f64(),
        rate: all.rate(),
    };
    serde_json::to_string(&report).map_err(std::io::Error::other)
}
