//! Listing a prefix by many listers at once, by work stealing.
//!
//! A listing begins with one lister at the first key. While pages come back full, more are let in; one that is idle takes
//! the upper half of the range that seems to have the most left: everything after a *pivot*, a string that is guessed from
//! the keys seen so far (`pivot`). Its first page is the probe: if it is empty the upper half is known to be empty, and
//! nothing is lost but one request. Who has which range is decided in one place without I/O (`board`); requests, the channel
//! to the receiver and cancelling are in `lister`.
//!
//! Always true: an entry belongs to the range in which its own name lies, a prefix too, so a prefix whose keys lie on both
//! sides of a pivot is given out once; a range is covered from its start up to a key, without holes; each part says what it
//! covers; the listing has ended when all is covered, else it is an error. Requests are at most 8/7 x (full pages + ranges to
//! begin with + [`board::STEALS_FREE`]), and what was asked again.

mod alphabet;
mod board;
mod lister;
mod pivot;
mod span;
mod width;

#[cfg(test)]
mod tests;

pub use lister::PartListing;
pub use span::{KeySpan, Part};
