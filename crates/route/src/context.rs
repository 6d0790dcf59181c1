//! Who asks, and until when.

use std::time::{Duration, Instant};

use forebay_model::Principal;

/// Carried by every request.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Who asks.
    pub principal: Principal,
    /// When the asker gives up.
    pub deadline: Instant,
}

impl Context {
    /// A request of `principal` that must be answered within `time`.
    pub fn new(principal: Principal, time: Duration) -> Self {
        Self { principal, deadline: Instant::now() + time }
    }

    /// Time left; zero when the deadline has passed.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
