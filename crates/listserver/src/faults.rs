//! Which requests fail, by seed: a share of all, spread as by chance.

use crate::shape::mix;

/// Shares of requests, 0 to 1, that fail in each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, clap::Args, serde::Serialize)]
pub struct Faults {
    /// Share of requests that are answered with 503 SlowDown.
    #[arg(long, default_value_t = 0.0)]
    pub throttle: f64,
    /// Share of pages that are cut in the middle of the body by a reset.
    #[arg(long, default_value_t = 0.0)]
    pub reset: f64,
    /// Share of pages whose token leads to the same page again.
    #[arg(long, default_value_t = 0.0)]
    pub stuck: f64,
    /// Which ones.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Throttle,
    Reset,
    Stuck,
}

impl Faults {
    /// What request number `number` meets.
    pub(crate) fn of(&self, number: u64) -> Option<Fault> {
        let chance = mix(number ^ mix(self.seed)) as f64 / u64::MAX as f64;
        if chance < self.throttle {
            Some(Fault::Throttle)
        } else if chance < self.throttle + self.reset {
            Some(Fault::Reset)
        } else if chance < self.throttle + self.reset + self.stuck {
            Some(Fault::Stuck)
        } else {
            None
        }
    }
}
