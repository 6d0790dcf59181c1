//! What origins were asked and what came of it, for Prometheus; all by `source`, the path at which an origin is shown.
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

use std::sync::Arc;
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
    Put,
}

impl Op {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Put => "put",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpLabels {
    source: String,
    op: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    source: String,
    kind: &'static str,
}

/// Counters of all origins of a process, by source. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct OriginFamilies(Arc<Families>);

#[derive(Debug, Default)]
struct Families {
    requests: Family<OpLabels, Counter>,
    errors: Family<KindLabels, Counter>,
    bytes: Family<SourceLabel, Counter>,
    retries: Family<SourceLabel, Counter>,
    renewals: Family<SourceLabel, Counter>,
    list_steals: Family<SourceLabel, Counter>,
    in_flight: Family<SourceLabel, Gauge>,
}

impl OriginFamilies {
    /// Adds the counters to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("origin_requests", "Requests sent, retries included", self.0.requests.clone());
        registry.register("origin_bytes", "Bytes of objects given out", self.0.bytes.clone());
        registry.register("origin_retries", "Requests sent again", self.0.retries.clone());
        registry.register("origin_errors", "Calls that failed after retries", self.0.errors.clone());
        registry.register("origin_renewals", "Times credentials were read anew", self.0.renewals.clone());
        registry.register(
            "origin_list_steals",
            "Ranges of listings that a second lister took over",
            self.0.list_steals.clone(),
        );
        registry.register("origin_in_flight", "Requests under way", self.0.in_flight.clone());
    }

    /// The counters of one source.
    pub fn of(&self, source: &str) -> OriginMetrics {
        let label = SourceLabel { source: source.to_owned() };
        OriginMetrics {
            families: Arc::clone(&self.0),
            bytes: self.0.bytes.get_or_create(&label).clone(),
            retries: self.0.retries.get_or_create(&label).clone(),
            renewals: self.0.renewals.get_or_create(&label).clone(),
            list_steals: self.0.list_steals.get_or_create(&label).clone(),
            in_flight: self.0.in_flight.get_or_create(&label).clone(),
            source: label.source.into(),
        }
    }
}

/// Counters of one origin. Clones count together.
#[derive(Clone, Debug)]
pub struct OriginMetrics {
    families: Arc<Families>,
    source: Arc<str>,
    pub(crate) bytes: Counter,
    pub(crate) retries: Counter,
    pub(crate) renewals: Counter,
    pub(crate) list_steals: Counter,
    pub(crate) in_flight: Gauge,
}

impl Default for OriginMetrics {
    /// Counters of its own.
    fn default() -> Self {
        OriginFamilies::default().of("")
    }
}

impl OriginMetrics {
    /// Requests sent so far, of all kinds.
    pub fn requests(&self) -> u64 {
        [Op::Get, Op::Head, Op::List].map(|op| self.requests_of(op.as_str())).iter().sum()
    }

    /// Requests sent so far of one kind: `get`, `head` or `list`.
    pub fn requests_of(&self, op: &'static str) -> u64 {
        self.of_op(op).get()
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
        self.of_kind(kind).get()
    }

    /// Requests under way.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    fn of_op(&self, op: &'static str) -> Counter {
        self.families.requests.get_or_create(&OpLabels { source: self.source.to_string(), op }).clone()
    }

    fn of_kind(&self, kind: OriginErrorKind) -> Counter {
        self.families.errors.get_or_create(&KindLabels { source: self.source.to_string(), kind: kind.as_str() }).clone()
    }

    pub(crate) fn failed(&self, kind: OriginErrorKind) {
        self.of_kind(kind).inc();
    }

    /// A request goes out now, after `latency`.
    pub(crate) async fn request(&self, op: Op, latency: Duration) {
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        self.of_op(op.as_str()).inc();
    }
}
