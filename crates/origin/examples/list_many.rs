//! Lists a prefix of `forebay-listserver` and prints one JSON object: entries, seconds, CPU time of this process an entry.
//!
//! ```text
//! list_many ADDRESS PREFIX [LISTERS]     in parts; 16 listers by default
//! list_many ADDRESS PREFIX opendal       one level, by OpenDAL's lister
//! ```
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that measures, and ends when it cannot")]

use std::time::Instant;

use forebay_origin::{Credentials, KeySpan, Origin, OriginSettings};

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
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let mut entries = 0;
    if way == "opendal" {
        let mut listing = origin.list(&arguments[1]);
        while let Some(batch) = listing.next_batch().await.unwrap() {
            entries += batch.len();
        }
    } else {
        let mut listing = origin.list_parts(&arguments[1], vec![KeySpan::whole()]);
        while let Some(part) = listing.next().await.unwrap() {
            entries += part.entries.len();
        }
    }
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let metrics = origin.metrics();
    println!(
        "{{\"way\":{way:?},\"entries\":{entries},\"seconds\":{seconds:.3},\"entries_per_second\":{:.0},\
         \"cpu_us_per_entry\":{:.3},\"requests\":{},\"retries\":{},\"steals\":{}}}",
        entries as f64 / seconds,
        cpu * 1e6 / entries as f64,
        metrics.requests(),
        metrics.retries(),
        metrics.list_steals(),
    );
}

/// CPU time of this process so far, in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2);
    fields.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}
