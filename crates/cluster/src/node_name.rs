//! Names of nodes.

use serde::{Deserialize, Serialize};

/// A node's name for ever: 16 hex digits, drawn when its state directory is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeName(pub String);
