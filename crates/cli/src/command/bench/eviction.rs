//! `forebay bench eviction`: the store's policies over generated or recorded reads, beside the offline optimum.
//!
//! It asks no process and writes no cache: `forebay_store::simulate` runs the policies themselves.

use std::collections::HashMap;
use std::path::Path;

use forebay_model::ByteSize;
use forebay_store::{Access, Eviction, Outcome, Pattern, optimum, simulate, simulate_planned};
use serde_json::{Value, json};

use crate::args::EvictionArgs;
use crate::failure::Failure;
use crate::output::Output;

use super::plot::{Chart, Marks};
use super::trace::{self, End, Recorded};

/// The cache of generated reads: 128 packs of 2 MiB.
const CACHE: u64 = 256 << 20;
const SEED: u64 = 1;
/// A recorded trace is replayed with a cache of the disk's bytes, times these.
const SIZES: [(&str, u64, u64); 5] = [("1/4", 1, 4), ("1/2", 1, 2), ("1", 1, 1), ("2", 2, 1), ("4", 4, 1)];
/// The places of the disk and of twice the disk among the sizes.
const ONE: usize = 2;
const TWICE: usize = 3;
/// Characters of a bar that stands for every read.
const BAR: f64 = 40.0;

/// Every policy by its name, and the optimum last.
pub(super) type Rows = Vec<(&'static str, Outcome)>;

/// Runs what was asked for.
pub(super) fn eviction(args: &EvictionArgs, output: &mut Output) -> Result<(), Failure> {
    let EvictionArgs { trace, cache, plot } = args;
    let chart = match trace {
        None => generated(output)?,
        Some(file) => replayed(&trace::read(file)?, *cache, output)?,
    };
    match plot {
        Some(file) => write(file, &chart.svg()),
        None => Ok(()),
    }
}

fn generated(output: &mut Output) -> Result<Chart, Failure> {
    let title = format!("Part of reads that hit; cache of {}, seed {SEED}", ByteSize(CACHE));
    if !output.is_json() {
        output.line(&title)?;
        output.line(format!("{:<20}{}{:>10}{:>10}", "", names(), "planned", "optimum"))?;
    }
    let mut chart = Chart::new(Marks::Bars, title, "pattern of reads");
    for pattern in Pattern::ALL {
        let rows = rows(&pattern.accesses(CACHE, SEED), CACHE);
        chart.add(pattern.name().to_owned(), &rows);
        if output.is_json() {
            for (name, outcome) in rows {
                let mut object = object(name, CACHE, &outcome);
                object["pattern"] = json!(pattern.name());
                output.object(&object)?;
            }
        } else {
            let rates: String = rows.iter().map(|(_, outcome)| format!("{:>10.4}", outcome.hit_rate())).collect();
            output.line(format!("{:<20}{rates}", pattern.name()))?;
        }
    }
    Ok(chart)
}

fn replayed(recorded: &Recorded, disk: Option<ByteSize>, output: &mut Output) -> Result<Chart, Failure> {
    let Recorded { accesses, end } = recorded;
    let sizes: HashMap<_, _> = accesses.iter().map(|access| (access.id, access.size)).collect();
    let named = sizes.values().fold(0u64, |sum, size| sum.saturating_add(*size));
    let disk = disk.unwrap_or(ByteSize(named / 2)).0.max(1);
    let what = format!("{} reads of {} contents, {}", accesses.len(), sizes.len(), ByteSize(named));
    if output.is_json() {
        let (dropped, end) = match end {
            End::Whole(dropped) => (Some(dropped), "whole"),
            End::Cut => (None, "cut"),
            End::Longer => (None, "longer"),
        };
        let (reads, contents) = (accesses.len(), sizes.len());
        output.object(&json!({
            "trace": end, "reads": reads, "contents": contents, "named_bytes": named, "dropped": dropped,
        }))?;
    } else {
        output.line(format!("{what}; 1 x is {}", ByteSize(disk)))?;
        match end {
            End::Whole(0) => {}
            End::Whole(dropped) => output.line(format!("{dropped} more reads could not be recorded"))?,
            End::Cut => output.line("the trace was cut: its last line is missing")?,
            End::Longer => output.line("the trace is longer: these are its first reads")?,
        }
    }
    let mut chart =
        Chart::new(Marks::Lines, format!("Part of reads that hit; {what}"), "size of the cache, doubled at each step");
    let mut own = Vec::new();
    for (label, times, parts) in SIZES {
        let cache = disk.saturating_mul(times) / parts;
        let rows = rows(accesses, cache);
        chart.add(format!("{label} x, {}", ByteSize(cache)), &rows);
        if !output.is_json() {
            output.line(format!("cache {label} x, {}", ByteSize(cache)))?;
        }
        for (name, outcome) in rows {
            let (reads, bytes) = (outcome.hit_rate(), outcome.byte_hit_rate());
            if name == Eviction::default().name() {
                own.push(reads);
            }
            if output.is_json() {
                output.object(&object(name, cache, &outcome))?;
            } else {
                let bar = "#".repeat((reads * BAR).round() as usize);
                output.line(format!("  {name:<10} {reads:.4} of reads, {bytes:.4} of bytes  {bar}"))?;
            }
        }
    }
    if !output.is_json() {
        let (disk, one, twice) = (ByteSize(disk.saturating_mul(2)), own[ONE], own[TWICE]);
        output.line(format!("twice the disk ({disk}): {twice:.2} of reads instead of {one:.2}"))?;
    }
    Ok(chart)
}

fn write(file: &Path, svg: &str) -> Result<(), Failure> {
    std::fs::write(file, svg).map_err(|error| Failure::failed(format!("{}: {error}", file.display())))
}

/// Every policy, and the optimum last.
fn rows(accesses: &[Access], cache: u64) -> Rows {
    let policies = Eviction::ALL.iter().map(|policy| (policy.name(), simulate(accesses, cache, *policy)));
    let known = [("planned", simulate_planned(accesses, cache)), ("optimum", optimum(accesses, cache))];
    policies.chain(known).collect()
}

fn names() -> String {
    Eviction::ALL.iter().map(|policy| format!("{:>10}", policy.name())).collect()
}

fn object(policy: &str, cache: u64, outcome: &Outcome) -> Value {
    json!({
        "policy": policy,
        "cache_bytes": cache,
        "reads": outcome.accesses,
        "hits": outcome.hits,
        "hit_rate": outcome.hit_rate(),
        "byte_hit_rate": outcome.byte_hit_rate(),
        "filled_bytes": outcome.filled_bytes,
        "rewritten_bytes": outcome.rewritten_bytes,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use forebay_model::ContentId;

    use super::*;
    use crate::output::tests::Written;

    /// Ten contents of 1 MB, read in the same order ten times.
    fn epochs() -> Vec<Access> {
        let read = |n: u64| Access {
            id: ContentId::from_u128(u128::from(n % 10)),
            size: 1_000_000,
            group: 1,
            offset: 0,
            len: 1_000_000,
        };
        (0..100).map(read).collect()
    }

    fn replay(end: End, disk: Option<u64>, json: bool) -> (String, String) {
        let written = Written::default();
        let mut output = written.output(json);
        let recorded = Recorded { accesses: epochs(), end };
        let chart = replayed(&recorded, disk.map(ByteSize), &mut output).unwrap();
        output.flush().unwrap();
        (written.text(), chart.svg())
    }

    #[test]
    fn a_trace_ends_with_what_twice_the_disk_would_bring() {
        let (text, svg) = replay(End::Whole(3), None, false);
        assert!(text.starts_with("100 reads of 10 contents, 10.0 MB; 1 x is 5.00 MB\n3 more reads could"), "{text}");
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("twice the disk (10.0 MB): 0.90 of reads instead of 0."), "{last}");
        assert_eq!(svg, replay(End::Whole(3), None, true).1, "the same trace, the same plot");
        assert!(svg.contains("1/4 x, 1.25 MB") && svg.contains("10 contents"), "{svg}");
    }

    #[test]
    fn the_disk_may_be_given_and_a_trace_that_is_not_whole_is_called_so() {
        let (text, _) = replay(End::Cut, Some(20_000_000), false);
        assert!(text.contains("1 x is 20.0 MB\nthe trace was cut"), "{text}");
        assert!(text.ends_with("twice the disk (40.0 MB): 0.90 of reads instead of 0.90\n"), "{text}");
    }

    #[test]
    fn programs_read_the_hit_rate_at_each_size() {
        let (text, _) = replay(End::Longer, None, true);
        let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            objects[0],
            json!({
                "trace": "longer", "reads": 100, "contents": 10, "named_bytes": 10_000_000, "dropped": null,
            })
        );
        assert_eq!(objects.len(), 1 + SIZES.len() * (Eviction::ALL.len() + 2));
        for (object, (_, times, parts)) in objects[1..].chunks(Eviction::ALL.len() + 2).zip(SIZES) {
            for row in object {
                assert_eq!(row["cache_bytes"], 5_000_000 * times / parts);
                assert_eq!(row["hit_rate"].as_f64().unwrap(), row["hits"].as_f64().unwrap() / 100.0);
            }
        }
    }
}
