//! What the catalog counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Counters of one catalog.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) entry_hits: Counter,
    pub(crate) listing_hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) forgotten: Counter,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let table = [
            ("catalog_entry_hits", "Lookups answered by an entry of their own", &self.entry_hits),
            ("catalog_listing_hits", "Lookups answered by the parent's listing", &self.listing_hits),
            ("catalog_misses", "Lookups that had to ask the origin", &self.misses),
            ("catalog_forgotten", "Entries dropped because the object changed", &self.forgotten),
        ];
        for (name, help, counter) in table {
            registry.register(name, help, counter.clone());
        }
    }
}
