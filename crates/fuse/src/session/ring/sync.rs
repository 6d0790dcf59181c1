//! What `elsewhere` is made of: in the model it is made of loom's.

pub(super) use std::sync::atomic::{AtomicBool, Ordering};

pub(super) use parking_lot::Mutex;
