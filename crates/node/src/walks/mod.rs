//! Readers that go through a directory file by file, in the order of its listing or with a stride: which files they will
//! want next.
//!
//! The last reads, of all directories together, show an order ([`recent`]); a reader that keeps one is a [`walk`]. A walk
//! has a window of files that were fetched ahead and not read yet: it grows with each that is read, and what nobody reads
//! fills it until nothing more is fetched. A directory in which much was fetched in vain opens no window for a while.
//!
//! Always true: nothing here does I/O or waits; all of it is bounded; an order that is not there (shuffled reads) opens next
//! to no windows. Positions are those of files in the listing, which come in stretches from the catalog ([`stretch`]).

mod asked;
mod directory;
mod promises;
mod recent;
mod stretch;
mod table;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use asked::{Load, LoadFrom, Names, Next, NextPlace, Outcome, ReadOf, Whence};
pub(crate) use directory::of as directory_of;
pub(crate) use table::Walks;
pub(crate) use walk::WalkId;
