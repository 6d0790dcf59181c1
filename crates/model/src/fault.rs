//! Why a request was not answered: what crosses the wire, and what every front door translates.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the caller can do about a fault: one kind for each different action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FaultKind {
    /// The path or object does not exist. Do not retry.
    NotFound,
    /// A component of the path is a file.
    NotADirectory,
    /// The path is a directory and a file was wanted.
    IsADirectory,
    /// The origin or a node refused: credentials, permissions, an archived object. Retrying will not help.
    Denied,
    /// A write to what is read-only.
    ReadOnly,
    /// The object changed under an open file. Reopen it.
    Changed,
    /// Nothing answered within the deadline. Retry later.
    TimedOut,
    /// The origin answers with failures, or cannot be reached. Retry later.
    Unavailable,
    /// Bytes failed their checksum and could not be fetched anew.
    Damaged,
    /// The request is malformed, or names something that cannot be. Do not retry.
    Invalid,
    /// Forebay broke a rule of its own. Report it.
    Bug,
}

/// A request that failed: what kind, and a sentence that names the input and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What the caller can do about it.
    pub kind: FaultKind,
    /// One sentence for people. Holds no secret.
    pub message: String,
    /// For how long the holder of an absence (`NotFound`) may believe it without asking again; zero for other kinds.
    pub fresh_for: Duration,
}

impl Fault {
    /// A fault of `kind` with a sentence for people.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), fresh_for: Duration::ZERO }
    }

    /// The absence of what was asked for, which may be believed for a while.
    pub fn absent(message: impl Into<String>, fresh_for: Duration) -> Self {
        Self { kind: FaultKind::NotFound, message: message.into(), fresh_for }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
