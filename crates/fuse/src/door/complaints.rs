//! Lines for the operator about requests that failed: at most one a second of each kind, for a failing origin fails
//! thousands of requests.

use std::time::{Duration, Instant};

use forebay_model::FaultKind;
use parking_lot::Mutex;

use crate::nodeid::NodeId;

/// The shortest time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(1);

/// Kinds of fault told apart here; the enum is closed, so this bounds the table.
const KINDS: usize = 11;

#[derive(Clone, Copy)]
struct Last {
    kind: FaultKind,
    at: Instant,
    unsaid: u64,
}

/// Writes lines, not too many.
pub(crate) struct Complaints(Mutex<Vec<Last>>);

impl Complaints {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Vec::with_capacity(KINDS)))
    }

    pub(crate) fn complain(&self, kind: FaultKind, op: &'static str, node: NodeId, message: &str) {
        if let Some(unsaid) = self.may_say(kind, Instant::now()) {
            tracing::warn!(op, node = node.0, ?kind, unsaid, message, "a request to the mount failed");
        }
    }

    /// How many of this kind went unsaid since the last line, if one may be written now.
    fn may_say(&self, kind: FaultKind, now: Instant) -> Option<u64> {
        let mut lasts = self.0.lock();
        match lasts.iter_mut().find(|last| last.kind == kind) {
            None => {
                lasts.push(Last { kind, at: now, unsaid: 0 });
                Some(0)
            }
            Some(last) if now.saturating_duration_since(last.at) >= PAUSE => {
                last.at = now;
                Some(std::mem::take(&mut last.unsaid))
            }
            Some(last) => {
                last.unsaid += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_one_line_a_second_of_each_kind() {
        let complaints = Complaints::new();
        let start = Instant::now();
        assert_eq!(complaints.may_say(FaultKind::TimedOut, start), Some(0));
        assert_eq!(complaints.may_say(FaultKind::TimedOut, start), None);
        assert_eq!(complaints.may_say(FaultKind::Unavailable, start), Some(0));
        assert_eq!(complaints.may_say(FaultKind::TimedOut, start + PAUSE), Some(1));
        assert_eq!(complaints.may_say(FaultKind::TimedOut, start + 2 * PAUSE), Some(0));
    }
}
