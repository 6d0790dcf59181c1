//! What can go wrong with a manifest, by what the caller does about it.

/// A manifest, or its index, that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The file says what cannot be meant: a person must change it.
    #[error("{0}")]
    Wrong(String),
    /// The stream of the file broke off: read it again.
    #[error("{0}")]
    Broken(String),
    /// The local disk refuses: it is full, or fails.
    #[error("{0}")]
    Disk(String),
    /// The index is not what was written: make it anew.
    #[error("{0}")]
    Damaged(String),
}

impl ManifestError {
    pub(crate) fn wrong(file: &str, why: impl std::fmt::Display) -> Self {
        Self::Wrong(format!("{file}: {why}"))
    }

    pub(crate) fn at_line(file: &str, line: u64, why: impl std::fmt::Display) -> Self {
        Self::Wrong(format!("{file}: line {line}: {why}; {EXPECTED}"))
    }

    pub(crate) fn disk(error: &std::io::Error) -> Self {
        Self::Disk(format!("the index of a manifest cannot be written in the state directory: {error}"))
    }

    pub(crate) fn read(error: &std::io::Error) -> Self {
        Self::Disk(format!("the index of a manifest cannot be read from the state directory: {error}"))
    }
}

/// What a person can do about a wrong line.
pub(crate) const EXPECTED: &str =
    "expected are key, size and etag, and where there are some mtime and version_id (docs/manifests.md)";
