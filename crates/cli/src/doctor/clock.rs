//! The clock: signed requests are refused when it is minutes off.

use super::{Finding, kernel};

/// Asks the kernel whether something keeps the clock right.
pub(super) fn check() -> Finding {
    let advice = "origins refuse signed requests when the clock is minutes off: run chrony or systemd-timesyncd, or check it \
                  by hand";
    match kernel::clock_is_synchronised() {
        Ok(true) => Finding::ok("clock", "synchronised"),
        Ok(false) => Finding::warn("clock", "the kernel does not know whether it is right", advice),
        Err(error) => Finding::warn("clock", format!("cannot be asked: {error}"), advice),
    }
}
