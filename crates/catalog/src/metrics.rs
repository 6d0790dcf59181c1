//! What the catalog counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Counters of one catalog.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) entry_hits: Counter,
    pub(crate) listing_hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) forgotten: Counter,
    pub(crate) evicted: Counter,
    pub(crate) damaged: Counter,
    pub(crate) not_kept: Counter,
    pub(crate) resumed: Counter,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let table = [
            ("catalog_entry_hits", "Lookups answered by an entry of their own", &self.entry_hits),
            ("catalog_listing_hits", "Lookups answered by the parent's listing", &self.listing_hits),
            ("catalog_misses", "Lookups that had to ask the origin", &self.misses),
            ("catalog_forgotten", "Entries dropped because the object changed", &self.forgotten),
            ("catalog_listings_evicted", "Listings given up for room on disk", &self.evicted),
            ("catalog_damaged", "Times that something on disk was damaged and dropped", &self.damaged),
            ("catalog_batches_not_kept", "Batches that could not be written", &self.not_kept),
            ("catalog_listings_resumed", "Interrupted listings that were gone on with", &self.resumed),
        ];
        for (name, help, counter) in table {
            registry.register(name, help, counter.clone());
        }
    }
}
