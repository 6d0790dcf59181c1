//! `forebay up`: everything in one process, from the first check to the last line.
//!
//! Always true here: what was started is stopped in the reverse order, a stop ends within [`STOP_LIMIT`] whatever hangs, and a
//! second signal ends the process at once.

mod engines;
mod limits;
mod ready;
mod signals;
mod wiring;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;

use crate::admin::Admin;
use crate::args::{Global, UpArgs};
use crate::failure::Failure;
use crate::logging;
use crate::machine::{self, Machine};
use crate::output::Output;
use crate::process_metrics;
use crate::settings::{LogFilter, Settings, Sources};
use crate::webhook::Webhook;

use ready::{Stopped, Style};
use signals::Signals;
use wiring::Running;

pub(crate) use limits::Limits;

/// The longest that stopping takes: users and service managers kill after it.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Runs until a signal comes, the mount is taken away from outside, or a part fails.
pub(crate) fn run(args: UpArgs, global: &Global) -> Result<(), Failure> {
    let UpArgs { flags, config } = args;
    let loaded = Sources::of_process(config, flags.into_values()).load()?;
    let settings = loaded.settings;
    logging::start(&log_filter(global, &settings)?, settings.log.format);
    if let Some(file) = &loaded.file {
        tracing::info!(file = %file.display(), "settings read");
    }
    if settings.process.cache.is_empty() {
        return Err(Failure::usage(
            "no cache is given: add `--cache DIR:SIZE`, such as `--cache /var/cache/forebay:20GB`, or the setting `cache`",
        ));
    }
    let machine = Machine::detect();
    let limits = Limits::of(&settings, &machine, machine::raise_open_files());
    tracing::debug!(?machine, ?limits, "machine");

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    let mut output = Output::stdout(global.json)?;
    let result = runtime.block_on(serve(&settings, limits, &mut output));
    // Requests that still wait for a dead origin must not hold the end.
    runtime.shutdown_background();
    result
}

async fn serve(settings: &Settings, limits: Limits, output: &mut Output) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut signals = Signals::listen()?;
    // The port first: it is the cheapest thing that can be taken by another process.
    let token = settings.process.events_token.as_deref().map(engines::absolute);
    let admin = Admin::start(settings.process.admin, Webhook::new(token)).await?;
    let mut registry = Registry::default();
    process_metrics::register(&mut registry);

    let running = tokio::select! {
        running = wiring::start(settings, limits, &mut registry) => running?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped while starting");
            return Ok(());
        }
    };
    admin.ready(registry, running.service());
    let mut report = running.report().clone();
    report.admin = admin.address();
    if let Err(error) = report.print(output, Style::of(std::io::stdout().is_terminal()), begun.elapsed()) {
        // Nobody reads it: no reason to take the mount away from those who read files.
        tracing::warn!(?error, "ready report not printed");
    }
    tracing::info!(mount = ?report.mount, millis = begun.elapsed().as_millis(), "ready");

    let reason = tokio::select! {
        signal = signals.next() => signal.to_owned(),
        reason = running.ended() => reason,
    };
    tracing::info!(reason, "stopping");
    stop(running, &admin, signals, output, Stopped { reason, ran_for: begun.elapsed(), mount: report.mount }).await
}

async fn stop(
    running: Running,
    admin: &Admin,
    signals: Signals,
    output: &mut Output,
    stopped: Stopped,
) -> Result<(), Failure> {
    admin.stopping();
    signals::end_after(STOP_LIMIT)?;
    signals.end_at_next();
    running.stop().await?;
    stopped.print(output)
}

/// What to log: flags and `FOREBAY_LOG` before the setting.
fn log_filter(global: &Global, settings: &Settings) -> Result<LogFilter, Failure> {
    global.filter(&settings.log.level.0)
}
