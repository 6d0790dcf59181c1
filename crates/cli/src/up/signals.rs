//! Signals that stop the process, and the guard that it then really stops.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// The exit code of a process that had to be ended by force.
const FORCED: i32 = 1;

/// SIGTERM, SIGINT, and SIGHUP: a terminal that closes would otherwise leave a dead mount behind.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Listens from now on; a signal that comes between calls of [`Self::next`] is kept.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal and names it.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }

    /// Ends the process at the next signal.
    pub(crate) fn end_at_next(mut self) {
        tokio::spawn(async move {
            let signal = self.next().await;
            tracing::warn!(signal, "second signal: ended without waiting");
            end();
        });
    }
}

/// Ends the process when `limit` has passed: from a thread of its own, for the runtime may be what hangs.
pub(crate) fn end_after(limit: Duration) -> Result<(), Failure> {
    let watch = move || {
        std::thread::sleep(limit);
        tracing::error!(seconds = limit.as_secs(), "stopping took too long: ended by force");
        end();
    };
    std::thread::Builder::new()
        .name("stop-limit".to_owned())
        .spawn(watch)
        .map(drop)
        .map_err(|error| Failure::failed(format!("cannot start a thread to bound the stop: {error}")))
}

#[expect(clippy::exit, reason = "the orderly way out has failed or is not wanted")]
fn end() {
    std::process::exit(FORCED);
}
