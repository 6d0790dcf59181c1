//! What a name in the namespace stands for.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Content;

/// Nanoseconds since 1970-01-01 UTC; negative before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TimestampNs(pub i64);

/// A directory: a source's root, a common prefix, or a key that ends in `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// The time at which its source was added: origins know no times of prefixes.
    pub mtime: TimestampNs,
}

/// A file: one version of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// The bytes.
    pub content: Content,
    /// Modification time as the origin states it.
    pub mtime: TimestampNs,
}

/// What a path stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A directory.
    Directory(DirectoryEntry),
    /// A file.
    File(Arc<FileEntry>),
}

/// An entry and for how long its holder may use it without asking again. Ages do not add up: each holder passes on what
/// is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What the path stands for.
    pub entry: Entry,
    /// Time left.
    pub fresh_for: Duration,
}

/// One name of a directory's listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedEntry {
    /// Last component of the path.
    pub name: Arc<str>,
    /// What it stands for.
    pub entry: Entry,
}

impl Entry {
    /// Size in bytes; 0 for a directory.
    pub fn size(&self) -> u64 {
        match self {
            Self::Directory(_) => 0,
            Self::File(file) => file.content.size,
        }
    }

    /// Modification time.
    pub fn mtime(&self) -> TimestampNs {
        match self {
            Self::Directory(directory) => directory.mtime,
            Self::File(file) => file.mtime,
        }
    }

    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }
}
