//! Counters of what passed, and a bounded log of the last requests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use serde::Serialize;

use crate::head::RequestHead;

/// How many requests the log holds: a test's worth, at about 200 bytes each.
const LOG_MAX: usize = 8192;

/// One request of the log.
#[derive(Clone, Serialize)]
pub(crate) struct Logged {
    method: String,
    target: String,
    range: Option<String>,
}

#[derive(Default)]
struct Tables {
    methods: BTreeMap<String, u64>,
    statuses: BTreeMap<u16, u64>,
    faults: BTreeMap<&'static str, u64>,
    log: VecDeque<Logged>,
}

/// All counters.
#[derive(Default)]
pub(crate) struct Stats {
    connections: AtomicU64,
    requests: AtomicU64,
    lists: AtomicU64,
    data: AtomicU64,
    data_bytes: AtomicU64,
    bytes: AtomicU64,
    in_flight: AtomicI64,
    tables: Mutex<Tables>,
}

/// What `GET /stats` answers.
#[derive(Serialize)]
pub(crate) struct Snapshot {
    /// Connections accepted.
    connections: u64,
    /// Requests received.
    requests: u64,
    /// Of these, listings of a bucket.
    lists: u64,
    /// Of these, requests for an object's bytes.
    data: u64,
    /// Bytes of bodies sent in answer to requests for objects' bytes.
    data_bytes: u64,
    /// Bytes of all bodies sent.
    bytes: u64,
    /// Requests received and not yet answered whole.
    in_flight: i64,
    methods: BTreeMap<String, u64>,
    statuses: BTreeMap<u16, u64>,
    faults: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// A connection was accepted.
    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A request came; the guard counts it as in flight and its body's bytes.
    pub(crate) fn begin(&self, request: &RequestHead) -> InFlight<'_> {
        let data = request.method == "GET" && !request.is_list();
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.lists.fetch_add(u64::from(request.is_list()), Ordering::Relaxed);
        self.data.fetch_add(u64::from(data), Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let mut tables = self.lock();
        *tables.methods.entry(request.method.clone()).or_default() += 1;
        if tables.log.len() == LOG_MAX {
            tables.log.pop_front();
        }
        let logged =
            Logged { method: request.method.clone(), target: request.target.clone(), range: request.range.clone() };
        tables.log.push_back(logged);
        InFlight { stats: self, data }
    }

    /// A fault struck.
    pub(crate) fn struck(&self, name: &'static str) {
        *self.lock().faults.entry(name).or_default() += 1;
    }

    /// A response's head was sent.
    pub(crate) fn answered(&self, status: u16) {
        *self.lock().statuses.entry(status).or_default() += 1;
    }

    /// The counters now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let tables = self.lock();
        Snapshot {
            connections: self.connections.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            lists: self.lists.load(Ordering::Relaxed),
            data: self.data.load(Ordering::Relaxed),
            data_bytes: self.data_bytes.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            methods: tables.methods.clone(),
            statuses: tables.statuses.clone(),
            faults: tables.faults.clone(),
        }
    }

    /// The last requests, oldest first.
    pub(crate) fn log(&self) -> Vec<Logged> {
        self.lock().log.iter().cloned().collect()
    }

    /// Sets all counters but the one of requests in flight to zero, and empties the log.
    pub(crate) fn reset(&self) {
        for counter in [&self.connections, &self.requests, &self.lists, &self.data, &self.data_bytes, &self.bytes] {
            counter.store(0, Ordering::Relaxed);
        }
        *self.lock() = Tables::default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A request that is being answered.
pub(crate) struct InFlight<'a> {
    stats: &'a Stats,
    data: bool,
}

impl InFlight<'_> {
    /// `n` bytes of the body were sent.
    pub(crate) fn sent(&self, n: u64) {
        self.stats.bytes.fetch_add(n, Ordering::Relaxed);
        if self.data {
            self.stats.data_bytes.fetch_add(n, Ordering::Relaxed);
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.stats.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
