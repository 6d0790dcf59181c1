//! A node behind a connection.

/// A node reached over the wire.
#[derive(Debug)]
pub struct RemoteNode {}
