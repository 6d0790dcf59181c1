//! The way to the right node: the service that every node offers, whether it lives in this process or behind a connection.
//!
//! Stands between the two halves of the service: `client` asks through [`Service`], `node` answers it. With one machine
//! there is one node and nothing to choose; views, hedging and breakers come here with the second node.

mod context;
mod holder;
mod remote;
mod service;

pub use context::Context;
pub use holder::{Holder, Outdated};
pub use remote::RemoteNode;
pub use service::{Handout, ReadNow, Service};
