//! Numbers of inodes: what the kernel and programs know a path and version by.
//!
//! A number is a hash, not a counter: a process that takes over a mount derives the same ones. Two things that hash to one
//! number are told apart by the salt of the second (`nodes` decides which is second).

use std::fmt;

use forebay_model::{Entry, NsPath};

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
            Entry::File(file) => Self::hash(path, &file.content.id.as_u128().to_le_bytes(), salt),
        }
    }

    /// The number of a directory below the root.
    pub(crate) fn of_directory(path: &NsPath, salt: u32) -> Self {
        Self::hash(path, &[], salt)
    }

    fn hash(path: &NsPath, content: &[u8], salt: u32) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"forebay node 1");
        hasher.update(&salt.to_le_bytes());
        // Of fixed length for each kind, so that it cannot flow into the path.
        hasher.update(&[content.len() as u8]);
        hasher.update(content);
        hasher.update(path.as_str().as_bytes());
        let mut number = [0; 8];
        number.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        // 0 means "absent" to the kernel, 1 is the root.
        match u64::from_le_bytes(number) {
            reserved @ (0 | 1) => Self(reserved + 2),
            number => Self(number),
        }
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({:x})", self.0)
    }
}
