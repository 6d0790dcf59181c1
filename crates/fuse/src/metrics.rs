//! What the mount counts.
//!
//! | metric | unit | what |
//! |---|---|---|
//! | `forebay_fuse_requests_total{op}` | requests | what the kernel asked |
//! | `forebay_fuse_errors_total{errno}` | answers | what it was refused |
//! | `forebay_fuse_reads_at_hand_total` | reads | answered on the spot, without waiting for anyone |
//! | `forebay_fuse_first_reads_total` | reads | of those, answered from what was read at the file's lookup |
//! | `forebay_fuse_waiting` | requests | that wait for the service now |
//! | `forebay_fuse_nodes` | inodes | that the kernel knows now |
//! | `forebay_fuse_pruned_total` | inodes | that the kernel was asked to forget, for there were too many |
//! | `forebay_fuse_passthrough_opens_total` | opens | of which the kernel reads the file by itself |
//! | `forebay_fuse_invalidations_total` | notices | of outdated names that the kernel was sent |
//! | `forebay_fuse_invalidations_of_all_total` | times | that the kernel was told that every name is outdated |
//! | `forebay_fuse_invalidations_overflowed_total` | batches | of names that came too fast: all names are outdated then |
//! | `forebay_fuse_panics_total` | requests | that ended in a bug of Forebay |

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::errno::Errno;

/// One label and its value.
type Label = [(&'static str, &'static str); 1];

/// What the mount counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Family<Label, Counter>,
    errors: Family<Label, Counter>,
    // Counted at each request: looked up in the family once.
    pub(crate) lookups: Counter,
    pub(crate) forgets: Counter,
    pub(crate) stats: Counter,
    pub(crate) opens: Counter,
    pub(crate) releases: Counter,
    pub(crate) reads: Counter,
    pub(crate) directory_opens: Counter,
    pub(crate) directory_releases: Counter,
    pub(crate) lists: Counter,
    pub(crate) reads_at_hand: Counter,
    pub(crate) first_reads: Counter,
    pub(crate) waiting: Gauge,
    pub(crate) nodes: Gauge,
    pub(crate) pruned: Counter,
    pub(crate) passthrough_opens: Counter,
    pub(crate) invalidations: Counter,
    pub(crate) invalidations_of_all: Counter,
    pub(crate) invalidations_overflowed: Counter,
    pub(crate) panics: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let requests = Family::<Label, Counter>::default();
        let op = |name| requests.get_or_create(&[("op", name)]).clone();
        Self {
            lookups: op("lookup"),
            forgets: op("forget"),
            stats: op("getattr"),
            opens: op("open"),
            releases: op("release"),
            reads: op("read"),
            directory_opens: op("opendir"),
            directory_releases: op("releasedir"),
            lists: op("readdir"),
            requests,
            errors: Family::default(),
            reads_at_hand: Counter::default(),
            first_reads: Counter::default(),
            waiting: Gauge::default(),
            nodes: Gauge::default(),
            pruned: Counter::default(),
            passthrough_opens: Counter::default(),
            invalidations: Counter::default(),
            invalidations_of_all: Counter::default(),
            invalidations_overflowed: Counter::default(),
            panics: Counter::default(),
        }
    }

    /// A request of a kind that has no counter of its own here.
    pub(crate) fn request(&self, op: &'static str) {
        self.requests.get_or_create(&[("op", op)]).inc();
    }

    pub(crate) fn error(&self, errno: Errno) {
        self.errors.get_or_create(&[("errno", errno.name())]).inc();
    }

    /// Shows everything in `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("forebay_fuse");
        registry.register("requests", "Requests of the kernel", self.requests.clone());
        registry.register("errors", "Requests answered with an errno", self.errors.clone());
        registry.register("reads_at_hand", "Reads answered without waiting", self.reads_at_hand.clone());
        let first_reads = self.first_reads.clone();
        registry.register("first_reads", "Reads answered from what was read at the file's lookup", first_reads);
        registry.register("waiting", "Requests that wait for the service", self.waiting.clone());
        registry.register("nodes", "Inodes that the kernel knows", self.nodes.clone());
        registry.register("pruned", "Inodes that the kernel was asked to forget", self.pruned.clone());
        registry.register(
            "passthrough_opens",
            "Opens that the kernel serves by itself",
            self.passthrough_opens.clone(),
        );
        registry.register("invalidations", "Notices of outdated names to the kernel", self.invalidations.clone());
        let all = self.invalidations_of_all.clone();
        registry.register("invalidations_of_all", "Times that the kernel was told that every name is outdated", all);
        let overflowed = self.invalidations_overflowed.clone();
        registry.register("invalidations_overflowed", "Batches of outdated names that came too fast", overflowed);
        registry.register("panics", "Requests that ended in a panic", self.panics.clone());
    }
}
