//! Snapshots as they are told: files that hold the versions of a source.

use serde::{Deserialize, Serialize};

use crate::{Fault, NsPath};

/// The directory of the namespace that shows snapshots.
pub const SNAPSHOTS: &str = "/.snapshots";

/// A snapshot that is being made, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Where it is shown when it is done.
    pub path: NsPath,
    /// The address of its file.
    pub address: String,
    /// Objects so far.
    pub objects: u64,
    /// Bytes of those objects.
    pub bytes: u64,
    /// Objects that can be read as they are now after they were replaced. Of the others a change is noticed.
    pub old_versions: u64,
    /// Bytes of the file that were written.
    pub written: u64,
    /// How far it is.
    pub state: SnapshotState,
}

/// How far a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotState {
    /// The source is listed.
    Listing,
    /// The file is written.
    Writing,
    /// It is shown.
    Done,
    /// It is not, and nothing of it is left.
    Failed(Fault),
}

impl SnapshotState {
    /// Its name in documents.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Listing => "listing",
            Self::Writing => "writing",
            Self::Done => "done",
            Self::Failed(_) => "failed",
        }
    }
}
