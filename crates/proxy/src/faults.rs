//! Which faults a request meets. Rules are set live; each says what it does, to which requests, and how often.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::head::RequestHead;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Fault {
    /// The request waits `ms` before it is forwarded. Concurrent requests wait side by side.
    Latency { ms: u64 },
    /// The origin is not asked: 503 SlowDown.
    Throttle,
    /// The origin is not asked: this status, with an S3 error of a code that fits.
    Status { status: u16 },
    /// The connection is reset after so many bytes of the response's body.
    Reset { after: u64 },
    /// The connection is closed in order after so many bytes of the body, though its head promised more.
    Truncate { after: u64 },
    /// Nothing more is sent after so many bytes of the body; the connection stays open.
    Stall { after: u64 },
    /// The request is read, and nothing is ever answered.
    Hang,
    /// Every connection is reset, open ones too.
    Down,
}

impl Fault {
    /// Its name in the counters.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Throttle => "throttle",
            Self::Status { .. } => "status",
            Self::Reset { .. } => "reset",
            Self::Truncate { .. } => "truncate",
            Self::Stall { .. } => "stall",
            Self::Hang => "hang",
            Self::Down => "down",
        }
    }
}

/// A fault and the requests that it strikes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rule {
    #[serde(flatten)]
    pub(crate) fault: Fault,
    /// Only requests of this method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    /// Only requests whose target (path and query, as sent) contains this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path_contains: Option<String>,
    /// Only requests for an object's bytes: GET, and not a listing.
    #[serde(default)]
    pub(crate) data: bool,
    /// The rule ends after it has struck so many requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u64>,
    /// Strikes this share of the requests, evenly spread: 0.25 is every fourth.
    #[serde(default = "all")]
    pub(crate) share: f64,
}

fn all() -> f64 {
    1.0
}

/// The body of `PUT /faults`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    pub(crate) rules: Vec<Rule>,
}

/// What one request meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Milliseconds to wait first.
    pub(crate) latency_ms: u64,
    /// The first other fault whose rule matches.
    pub(crate) fault: Option<Fault>,
}

struct Active {
    rule: Rule,
    matched: u64,
    struck: u64,
}

/// The rules in force. Changing them changes `generation`.
pub(crate) struct Faults {
    active: Mutex<Vec<Active>>,
    // Mirrors whether `active` is empty, so that the fault-free path takes no lock.
    rules: AtomicU64,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self { active: Mutex::new(Vec::new()), rules: AtomicU64::new(0) }
    }

    /// Replaces all rules.
    pub(crate) fn set(&self, rules: Rules) {
        let mut active = self.lock();
        *active = rules.rules.into_iter().map(|rule| Active { rule, matched: 0, struck: 0 }).collect();
        self.rules.store(active.len() as u64, Ordering::Release);
    }

    /// The rules in force.
    pub(crate) fn get(&self) -> Rules {
        Rules { rules: self.lock().iter().map(|active| active.rule.clone()).collect() }
    }

    /// Whether a rule without filters refuses every connection.
    pub(crate) fn is_down(&self) -> bool {
        self.rules.load(Ordering::Acquire) > 0
            && self.lock().iter().any(|active| active.rule.fault == Fault::Down && !active.rule.is_filtered())
    }

    /// What `request` meets. Counts it against the rules that match.
    pub(crate) fn judge(&self, request: &RequestHead) -> Verdict {
        let mut verdict = Verdict::default();
        if self.rules.load(Ordering::Acquire) == 0 {
            return verdict;
        }
        for active in self.lock().iter_mut() {
            let is_latency = matches!(active.rule.fault, Fault::Latency { .. });
            if !is_latency && verdict.fault.is_some() || !active.rule.matches(request) || !active.strike() {
                continue;
            }
            match active.rule.fault {
                Fault::Latency { ms } => verdict.latency_ms += ms,
                fault => verdict.fault = Some(fault),
            }
        }
        verdict
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Active>> {
        self.active.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Rule {
    fn is_filtered(&self) -> bool {
        self.method.is_some() || self.path_contains.is_some() || self.data || self.count.is_some() || self.share < 1.0
    }

    fn matches(&self, request: &RequestHead) -> bool {
        self.method.as_ref().is_none_or(|method| *method == request.method)
            && self.path_contains.as_ref().is_none_or(|part| request.target.contains(part.as_str()))
            && (!self.data || request.method == "GET" && !request.is_list())
    }
}

impl Active {
    fn strike(&mut self) -> bool {
        if self.rule.count.is_some_and(|count| self.struck >= count) {
            return false;
        }
        // The n-th match strikes when n * share passes a whole number: even, and the same in every run.
        let due = |n: u64| (n as f64 * self.rule.share).floor();
        self.matched += 1;
        let strikes = due(self.matched) > due(self.matched - 1);
        self.struck += u64::from(strikes);
        strikes
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    fn request(head: &str) -> RequestHead {
        RequestHead::parse(format!("{head} HTTP/1.1\r\n\r\n").as_bytes()).unwrap()
    }

    fn with(json: &str) -> Faults {
        let faults = Faults::new();
        faults.set(serde_json::from_str(json).unwrap());
        faults
    }

    #[test]
    fn filters_and_counts() {
        let faults =
            with(r#"{"rules":[{"fault":"reset","after":5,"data":true,"count":1},{"fault":"latency","ms":3}]}"#);
        assert_eq!(faults.judge(&request("GET /b?list-type=2")), Verdict { latency_ms: 3, fault: None });
        let struck = Verdict { latency_ms: 3, fault: Some(Fault::Reset { after: 5 }) };
        assert_eq!(faults.judge(&request("GET /b/k")), struck);
        assert_eq!(faults.judge(&request("GET /b/k")), Verdict { latency_ms: 3, fault: None });
    }

    #[test]
    fn shares_are_even() {
        let faults = with(r#"{"rules":[{"fault":"throttle","share":0.25}]}"#);
        let struck: Vec<bool> = (0..8).map(|_| faults.judge(&request("GET /b/k")).fault.is_some()).collect();
        assert_eq!(struck, [false, false, false, true, false, false, false, true]);
    }

    #[test]
    fn down_is_unfiltered() {
        assert!(with(r#"{"rules":[{"fault":"down"}]}"#).is_down());
        assert!(!with(r#"{"rules":[{"fault":"down","method":"GET"}]}"#).is_down());
        assert!(!with(r#"{"rules":[]}"#).is_down());
    }
}
