//! What the node counts.

use forebay_model::Happened;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counters of fetches.
#[derive(Debug, Default)]
pub(crate) struct FetchMetrics {
    pub(crate) bytes_wanted: Counter,
    pub(crate) bytes_ahead: Counter,
    pub(crate) files_ahead_bytes: Counter,
    pub(crate) files_ahead_used_bytes: Counter,
    pub(crate) files_ahead_unused_bytes: Counter,
    pub(crate) joined: Counter,
    pub(crate) not_kept: Counter,
    pub(crate) failed: Counter,
}

/// Counters of what readers were given.
#[derive(Debug, Default)]
pub(crate) struct ReadMetrics {
    pub(crate) reads_here: Counter,
    pub(crate) reads_waited: Counter,
    pub(crate) bytes: Counter,
    pub(crate) faults: Counter,
}

impl FetchMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let table = [
            ("fetch_wanted_bytes", "Bytes asked of origins because a reader waits for them", &self.bytes_wanted),
            ("fetch_ahead_bytes", "Bytes asked of origins ahead of a reader", &self.bytes_ahead),
            (
                "fetch_files_ahead_bytes",
                "Bytes of files that were asked of origins before a reader opened them; fetch_ahead_bytes counts them too",
                &self.files_ahead_bytes,
            ),
            ("fetch_files_ahead_used_bytes", "Those of them whose file was read then", &self.files_ahead_used_bytes),
            (
                "fetch_files_ahead_unused_bytes",
                "Those of them that were gone before their file was read, or not read within ten minutes",
                &self.files_ahead_unused_bytes,
            ),
            ("fetch_joined", "Pages that a reader wanted while they were on their way", &self.joined),
            ("fetch_not_kept", "Pages that were read but that the store did not keep", &self.not_kept),
            ("fetch_failed", "Requests for pages that failed", &self.failed),
        ];
        for (name, help, counter) in table {
            registry.register(name, help, counter.clone());
        }
    }
}

impl ReadMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let table = [
            ("read_here", "Reads answered at once from this machine", &self.reads_here),
            (
                "read_waited",
                "Reads that were not answered at once: they waited for an origin or came over the socket",
                &self.reads_waited,
            ),
            (
                "read_bytes",
                "Bytes given to readers through the node; passthrough and the kernel's cache aside",
                &self.bytes,
            ),
            ("read_faults", "Reads that failed", &self.faults),
        ];
        for (name, help, counter) in table {
            registry.register(name, help, counter.clone());
        }
    }
}

/// What events are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EventLabel {
    what: &'static str,
}

impl From<Happened> for EventLabel {
    fn from(happened: Happened) -> Self {
        let what = match happened {
            Happened::Written => "written",
            Happened::Removed => "removed",
            Happened::Moved => "moved",
        };
        Self { what }
    }
}

/// Counters of what was forgotten on request.
#[derive(Debug, Default)]
pub(crate) struct RefreshMetrics {
    pub(crate) refreshes: Counter,
    pub(crate) events: Family<EventLabel, Counter>,
    pub(crate) ignored: Counter,
    pub(crate) names: Counter,
    pub(crate) mounts_late: Counter,
}

impl RefreshMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("events", "Events of origins about what a source shows", self.events.clone());
        let table = [
            ("refreshes", "Requests to forget a path", &self.refreshes),
            ("events_ignored", "Events of origins about nothing that the source shows", &self.ignored),
            ("refresh_names", "Names forgotten by requests and events", &self.names),
            ("refresh_mounts_late", "Times that a mount's kernel let go later than anybody waited", &self.mounts_late),
        ];
        for (name, help, counter) in table {
            registry.register(name, help, counter.clone());
        }
    }
}
