//! What the node is doing, as a document for people and programs. Its fields are described in `docs/admin.md`.

use forebay_catalog::ComingIn;
use forebay_model::{Trace, TraceState};
use forebay_store::{Class, DirectoryStats, StoreStats};
use serde_json::{Value, json};

use crate::node::Node;
use crate::source::Source;

/// Listings that are shown, the largest: a tree may be walked by many.
const LISTINGS_SHOWN: usize = 20;

/// The document.
pub(crate) fn document(node: &Node) -> Value {
    let stats = node.store.stats();
    let (pages, bytes) = node.fetcher.load();
    let metrics = &node.metrics;
    json!({
        "node": node.name,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": node.started.elapsed().as_secs(),
        "sources": node.namespace.sources().iter().map(|s| source(s)).collect::<Vec<_>>(),
        "store": store(&stats),
        "caches": node.store.directories().iter().map(cache).collect::<Vec<_>>(),
        "reads": {
            "here": metrics.reads_here.get(),
            "waited": metrics.reads_waited.get(),
            "faults": metrics.faults.get(),
            "bytes": metrics.bytes.get(),
        },
        "fetch": {
            "pages_on_their_way": pages,
            "memory_bytes": bytes,
            "wanted_bytes": node.fetcher.metrics.bytes_wanted.get(),
            "ahead_bytes": node.fetcher.metrics.bytes_ahead.get(),
            "files_ahead_bytes": node.fetcher.metrics.files_ahead_bytes.get(),
            "files_ahead_used_bytes": node.fetcher.metrics.files_ahead_used_bytes.get(),
            "files_ahead_unused_bytes": node.fetcher.metrics.files_ahead_unused_bytes.get(),
            "not_kept_pages": node.fetcher.metrics.not_kept.get(),
            "failed": node.fetcher.metrics.failed.get(),
        },
        "catalog": {
            "disk_bytes": node.catalog.disk_used(),
            "disk_max_bytes": node.catalog.disk_max(),
        },
        "listings": node.catalog.coming_in().iter().take(LISTINGS_SHOWN).map(listing).collect::<Vec<_>>(),
        "trace": node.tracer.trace().as_ref().map(trace),
    })
}

fn listing(listing: &ComingIn) -> Value {
    json!({
        "directory": listing.path,
        "names": listing.names,
        "running_seconds": listing.since.as_secs_f64(),
    })
}

fn store(stats: &StoreStats) -> Value {
    json!({
        "contents": stats.contents,
        "index_bytes": stats.index_bytes,
        "resident_bytes": stats.bytes_resident,
        "capacity_bytes": stats.capacity,
        "hits": stats.hits,
        "misses": stats.misses,
        "read_bytes": stats.bytes_read,
        "kept_bytes": stats.bytes_kept,
        "not_kept": stats.not_kept,
        "evicted_bytes": stats.bytes_evicted,
        "rewritten_bytes": stats.bytes_rewritten,
        "promoted_bytes": stats.bytes_promoted,
        "demoted_bytes": stats.bytes_demoted,
        "queued_bytes": stats.bytes_queued,
        "handed_out_bytes": stats.bytes_handed_out,
        "blocks_damaged": stats.blocks_damaged,
        "directories": stats.directories,
        "directories_down": stats.directories_down,
        "directories_recovering": stats.directories_recovering,
    })
}

fn cache(directory: &DirectoryStats) -> Value {
    json!({
        "directory": directory.path.display().to_string(),
        "state": match (directory.is_down, directory.is_recovering) {
            (true, _) => "down",
            (false, true) => "recovering",
            (false, false) => "up",
        },
        "class": directory.class.map(Class::name),
        "resident_bytes": directory.bytes_resident,
        "capacity_bytes": directory.capacity,
    })
}

fn source(source: &Source) -> Value {
    json!({
        "path": source.facts.path,
        "origin": source.spec.origin,
        "freshness": source.facts.freshness,
        "proof": source.proof,
        "quota_bytes": source.spec.quota.map(|quota| quota.0),
        "priority": source.spec.priority,
        "problem": *source.problem.lock(),
    })
}

fn trace(trace: &Trace) -> Value {
    json!({
        "file": trace.file,
        "state": trace.state.name(),
        "reads": trace.reads,
        "dropped": trace.dropped,
        "bytes": trace.bytes,
        "why": match &trace.state {
            TraceState::Failed(why) => Some(why),
            _ => None,
        },
    })
}
