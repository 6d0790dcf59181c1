//! The origin of a source that cannot be opened.

use std::time::Instant;

use async_trait::async_trait;
use forebay_catalog::Observed;
use forebay_model::{ByteRange, Fault, Version};

use crate::upstream::{Observation, Turns, Upstream, UpstreamRead};

/// Answers everything with why it cannot.
pub(crate) struct Broken(pub(crate) Fault);

#[async_trait]
impl Upstream for Broken {
    async fn probe(&self) -> Result<(), Fault> {
        Err(self.0.clone())
    }

    async fn stat(&self, _: &str, _: Instant) -> Result<Observed, Fault> {
        Err(self.0.clone())
    }

    async fn has_prefix(&self, _: &str, _: Instant) -> Result<bool, Fault> {
        Err(self.0.clone())
    }

    async fn list(
        &self,
        _: &str,
        _: &mut (dyn FnMut(Vec<Observation>) -> Result<(), Fault> + Send),
    ) -> Result<(), Fault> {
        Err(self.0.clone())
    }

    fn names_per_request(&self) -> u64 {
        1
    }

    fn turns(&self) -> Turns {
        Turns { free: 0, max: 0 }
    }

    async fn read(
        &self,
        _: &str,
        _: &Version,
        _: u64,
        _: ByteRange,
        _: Instant,
    ) -> Result<Box<dyn UpstreamRead>, Fault> {
        Err(self.0.clone())
    }
}
