//! Bytes on their way from an origin: each page is fetched once for all who wait.
//!
//! A page that is missing becomes a [`flight::Flight`], entered in one table under its content and number; whoever wants
//! the page while it is there waits for that flight. When its bytes are whole they are offered to the store; the flight
//! stays in the table until the store can serve the page, so that no reader finds it in neither place.
//!
//! Memory for flights is taken from one [`budget::Budget`] before the origin is asked. Read-ahead takes only what is free
//! at once; what is read by somebody who waits, waits for memory until its deadline.

mod budget;
mod carried;
mod directories_ahead;
mod fetcher;
mod files_ahead;
mod flight;
mod lanes;
mod names;
mod read_ahead;
mod runs;
mod table;

pub use fetcher::FetchSettings;
pub(crate) use fetcher::{Fetcher, group_of};
