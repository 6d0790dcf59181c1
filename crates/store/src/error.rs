//! What can go wrong, by what the caller can do about it. A page that is absent or damaged is an outcome, not an error.

use std::io;
use std::path::PathBuf;

/// Why a store could not be opened or closed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the directory. Stop it, or use another directory.
    #[error("the cache directory {} is in use by process {pid}; give each process a directory of its own", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The process that holds it, as it wrote itself into the lock file; `unknown` if it did not get to it.
        pid: String,
    },
    /// The directory cannot be used. Correct its path or its permissions.
    #[error("the cache directory {} cannot be used: {error}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the file system said.
        #[source]
        error: io::Error,
    },
    /// A newer Forebay wrote the directory. Use that one, or an empty directory.
    #[error(
        "the cache directory {} was written by a newer Forebay (store format {version}); use that one or an empty directory",
        directory.display()
    )]
    Newer {
        /// The directory.
        directory: PathBuf,
        /// Version of its format.
        version: u32,
    },
    /// Nothing of a store lies there. Name the directory that was given to a store.
    #[error("{} is no cache directory: {found}; expected a directory with `index.log`, `packs` and `large` in it", directory.display())]
    NotAStore {
        /// The directory.
        directory: PathBuf,
        /// What is there instead.
        found: &'static str,
    },
    /// The options hold no directory, or one twice, or no figure that makes sense. Correct them.
    #[error("the store's options are wrong: {0}")]
    Options(String),
    /// The system has no thread or no boot id to give.
    #[error("the store cannot start: {0}")]
    System(#[source] io::Error),
    /// A directory did not take what was queued for it within the time that closing may take. What was acknowledged
    /// as kept is on it; the rest is not.
    #[error("the cache directory {} did not finish writing in time", directory.display())]
    Slow {
        /// The directory.
        directory: PathBuf,
    },
}

impl StoreError {
    /// Whether a store with other directories must not open either: somebody has to put something right.
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            Self::Directory { error, .. } => matches!(
                error.kind(),
                io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::AlreadyExists
                    | io::ErrorKind::PermissionDenied
            ),
            _ => true,
        }
    }
}

/// Why a page was not kept. Never a reason to fail a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotKept {
    /// The directory's write queue is full.
    #[error("the write queue is full")]
    QueueFull,
    /// There is no room, and nothing that may be evicted.
    #[error("no room")]
    Full,
    /// The content lies on another directory already.
    #[error("the content lies on another directory")]
    Elsewhere,
    /// There is no room, and pins hold what else might be evicted: unpin something, or give the store more room.
    #[error("pinned contents fill the store")]
    Pinned,
    /// The content's group has its quota's worth of the directory, and none of that may be evicted.
    #[error("the group's quota is used up")]
    Quota,
    /// What would have to go is read more often, or sooner.
    #[error("what is here is read more often, or sooner")]
    Outranked,
    /// The directory is full, and the page was not offered lately ([`Admission::second_touch`](crate::Admission)).
    #[error("offered for the first time")]
    FirstTouch,
    /// So much was written lately that it has to wait ([`Admission::write_rate_max`](crate::Admission)).
    #[error("the rate of writes is used up")]
    WriteRate,
    /// The directory failed, now or before.
    #[error("the directory failed")]
    Failed,
    /// The fill's length or its sums do not fit its content's size, or contradict what is known of it.
    #[error("the fill does not fit its content")]
    Invalid,
    /// The store is closing.
    #[error("the store is closing")]
    Closed,
}

impl NotKept {
    pub(crate) const ALL: [Self; 11] = [
        Self::QueueFull,
        Self::Full,
        Self::Elsewhere,
        Self::Pinned,
        Self::Quota,
        Self::Outranked,
        Self::FirstTouch,
        Self::WriteRate,
        Self::Failed,
        Self::Invalid,
        Self::Closed,
    ];

    /// The label of the metric.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Full => "full",
            Self::Elsewhere => "elsewhere",
            Self::Pinned => "pinned",
            Self::Quota => "quota",
            Self::Outranked => "outranked",
            Self::FirstTouch => "first_touch",
            Self::WriteRate => "write_rate",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
            Self::Closed => "closed",
        }
    }
}
