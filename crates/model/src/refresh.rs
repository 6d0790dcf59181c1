//! Forgetting on request: what happened to objects of an origin, and what was forgotten for it.

use serde::{Deserialize, Serialize};

/// What happened to one object, as its origin tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectEvent {
    /// The bucket, if the teller named it.
    pub bucket: Option<String>,
    /// The object's full key, decoded.
    pub key: String,
    /// What happened.
    pub what: Happened,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Happened {
    /// It came into being, or has new contents or attributes.
    Written,
    /// It is gone.
    Removed,
    /// It is a directory, and all below it may have come, changed or gone.
    Moved,
}

/// What was forgotten, and who was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refreshed {
    /// Names that were forgotten: those that were given, and those that memory had below them. What is on disk below them is
    /// forgotten too, and not counted.
    pub names: u64,
    /// Listings at hand that were forgotten.
    pub listings: u64,
    /// Events that are about nothing that the source shows.
    pub ignored: u64,
    /// Mounts whose kernel has let go of it.
    pub mounts: u32,
    /// Mounts whose kernel will let go of it, but had not when the time was over: a request that it waits for holds it up.
    pub mounts_late: u32,
}
