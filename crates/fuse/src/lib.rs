//! The mount: translates what the kernel asks through FUSE to [`forebay_client::Client`].
//!
//! Always true here: a nodeid stands for one path and one version for as long as the kernel knows it, so what is read
//! under it never changes. A reply to a read holds exactly the bytes asked for, cut at the content's end, or is an error:
//! never fewer. A thread that takes requests from the kernel never waits for an origin. Nothing waits for ever: every
//! request ends by [`MountOptions::request_limit`] or when the mount is stopped.
//!
//! Not here: where bytes come from (`client`), freshness rules (the catalog), settings (`cli`). FUSE itself is behind the
//! seam of `session`, and errno behind `errno`.

mod attributes;
mod door;
mod errno;
mod error;
mod invalidator;
mod metrics;
mod mount;
mod nodeid;
mod nodes;
mod options;
mod packed;
mod pruner;
mod session;

pub use error::MountError;
pub use invalidator::Invalidator;
pub use mount::{Mount, Passthrough, Transport};
pub use options::{Kind, MountOptions};
