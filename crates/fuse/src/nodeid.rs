//! Numbers of inodes: what the kernel and programs know a path and version by.
//!
//! A number is a hash, not a counter: a process that takes over a mount derives the same ones. Two things that hash to one
//! number are told apart by the salt of the second (`nodes` decides which is second).

use std::fmt;

use forebay_model::{Entry, NsPath, inode_number};

/// The number of an inode: FUSE's nodeid and `st_ino` at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(pub(crate) u64);

impl NodeId {
    /// The mount's root, as FUSE fixes it.
    pub(crate) const ROOT: Self = Self(1);

    /// The number of `entry` at `path`, below the root. A file's depends on its version; a directory has none.
    pub(crate) fn derive(path: &NsPath, entry: &Entry, salt: u32) -> Self {
        match entry {
            Entry::Directory(_) => Self::of_directory(path, salt),
            Entry::File(file) => Self(inode_number(path, Some(file.content.id), salt)),
        }
    }

    /// The number of a directory below the root.
    pub(crate) fn of_directory(path: &NsPath, salt: u32) -> Self {
        Self(inode_number(path, None, salt))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({:x})", self.0)
    }
}
