//! A node over a real store and an origin in memory.

#![expect(clippy::expect_used, reason = "a test fails with the sentence of its expect")]

mod common;
mod directories_ahead;
mod fetch;
mod files_ahead;
mod freshness;
mod listings;
mod lookups;
mod manifests;
mod sources;
mod trace;
