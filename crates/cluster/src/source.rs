//! The facts that the registry holds.

use forebay_model::{Freshness, NsPath, TimestampNs};
use serde::{Deserialize, Serialize};

/// A source: a prefix of an origin shown at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecord {
    /// Its path in the namespace.
    pub path: NsPath,
    /// The origin's URL, prefix included, without credentials.
    pub origin: String,
    /// For how long what was seen may be used.
    pub freshness: Freshness,
    /// When it was added: the modification time of its directories, so that it is the same after every restart.
    pub added: TimestampNs,
}

/// A node's name for ever: 16 hex digits, drawn when its state directory is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeName(pub String);
