//! `forebay snapshot`: the versions of a source, written down by the process; this waits for it and shows how far it is.

use forebay_client::Client;
use forebay_model::{ByteSize, Snapshot, SnapshotState};
use serde_json::json;

use super::progress::{Meter, POLL_EVERY, Style};
use crate::args::{SnapshotArgs, file_address};
use crate::connect::principal;
use crate::failure::Failure;
use crate::output::Output;

/// Begins one and waits for its end. Interrupted, it leaves the process at work: the same command shows it again.
pub(crate) async fn snapshot(client: &Client, args: &SnapshotArgs, output: &mut Output) -> Result<(), Failure> {
    let to = args.to.as_deref().map(file_address).transpose();
    let to = to.map_err(|why| Failure::usage(format!("--to: {why}")))?;
    let failed = |fault| Failure::fault(format!("snapshot {}", args.name), &fault);
    let mut snapshot = client.snapshot(principal(), &args.path, &args.name, to.as_deref()).await.map_err(failed)?;
    let meter = Meter::start(Style::of_process(), "objects");
    loop {
        match &snapshot.state {
            SnapshotState::Listing => meter.show(&format!("listing {}", args.path), snapshot.objects),
            SnapshotState::Writing => {
                let written = ByteSize(snapshot.written);
                meter.show(&format!("{written} written to {}; it lists", snapshot.address), snapshot.objects);
            }
            SnapshotState::Done => break,
            SnapshotState::Failed(fault) => return Err(failed(fault.clone())),
        }
        tokio::time::sleep(POLL_EVERY).await;
        snapshot = client.snapshot_state(principal(), &args.name).await.map_err(failed)?;
    }
    drop(meter);
    print(&snapshot, output)
}

fn print(snapshot: &Snapshot, output: &mut Output) -> Result<(), Failure> {
    let Snapshot { name, path, address, objects, bytes, old_versions, written, state } = snapshot;
    if output.is_json() {
        return output.object(&json!({
            "event": "snapshot",
            "name": name,
            "path": path,
            "address": address,
            "objects": objects,
            "bytes": bytes,
            "old_versions": old_versions,
            "file_bytes": written,
            "state": state.name(),
        }));
    }
    output.line(format!(
        "{path} holds {objects} objects, {}, as they are now: {}",
        ByteSize(*bytes),
        output.name(address)
    ))?;
    output.line(promise(*objects, *old_versions))
}

/// What happens when an object is changed or deleted at the origin.
fn promise(objects: u64, old_versions: u64) -> String {
    match old_versions {
        0 => "an object that is changed or deleted from now on is an error that names it".to_owned(),
        _ if old_versions == objects => {
            "an object that is changed or deleted from now on is read in its version of now, while the bucket keeps it"
                .to_owned()
        }
        _ => format!(
            "{old_versions} of them are read in their version of now when they are changed or deleted, while the bucket keeps it; \
             another one that is changed is an error that names it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_can_do_is_said() {
        assert!(promise(3, 0).contains("an error that names it"));
        assert!(promise(3, 3).contains("read in its version of now"));
        assert!(promise(3, 2).starts_with("2 of them"));
    }
}
