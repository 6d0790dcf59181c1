//! A server of listings for tests and benches: it speaks enough S3 (ListObjectsV2, HEAD of an object) over keys that are
//! computed from their index, so that ten million of them need no memory and little CPU.
//!
//! Not here: objects' bytes, signatures (any is taken), more than one bucket.

mod count;
mod faults;
mod page;
mod server;
mod shape;

pub use count::count;
pub use faults::Faults;
pub use server::{ListServer, Served, Service};
pub use shape::{Keys, Shape};
