//! What an origin was asked and what came of it, for Prometheus.
//!
//! | metric | kind | unit |
//! |---|---|---|
//! | `origin_requests` by `op` | counter | requests sent, retries included |
//! | `origin_bytes` | counter | bytes of objects given out |
//! | `origin_retries` | counter | requests sent again |
//! | `origin_errors` by `kind` | counter | calls that failed after retries |
//! | `origin_in_flight` | gauge | requests under way, bodies included |
//! | `origin_list_steals` | counter | ranges of listings that a second lister took over |
//! | `origin_renewals` | counter | times credentials were read anew after a refusal |

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::error::OriginErrorKind;

/// What kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Get,
    Head,
    List,
}

impl Op {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpLabel {
    op: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// Counters of one origin. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct OriginMetrics {
    requests: Family<OpLabel, Counter>,
    errors: Family<KindLabel, Counter>,
    pub(crate) bytes: Counter,
    pub(crate) retries: Counter,
    pub(crate) renewals: Counter,
    pub(crate) list_steals: Counter,
    pub(crate) in_flight: Gauge,
}

impl OriginMetrics {
    /// Adds the counters to `registry`. For several origins, give each a sub-registry with a label of its own.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("origin_requests", "Requests sent, retries included", self.requests.clone());
        registry.register("origin_bytes", "Bytes of objects given out", self.bytes.clone());
        registry.register("origin_retries", "Requests sent again", self.retries.clone());
        registry.register("origin_errors", "Calls that failed after retries", self.errors.clone());
        registry.register("origin_renewals", "Times credentials were read anew", self.renewals.clone());
        registry.register(
            "origin_list_steals",
            "Ranges of listings that a second lister took over",
            self.list_steals.clone(),
        );
        registry.register("origin_in_flight", "Requests under way", self.in_flight.clone());
    }

    /// Requests sent so far, of all kinds.
    pub fn requests(&self) -> u64 {
        [Op::Get, Op::Head, Op::List].map(|op| self.requests_of(op.as_str())).iter().sum()
    }

    /// Requests sent so far of one kind: `get`, `head` or `list`.
    pub fn requests_of(&self, op: &'static str) -> u64 {
        self.requests.get_or_create(&OpLabel { op }).get()
    }

    /// Bytes of objects given out so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Requests sent again so far.
    pub fn retries(&self) -> u64 {
        self.retries.get()
    }

    /// Ranges of listings that a second lister took over so far.
    pub fn list_steals(&self) -> u64 {
        self.list_steals.get()
    }

    /// Calls that failed so far, of one kind.
    pub fn errors(&self, kind: OriginErrorKind) -> u64 {
        self.errors.get_or_create(&KindLabel { kind: kind.as_str() }).get()
    }

    /// Requests under way.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    pub(crate) fn failed(&self, kind: OriginErrorKind) {
        self.errors.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
    }

    /// A request goes out now, after `latency`.
    pub(crate) async fn request(&self, op: Op, latency: Duration) {
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        self.requests.get_or_create(&OpLabel { op: op.as_str() }).inc();
    }
}
