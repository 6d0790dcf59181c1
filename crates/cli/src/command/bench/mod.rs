//! `forebay bench`: what can be measured without a running process.

mod eviction;
mod mount;
mod plot;
mod trace;

use crate::args::{BenchArgs, BenchCommand};
use crate::failure::Failure;
use crate::output::Output;

/// Runs what was asked for.
pub(crate) fn bench(args: &BenchArgs, output: &mut Output) -> Result<(), Failure> {
    match &args.command {
        BenchCommand::Eviction(args) => eviction::eviction(args, output),
        BenchCommand::Mount(args) => mount::mount(args, output),
    }
}
