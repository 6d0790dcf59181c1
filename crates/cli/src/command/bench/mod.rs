//! `forebay bench eviction`: the store's policies over generated or recorded reads, beside the offline optimum.
//!
//! It asks no process and writes no disk: `forebay_store::simulate` runs the policies themselves.

mod trace;

use std::collections::HashMap;

use forebay_model::ByteSize;
use forebay_store::{Access, Eviction, Outcome, Pattern, optimum, simulate, simulate_planned};
use serde_json::{Value, json};

use crate::args::{BenchArgs, BenchCommand, EvictionArgs};
use crate::failure::Failure;
use crate::output::Output;

/// The cache of generated reads: 128 packs of 2 MiB.
const CACHE: u64 = 256 << 20;
const SEED: u64 = 1;
/// A recorded trace is replayed with a cache of half the bytes that it names, times these.
const SIZES: [(&str, u64, u64); 5] = [("1/4", 1, 4), ("1/2", 1, 2), ("1", 1, 1), ("2", 2, 1), ("4", 4, 1)];
/// Characters of a bar that stands for every read.
const BAR: f64 = 40.0;

/// Runs what was asked for.
pub(crate) fn bench(args: &BenchArgs, output: &mut Output) -> Result<(), Failure> {
    match &args.command {
        BenchCommand::Eviction(EvictionArgs { trace: None }) => generated(output),
        BenchCommand::Eviction(EvictionArgs { trace: Some(file) }) => replayed(&trace::read(file)?, output),
    }
}

fn generated(output: &mut Output) -> Result<(), Failure> {
    if !output.is_json() {
        output.line(format!("Part of reads that hit; cache of {}, seed {SEED}", ByteSize(CACHE)))?;
        output.line(format!("{:<20}{}{:>10}{:>10}", "", names(), "planned", "optimum"))?;
    }
    for pattern in Pattern::ALL {
        let accesses = pattern.accesses(CACHE, SEED);
        let rows = rows(&accesses, CACHE);
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
    Ok(())
}

fn replayed(accesses: &[Access], output: &mut Output) -> Result<(), Failure> {
    let sizes: HashMap<_, _> = accesses.iter().map(|access| (access.id, access.size)).collect();
    let named = sizes.values().fold(0u64, |sum, size| sum.saturating_add(*size));
    let base = (named / 2).max(1);
    if !output.is_json() {
        let (reads, contents) = (accesses.len(), sizes.len());
        output.line(format!("{reads} reads of {contents} contents, {}; 1 x is half of it", ByteSize(named)))?;
    }
    for (label, times, parts) in SIZES {
        let cache = base.saturating_mul(times) / parts;
        if !output.is_json() {
            output.line(format!("cache {label} x, {}", ByteSize(cache)))?;
        }
        for (name, outcome) in rows(accesses, cache) {
            if output.is_json() {
                output.object(&object(name, cache, &outcome))?;
            } else {
                let bar = "#".repeat((outcome.hit_rate() * BAR).round() as usize);
                let (reads, bytes) = (outcome.hit_rate(), outcome.byte_hit_rate());
                output.line(format!("  {name:<10} {reads:.4} of reads, {bytes:.4} of bytes  {bar}"))?;
            }
        }
    }
    Ok(())
}

/// Every policy, and the optimum last.
fn rows(accesses: &[Access], cache: u64) -> Vec<(&'static str, Outcome)> {
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
