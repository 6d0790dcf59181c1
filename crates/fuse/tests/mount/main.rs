//! Real mounts over a service in memory. They need `/dev/fuse` and root, and fail with a clear message without.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod change;
mod holders;
mod life;
mod names;
mod read;
mod service;
mod streams;
mod support;
mod transport;
