//! The log: lines on standard error, for people or as JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::settings::{LogFilter, LogFormat};

/// A library that writes an error line for each refused certificate, however often one is refused.
const QUIET: &str = "rustls_platform_verifier=off";

/// Starts the log. Called once; a second call changes nothing.
pub(crate) fn start(filter: &LogFilter, format: LogFormat) {
    // First, so that who names the library asks for its lines; else it would say each time what Forebay says in bounds.
    let filter = EnvFilter::new(format!("{QUIET},{}", filter.0));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
    if let Err(error) = started {
        // Only a second call comes here, and the first one's log works.
        tracing::debug!(%error, "log already started");
    }
}
