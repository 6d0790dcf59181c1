//! What `stat` shows of an entry.

use std::time::Duration;

use forebay_model::{Entry, TimestampNs};

use crate::nodeid::NodeId;
use crate::options::MountOptions;

/// For how long the kernel may hold attributes: they never change for a nodeid, so the longest that is sure not to
/// overflow any clock arithmetic.
pub(crate) const ATTRIBUTES_FRESH: Duration = Duration::from_secs(86_400);

/// The longest for which the kernel may hold a name.
pub(crate) const NAME_FRESH_MAX: Duration = Duration::from_secs(86_400);

/// What `stat` shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    pub(crate) node: NodeId,
    pub(crate) is_directory: bool,
    pub(crate) size: u64,
    pub(crate) mtime: TimestampNs,
    /// Permission bits.
    pub(crate) mode: u16,
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The owner and modes that everything in a mount shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looks {
    uid: u32,
    gid: u32,
    file_mode: u16,
    dir_mode: u16,
}

impl Looks {
    pub(crate) fn of(options: &MountOptions) -> Self {
        Self {
            uid: options.uid,
            gid: options.gid,
            file_mode: options.file_mode & 0o7777,
            dir_mode: options.dir_mode & 0o7777,
        }
    }

    pub(crate) fn attributes(&self, node: NodeId, entry: &Entry) -> Attributes {
        let is_directory = entry.is_directory();
        Attributes {
            node,
            is_directory,
            size: entry.size(),
            mtime: entry.mtime(),
            mode: if is_directory { self.dir_mode } else { self.file_mode },
            // One, for a directory too: its subdirectories are not counted, as `find` and `tar` understand it.
            links: 1,
            uid: self.uid,
            gid: self.gid,
        }
    }
}
