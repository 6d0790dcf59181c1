//! Dropping the kernel's caches, with a time limit: a dead origin below a FUSE mount blocks it.

use std::io::{Error, ErrorKind, Result};
use std::sync::mpsc;
use std::time::Duration;

/// Longer than it ever takes on a live machine.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Drops page cache, dentries and inodes.
pub(crate) fn drop_caches() -> Result<()> {
    let (done, wait) = mpsc::channel();
    // A thread that may never come back is left behind; the process ends with an error then.
    std::thread::spawn(move || {
        rustix::fs::sync();
        let _ = done.send(std::fs::write("/proc/sys/vm/drop_caches", "3"));
    });
    match wait.recv_timeout(TIME_MAX) {
        Ok(result) => result.map_err(|error| Error::new(error.kind(), format!("cannot drop the caches: {error}"))),
        Err(_) => Err(Error::new(ErrorKind::TimedOut, "dropping the caches did not end: is a mount dead?")),
    }
}
