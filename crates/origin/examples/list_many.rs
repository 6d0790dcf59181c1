//! Lists a prefix of `forebay-listserver` and prints one JSON object: entries, seconds, CPU time of this process an entry.
//!
//! ```text
//! list_many ADDRESS PREFIX [LISTERS]       in parts; 16 listers by default
//! list_many ADDRESS PREFIX LISTERS again   and then once more, from the cuts of the first time
//! list_many ADDRESS PREFIX opendal         one level, by OpenDAL's lister
//! ```
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that measures, and ends when it cannot")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use forebay_origin::{Credentials, KeySpan, Origin, OriginSettings};

/// Names of a range, at most, as the catalog has it.
const NAMES_MAX: usize = 1_000_000;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let way = arguments.get(2).map_or("16", String::as_str);
    let mut settings = OriginSettings::new("s3://lists/".parse().unwrap());
    settings.endpoint = Some(format!("http://{}", arguments[0]));
    settings.credentials =
        Credentials::Static { access_key: "AK".to_owned(), secret: "SECRET".to_owned(), session_token: None };
    settings.listers = way.parse().unwrap_or(1);
    let origin = Origin::open(settings).unwrap();
    if way == "opendal" {
        let started = Started::now(&origin);
        let (mut listing, mut entries) = (origin.list(&arguments[1]), 0);
        while let Some(batch) = listing.next_batch().await.unwrap() {
            entries += batch.len();
        }
        println!("{{{}}}", started.says(way, entries, &origin));
        return;
    }
    let started = Started::now(&origin);
    let parts = list(&origin, &arguments[1], vec![KeySpan::whole()]).await;
    let first = started.says(way, parts.values().map(|(_, names)| names).sum(), &origin);
    if arguments.get(3).is_none() {
        println!("{{{first}}}");
        return;
    }
    let gaps = ranges(parts);
    let (started, ranges) = (Started::now(&origin), gaps.len());
    let parts = list(&origin, &arguments[1], gaps).await;
    let again = started.says(way, parts.values().map(|(_, names)| names).sum(), &origin);
    println!("{{{first},\"again\":{{\"ranges\":{ranges},{again}}}}}");
}

/// Beginnings of what parts cover, their ends, and how many names they have.
type Parts = BTreeMap<Arc<str>, (Option<Arc<str>>, usize)>;

async fn list(origin: &Origin, prefix: &str, gaps: Vec<KeySpan>) -> Parts {
    let (mut listing, mut parts) = (origin.list_parts(prefix, gaps), Parts::new());
    while let Some(part) = listing.next().await.unwrap() {
        let covered = part.covered.unwrap_or_else(KeySpan::whole);
        let known = parts.entry(covered.after).or_default();
        known.1 += part.entries.len();
        if covered.until.is_none() || known.0 < covered.until {
            known.0 = covered.until;
        }
    }
    parts
}

/// What the catalog remembers of a whole listing: ranges of at most a million names.
fn ranges(parts: Parts) -> Vec<KeySpan> {
    let (mut ranges, mut names) = (Vec::<KeySpan>::new(), 0);
    for (after, (until, more)) in parts {
        match ranges.last_mut() {
            Some(last) if names + more <= NAMES_MAX => (last.until, names) = (until, names + more),
            _ => {
                ranges.push(KeySpan { after, until });
                names = more;
            }
        }
    }
    ranges
}

/// Where a listing began.
struct Started {
    at: Instant,
    cpu: f64,
    requests: u64,
    retries: u64,
    steals: u64,
}

impl Started {
    fn now(origin: &Origin) -> Self {
        let metrics = origin.metrics();
        let (requests, retries, steals) = (metrics.requests(), metrics.retries(), metrics.list_steals());
        Self { at: Instant::now(), cpu: cpu_seconds(), requests, retries, steals }
    }

    /// What it took since.
    fn says(&self, way: &str, entries: usize, origin: &Origin) -> String {
        let (seconds, cpu) = (self.at.elapsed().as_secs_f64(), cpu_seconds() - self.cpu);
        let metrics = origin.metrics();
        format!(
            "\"way\":{way:?},\"entries\":{entries},\"seconds\":{seconds:.3},\"entries_per_second\":{:.0},\
             \"cpu_us_per_entry\":{:.3},\"requests\":{},\"retries\":{},\"steals\":{}",
            entries as f64 / seconds,
            cpu * 1e6 / entries as f64,
            metrics.requests() - self.requests,
            metrics.retries() - self.retries,
            metrics.list_steals() - self.steals,
        )
    }
}

/// CPU time of this process so far, in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2);
    fields.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}
