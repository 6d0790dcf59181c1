//! Attributes and listings that are already known, and for how long they may be used.
//!
//! The catalog never asks an origin: it is told what was seen ([`Observed`]) and answers what may still be said. It alone
//! derives content ids. Its memory is bounded; what does not fit is forgotten, never answered wrongly.
//!
//! Always true here: an answer is never older than its source's freshness rule allows, and age counts from before the
//! origin was asked; what was forgotten because it changed is not answered from an older listing.
//!
//! Not here: asking (`node`), disk (a later step), the kernel's copies (`fuse`).

mod catalog;
mod directory;
mod listing;
mod metrics;

pub use catalog::{Absence, Asked, AskedListing, Catalog, CatalogOptions, Held, ListingHeld};
pub use directory::{DirectoryKey, Observed, ObservedFile, SourceFacts};
pub use listing::{Listing, ListingBuilder, ListingTooLarge};
