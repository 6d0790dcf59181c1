//! Why a directory could not be mounted on or unmounted.

use std::io;
use std::path::PathBuf;

/// Why a mount was not made or not taken away. Each message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The directory is no place for a mount: choose or make another.
    #[error("cannot mount on {}: {why}", path.display())]
    Mountpoint {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// This machine or this user cannot mount: install or allow it.
    #[error("cannot use FUSE here: {why}")]
    Machine {
        /// What is missing.
        why: String,
    },
    /// The kernel failed at it.
    #[error("{what} failed: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}
