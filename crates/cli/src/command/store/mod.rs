//! `forebay store check|ls|stat`: what lies in a cache directory, whether a process has it open or not.
//!
//! Always true here: nothing in the directory is changed. `forebay_store::Offline` looks at it as the store's recovery does.

mod check;
mod stat;

use std::ops::ControlFlow;

use forebay_model::ByteSize;
use forebay_store::{BootId, Content, Offline};
use serde_json::{Value, json};

use crate::args::{StoreArgs, StoreCommand};
use crate::failure::Failure;
use crate::output::Output;

/// Does what was asked for.
pub(crate) fn store(args: &StoreArgs, output: &mut Output) -> Result<(), Failure> {
    let (StoreCommand::Check(of) | StoreCommand::Ls(of) | StoreCommand::Stat(of)) = &args.command;
    let offline = Offline::open(&of.directory, None).map_err(|error| Failure::failed(error.to_string()))?;
    if let Some(pid) = offline.in_use_by() {
        let directory = of.directory.display();
        tracing::warn!(%directory, %pid, "a process has the cache directory open: what is read may be on the move");
    }
    match &args.command {
        StoreCommand::Check(_) => check::check(&offline, output),
        StoreCommand::Ls(_) => list(&offline, output),
        StoreCommand::Stat(_) => stat::stat(&offline, output),
    }
}

/// Each content on a line: id, kind, size, bytes that are here, group, whether they count as verified, file.
fn list(offline: &Offline, output: &mut Output) -> Result<(), Failure> {
    until_failed(|failed| {
        let _ = offline.contents(&mut |content| failed.note(line(content, output)));
    })
}

fn line(content: &Content, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.object(&content_object(content));
    }
    let Content { id, size, bytes_resident, group, file, .. } = content;
    let (kind, size, resident) = (content.kind.name(), ByteSize(*size), ByteSize(*bytes_resident));
    let verified = if content.is_verified { "verified" } else { "unverified" };
    output.line(format!("{id}  {kind}  {size:>9}  {resident:>9} here  group {:016x}  {verified:<10}  {file}", group.0))
}

/// What `ls` and `check` say of a content in JSON. A group is a hash: as a number programs would round it.
fn content_object(content: &Content) -> Value {
    json!({
        "content": content.id.to_string(),
        "kind": content.kind.name(),
        "size": content.size,
        "resident_bytes": content.bytes_resident,
        "pages": content.pages,
        "extents": content.extents,
        "group": format!("{:016x}", content.group.0),
        "verified": content.is_verified,
        "file": content.file,
    })
}

/// What `check` and `stat` say of the log in JSON.
fn log_object(offline: &Offline) -> Value {
    let log = offline.log();
    json!({
        "directory": offline.path().to_string_lossy(),
        "in_use_by": offline.in_use_by(),
        "format": log.format,
        "boot_id": log.boot.map(|boot: BootId| boot.to_string()),
        "log_bytes": log.bytes,
        "log_records": log.records,
        "log_cut_bytes": log.cut.as_ref().map_or(0, |cut| cut.bytes),
        "log_cut_why": log.cut.as_ref().map(|cut| cut.flaw.name()),
        "closed_in_order": log.is_closed,
        "believed": log.is_believed,
    })
}

/// The first failure of output within callbacks of the store, which know nothing of it.
#[derive(Default)]
struct Failed(Option<Failure>);

impl Failed {
    fn note(&mut self, outcome: Result<(), Failure>) -> ControlFlow<()> {
        match outcome {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                self.0 = Some(failure);
                ControlFlow::Break(())
            }
        }
    }
}

fn until_failed<T>(work: impl FnOnce(&mut Failed) -> T) -> Result<T, Failure> {
    let mut failed = Failed::default();
    let done = work(&mut failed);
    failed.0.map_or(Ok(done), Err)
}
