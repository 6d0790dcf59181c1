//! `forebay-bench-store`: measures the page store against foyer's block engine and a plain file, in turns, in one process.
//!
//! ```text
//! forebay-bench-store rows --dir DIR [--pairs N] [--slice SECONDS] [--only TEXT]
//! forebay-bench-store epochs --dir DIR
//! ```
//!
//! `rows` prints a JSON object for each row; what it is about goes to standard error. A workspace of its own: nothing else of the
//! house is built with foyer. `scripts/bench_store.py` makes the table of it.

mod data;
mod epochs;
mod inserts;
mod kernel;
mod ours;
mod plain;
mod reads;
mod reopen;
mod rival;
mod row;
mod side;
mod slice;

use std::io::Result;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::reopen::Which;
use crate::row::Plan;

/// Measures the page store against foyer and a plain file.
#[derive(Debug, Parser)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Both sides in turns, row by row.
    Rows {
        /// A directory for this alone, on the file system to be measured.
        #[arg(long)]
        dir: PathBuf,
        /// Pairs of slices a row.
        #[arg(long, default_value_t = 7)]
        pairs: u64,
        /// Length of a slice in seconds.
        #[arg(long, default_value_t = 1.0)]
        slice: f64,
        /// Only rows whose id contains this.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Shuffled epochs over twice the cache: what is written, what is hit.
    Epochs {
        /// A directory for this alone.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Opens a side that `rows` has built; `rows` starts it.
    Reopen {
        /// The directory of `rows`.
        #[arg(long)]
        dir: PathBuf,
        /// Which side.
        #[arg(long, value_enum)]
        side: Which,
    },
}

fn main() -> ExitCode {
    match run(Flags::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay-bench-store: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Rows { dir, pairs, slice, only } => {
            std::fs::create_dir_all(&dir)?;
            kernel::keep_memory();
            let plan = Plan { directory: dir, pairs, slice: Duration::from_secs_f64(slice), only };
            reads::rows(&plan)?;
            inserts::rows(&plan)?;
            reopen::rows(&plan)
        }
        Command::Epochs { dir } => {
            println!("{}", serde_json::to_string(&epochs::run(&dir)?)?);
            Ok(())
        }
        Command::Reopen { dir, side } => {
            println!("{}", serde_json::to_string(&reopen::reopen(&dir, side)?)?);
            Ok(())
        }
    }
}
