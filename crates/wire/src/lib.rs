//! Frames between processes: length-checked before allocation, multiplexed, with the payload beside the message.
//!
//! The layout is in `docs/wire.md`. A connection carries many requests at once; answers come in any order. Every wait has
//! an end: a request ends with its deadline, a connection with its stream.
//!
//! Not here: what the messages mean (`model`), where to connect (`route`), what is answered (`node`).

mod call;
mod frame;
#[cfg(test)]
mod fuzz;
mod serve;

pub use call::{Connection, WireError};
pub use frame::{BODY_MAX, FrameError, HEADER_LEN, PAYLOAD_MAX, VERSION};
pub use serve::{Answer, Handler, serve_connection};
