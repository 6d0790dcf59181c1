//! `forebay`: the one binary. Flags, settings, wiring, telemetry and commands.
//!
//! Always true here: an input that is wrong is named together with what was expected; exit codes are 0 done, 1 failed,
//! 2 wrong usage; results go to standard output, everything else to standard error.
//!
//! Not here: anything that reads, keeps or fetches bytes. `up/wiring.rs` puts the engines together, and nothing else does.

mod admin;
#[cfg(all(feature = "jemalloc", not(test)))]
mod allocator;
mod args;
mod command;
mod connect;
mod doctor;
mod failure;
mod logging;
mod machine;
mod origin;
mod output;
mod process_metrics;
mod settings;
mod up;
mod webhook;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};
use connect::connect;
use failure::Failure;
use output::Output;

fn main() -> ExitCode {
    // clap prints what is wrong and exits with 2 by itself.
    let cli = Cli::parse();
    let json = cli.global.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let command = match command {
        Command::Up(args) => return up::run(*args, &global),
        command => command,
    };
    logging::start(&global.filter("warn")?, settings::LogFormat::Text);
    let mut output = Output::stdout(global.json)?;
    let result = runtime()?.block_on(async {
        let node = global.node.as_deref();
        match command {
            Command::Up(_) => unreachable!("it has returned above"),
            Command::Ls(args) => command::ls(&connect(node).await?, &args, &mut output).await,
            Command::Stat(args) => command::stat(&connect(node).await?, &args, &mut output).await,
            Command::Cat(args) => command::cat(&connect(node).await?, &args, &mut output).await,
            Command::Cp(args) => command::cp(connect(node).await?, args, &mut output).await,
            Command::Refresh(args) => command::refresh(&connect(node).await?, &args, &mut output).await,
            Command::Status => command::status(&connect(node).await?, &mut output).await,
            Command::Bench(args) => command::bench(&args, &mut output),
            Command::Source(args) => command::source(&connect(node).await?, args, &mut output).await,
            Command::Snapshot(args) => command::snapshot(&connect(node).await?, &args, &mut output).await,
            Command::Trace(args) => command::trace(&connect(node).await?, &args, &mut output).await,
            Command::Store(args) => command::store(&args, &mut output),
            Command::Doctor(args) => doctor::run(args, node, &mut output).await,
        }
    });
    // A failure keeps its own reason; what was printed before it still goes out.
    let flushed = output.flush();
    result.and(flushed)
}

/// The runtime of a command: many requests in flight, little work for each.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))
}
