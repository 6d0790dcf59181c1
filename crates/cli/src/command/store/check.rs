//! `forebay store check`: every byte compared with its checksum, and what the next start will drop.

use std::time::Duration;

use forebay_model::ByteSize;
use forebay_store::{Event, Finding, Flaw, Level, Lost, Offline, PackReport, Summary};
use serde_json::{Value, json};

use super::{content_object, log_object, until_failed};
use crate::command::progress::{Progress, Style};
use crate::failure::Failure;
use crate::output::{Output, span_text};

/// Reads everything. Fails, after all was told, if anything is wrong.
pub(super) fn check(offline: &Offline, output: &mut Output) -> Result<(), Failure> {
    let progress = Progress::start(if output.is_json() { Style::Silent } else { Style::of_process() });
    progress.expect_many(offline.files(), offline.bytes_to_read());
    progress.counted();
    if output.is_json() {
        output.object(&with_event("log", log_object(offline)))?;
    }
    let checked = until_failed(|failed| {
        offline.check(Level::Data, &mut |event| {
            match event {
                Event::Read(bytes) => progress.add_bytes(bytes),
                Event::Pack(_) | Event::Large(_) => progress.add_file(),
                Event::Finding(_) => {}
            }
            failed.note(tell(&progress, &event, output))
        })
    });
    let (_, took) = progress.finish();
    let summary = checked?.unwrap_or_default();
    if output.is_json() {
        output.object(&summary_object(&summary, took))?;
    } else {
        output.line(text(offline, &summary, took))?;
    }
    if summary.is_whole() { Ok(()) } else { Err(Failure::Reported) }
}

/// Prints what came up, with the bar out of the way.
fn tell(progress: &Progress, event: &Event<'_>, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return match event {
            Event::Read(_) => Ok(()),
            Event::Pack(pack) => output.object(&pack_object(pack)),
            Event::Large(content) => output.object(&with_event("large", content_object(content))),
            Event::Finding(finding) => output.object(&finding_object(finding)),
        };
    }
    match event {
        Event::Finding(finding) => progress.suspend(|| {
            output.line(finding_line(finding))?;
            if output.is_terminal() { output.flush() } else { Ok(()) }
        }),
        _ => Ok(()),
    }
}

fn finding_line(finding: &Finding) -> String {
    let Finding { file, offset, bytes, flaw, fate, .. } = finding;
    let of = finding.content.map_or(String::new(), |id| format!(", of content {id}"));
    let with = match finding.lost {
        Lost::Nothing => String::new(),
        lost => format!(", with {lost}"),
    };
    match flaw {
        Flaw::Stray | Flaw::Missing => format!("{file}: {flaw}, {bytes} bytes{of}; {fate}{with}"),
        _ => format!("{file}: {bytes} bytes at {offset}{of}: {flaw}; {fate}{with}"),
    }
}

fn text(offline: &Offline, summary: &Summary, took: Duration) -> String {
    let rate = ByteSize((summary.bytes_compared as f64 / took.as_secs_f64().max(0.001)) as u64);
    let read = format!("{} read in {} ({rate}/s)", ByteSize(summary.bytes_compared), span_text(took));
    let holds = format!("{} contents, {} of them here", summary.contents, ByteSize(summary.bytes_resident));
    let directory = offline.path().display();
    if summary.is_whole() {
        return format!("{directory} is whole: {holds}; {read}");
    }
    let mut text = format!("{directory} is not whole, {} findings: {holds}; {read}", summary.findings);
    if summary.contents_lost > 0 {
        let lost = ByteSize(summary.bytes_lost);
        text += &format!("; {lost} of {} contents are dropped when they are next read", summary.contents_lost);
    }
    for (bytes, what) in [
        (offline.log().cut.as_ref().map_or(0, |cut| cut.bytes), "are cut off the log"),
        (summary.bytes_stray, "of files that no record names are removed"),
        (summary.bytes_served, "are damaged and given to readers until they are scrubbed"),
    ] {
        if bytes > 0 {
            text += &format!("; {} {what}", ByteSize(bytes));
        }
    }
    text
}

fn with_event(event: &str, mut object: Value) -> Value {
    object["event"] = json!(event);
    object
}

fn pack_object(pack: &PackReport) -> Value {
    json!({
        "event": "pack",
        "file": pack.file,
        "group": format!("{:016x}", pack.group.0),
        "bytes": pack.bytes,
        "entries": pack.entries,
        "live_bytes": pack.bytes_live,
        "dead_bytes": pack.bytes_dead,
        "lost_entries": pack.entries_lost,
    })
}

fn finding_object(finding: &Finding) -> Value {
    json!({
        "event": "finding",
        "file": finding.file,
        "offset": finding.offset,
        "bytes": finding.bytes,
        "content": finding.content.map(|id| id.to_string()),
        "flaw": finding.flaw.name(),
        "fate": finding.fate.name(),
        "lost": finding.lost.to_string(),
        "message": finding_line(finding),
    })
}

fn summary_object(summary: &Summary, took: Duration) -> Value {
    json!({
        "event": "checked",
        "whole": summary.is_whole(),
        "findings": summary.findings,
        "contents": summary.contents,
        "resident_bytes": summary.bytes_resident,
        "pack_bytes": summary.bytes_packs,
        "dead_bytes": summary.bytes_dead,
        "compared_bytes": summary.bytes_compared,
        "lost_contents": summary.contents_lost,
        "lost_bytes": summary.bytes_lost,
        "served_bytes": summary.bytes_served,
        "stray_bytes": summary.bytes_stray,
        "seconds": took.as_secs_f64(),
    })
}
