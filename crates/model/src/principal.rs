//! Who asks.

use serde::{Deserialize, Serialize};

/// Who a request is made for: carried by every request, so that nodes can authorise by source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Principal {
    /// A user of the machine that the request was made on, as the kernel states it.
    User {
        /// Effective user id.
        uid: u32,
        /// Effective group id.
        gid: u32,
    },
    /// Forebay itself: a job, a prefetch, a check.
    Forebay,
}
