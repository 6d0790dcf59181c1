//! Lists a prefix of `forebay-listserver` and prints one JSON object: entries, seconds, CPU of this process an entry.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that measures, and ends when it cannot")]

use std::time::Instant;

use forebay_origin::{Credentials, Origin, OriginSettings};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut settings = OriginSettings::new("s3://lists/".parse().unwrap());
    settings.endpoint = Some(format!("http://{}", arguments[0]));
    settings.credentials =
        Credentials::Static { access_key: "AK".to_owned(), secret: "SECRET".to_owned(), session_token: None };
    let origin = Origin::open(settings).unwrap();
    let started = Instant::now();
    let mut listing = origin.list(&arguments[1]);
    let mut entries = 0;
    while let Some(batch) = listing.next_batch().await.unwrap() {
        entries += batch.len();
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{{\"entries\":{entries},\"seconds\":{seconds:.3},\"entries_per_second\":{:.0},\"cpu_us_per_entry\":{:.3},\"requests\":{}}}",
        entries as f64 / seconds,
        cpu_seconds() * 1e6 / entries as f64,
        origin.metrics().requests()
    );
}

/// CPU time of this process so far, in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2);
    fields.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}
