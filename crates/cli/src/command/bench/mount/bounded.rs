//! Work with a time limit, whatever the file system below it does: a dead mount may never answer.

use std::sync::mpsc;
use std::time::Duration;

use crate::failure::Failure;

/// How long after its time a reader may be silent: longer than an origin's default deadline, so that its error comes first.
pub(super) const PATIENCE: Duration = Duration::from_secs(45);

/// Runs `work` on a thread of its own. One that does not come back is left behind, and the process ends with this error.
pub(super) fn bounded<T: Send + 'static>(
    what: &str,
    limit: Duration,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = done.send(work());
    });
    match wait.recv_timeout(limit) {
        Ok(outcome) => outcome,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Failure::failed(format!(
            "{what} has not ended after {limit:?}: does the directory, or the origin behind it, answer?"
        ))),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(Failure::failed(format!("{what}: a thread ended too early"))),
    }
}
