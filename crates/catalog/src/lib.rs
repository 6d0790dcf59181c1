//! Attributes and listings that are already known, and for how long they may be used.
//!
//! The catalog never asks an origin: it is told what was seen ([`Observed`]) and answers what may still be said. It alone
//! derives content ids. What it knows lies on disk, within a bound, and survives a restart; its memory is bounded. What does
//! not fit is forgotten, never answered wrongly.
//!
//! Always true here: an answer is never older than its source's freshness rule allows, and age counts from before the
//! origin was asked; what was forgotten because it changed is not answered from an older listing.
//!
//! Not here: asking (`node`), the kernel's copies (`fuse`).

mod block;
mod catalog;
mod clock;
mod coverage;
mod directory;
mod disk;
mod forgotten;
mod gather;
mod generation;
mod known;
mod metrics;
mod observed;
mod order;
mod overlay;
mod page;
mod record;
mod shelf;
mod writer;

#[cfg(test)]
mod tests;

pub use catalog::{Absence, Asked, Catalog, CatalogError, CatalogOptions, Forgot, Held};
pub use coverage::Range;
pub use directory::{Observed, ObservedFile, SourceFacts};
pub use gather::Gather;
pub use page::{ListingHeld, Paged};
pub use shelf::ComingIn;
pub use writer::{ListingError, ListingWriter};
