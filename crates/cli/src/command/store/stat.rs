//! `forebay store stat`: how much lies in a cache directory.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use forebay_model::ByteSize;
use forebay_store::{Group, Kind, Level, Offline, Summary};
use serde_json::json;

use super::log_object;
use crate::failure::Failure;
use crate::output::Output;

/// Contents, and bytes of them that are here.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    contents: u64,
    bytes: u64,
}

/// By kind and by group.
#[derive(Debug, Default)]
struct Sums {
    kinds: BTreeMap<Kind, Sum>,
    groups: BTreeMap<Group, Sum>,
}

/// Shows the totals. Reads the log, and the lengths of files.
pub(super) fn stat(offline: &Offline, output: &mut Output) -> Result<(), Failure> {
    let mut sums =
        Sums { kinds: [Kind::Small, Kind::Large].map(|kind| (kind, Sum::default())).into(), ..Sums::default() };
    let _ = offline.contents(&mut |content| {
        for sum in [sums.kinds.entry(content.kind).or_default(), sums.groups.entry(content.group).or_default()] {
            sum.contents += 1;
            sum.bytes += content.bytes_resident;
        }
        ControlFlow::Continue(())
    });
    // It is broken off by nobody.
    let summary = offline.check(Level::Files, &mut |_| ControlFlow::Continue(())).unwrap_or_default();
    if output.is_json() {
        print_json(offline, &sums, &summary, output)
    } else {
        print(offline, &sums, &summary, output)
    }
}

fn print_json(offline: &Offline, sums: &Sums, summary: &Summary, output: &mut Output) -> Result<(), Failure> {
    let sum = |sum: &Sum| json!({ "contents": sum.contents, "resident_bytes": sum.bytes });
    let kinds: serde_json::Map<_, _> = sums.kinds.iter().map(|(kind, of)| (kind.name().to_owned(), sum(of))).collect();
    let groups = sums.groups.iter().map(|(group, of)| (format!("{:016x}", group.0), sum(of)));
    let groups: serde_json::Map<_, _> = groups.collect();
    let mut object = log_object(offline);
    object["contents"] = json!(summary.contents);
    object["resident_bytes"] = json!(summary.bytes_resident);
    object["kinds"] = json!(kinds);
    object["groups"] = json!(groups);
    object["pack_bytes"] = json!(summary.bytes_packs);
    object["dead_bytes"] = json!(summary.bytes_dead);
    object["dead_share"] = json!(dead_share(summary));
    object["stray_bytes"] = json!(summary.bytes_stray);
    object["findings"] = json!(summary.findings);
    output.object(&object)
}

fn print(offline: &Offline, sums: &Sums, summary: &Summary, output: &mut Output) -> Result<(), Failure> {
    let log = offline.log();
    let yes = |is: bool| if is { "yes" } else { "no" };
    output.line(offline.path().display())?;
    output
        .line(format!("  format           {}", log.format.map_or("unknown".to_owned(), |format| format.to_string())))?;
    output.line(format!("  written in boot  {}", log.boot.map_or("none".to_owned(), |boot| boot.to_string())))?;
    output.line(format!("  closed in order  {}", yes(log.is_closed)))?;
    output.line(format!("  believed         {}", yes(log.is_believed)))?;
    output.line(format!("  in use by        {}", offline.in_use_by().unwrap_or("no process")))?;
    output.line(format!("  index log        {} records, {}", log.records, ByteSize(log.bytes)))?;
    if let Some(cut) = &log.cut {
        output.line(format!("  to be cut off    {} bytes at {}: {}", cut.bytes, cut.offset, cut.flaw))?;
    }
    output.line(format!(
        "  contents         {}, {} of them here",
        summary.contents,
        ByteSize(summary.bytes_resident)
    ))?;
    for (kind, sum) in &sums.kinds {
        output.line(format!("    {:<16} {:>10}  {:>9}", kind.name(), sum.contents, ByteSize(sum.bytes)))?;
    }
    for (group, sum) in &sums.groups {
        output.line(format!("    {:016x} {:>10}  {:>9}", group.0, sum.contents, ByteSize(sum.bytes)))?;
    }
    let (packs, dead) = (ByteSize(summary.bytes_packs), ByteSize(summary.bytes_dead));
    output.line(format!("  packs            {packs}, {dead} of them dead ({:.0}%)", 100.0 * dead_share(summary)))?;
    output.line(format!("  strays           {}", ByteSize(summary.bytes_stray)))?;
    output.line(format!("  findings         {}; `check` names them and reads the data too", summary.findings))
}

/// The part of packs that no entry takes.
fn dead_share(summary: &Summary) -> f64 {
    summary.bytes_dead as f64 / summary.bytes_packs.max(1) as f64
}
