//! Work that may block, out of the way of the tasks that must not wait for it.

use forebay_model::{Fault, FaultKind};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{block_in_place, spawn_blocking};

/// Does work that may block on a disk on another thread.
pub(crate) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    let broken = |error| Fault::new(FaultKind::Bug, format!("work on a disk broke off: {error}"));
    spawn_blocking(work).await.map_err(broken)
}

/// Does work that may block on this thread, whose other tasks go to another one meanwhile, if there is one. In a task only.
pub(crate) fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => block_in_place(work),
        _ => work(),
    }
}
