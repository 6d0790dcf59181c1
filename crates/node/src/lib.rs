//! The serving half: answers [`forebay_route::Service`] from the catalog, the store and the origins.
//!
//! A lookup asks the catalog, else the origin, once for all who wait. A read asks the memory of what is arriving, the
//! store, else the origin: each page once for all who wait, with proof of its version.
//!
//! Always true here: bytes given out belong to the content that was asked for; every wait ends by the request's deadline;
//! memory for bytes on their way is bounded by one budget.
//!
//! Not here: which node is asked (`route`), the file formats (`store`), the origins' protocols (`origin`).

mod beside;
mod broken;
mod fetch;
mod holders;
mod manifest;
mod metrics;
mod namespace;
mod neighbours;
mod node;
mod origin;
mod refresh;
mod resolve;
mod serve;
mod shuffles;
mod single;
mod snapshots;
mod source;
mod sources;
mod status;
mod trace;
mod upstream;
mod walks;

pub use fetch::FetchSettings;
pub use manifest::{ManifestFile, OpenFile};
pub use node::{Node, NodeParts};
pub use origin::{fault, upstream};
pub use serve::Listener;
pub use source::{OpenSource, Source};
pub use upstream::{Observation, Piece, Places, Turns, Upstream, UpstreamRead, UpstreamWrite};
