//! `forebay cp`: a file or a directory to this machine.
//!
//! Always true here: a file appears under its name only when it is whole (it is written under another name and renamed), and
//! what an interrupted copy has half written is removed. Not here: resuming; a second copy starts anew.

mod local;
mod transfer;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay_client::Client;
use forebay_model::{ByteSize, Entry, NsPath};
use tokio::signal::unix::{SignalKind, signal};

use super::progress::{Progress, Style};
use crate::args::CpArgs;
use crate::connect::principal;
use crate::failure::Failure;
use crate::output::{Output, span_text};

use transfer::Transfers;
use walk::{Step, Walk};

/// Failed files after which the rest is given up: the reason is then the same for all.
const FAILURES_MAX: usize = 100;

/// Copies until everything is there or a signal comes.
pub(crate) async fn cp(client: Client, args: CpArgs, output: &mut Output) -> Result<(), Failure> {
    let style = if output.is_json() { Style::Silent } else { Style::of_process() };
    let progress = Progress::start(style);
    let copied = tokio::select! {
        copied = Box::pin(copy(&client, &args, &progress, output.is_json())) => copied,
        signal = interrupted() => Err(Failure::failed(format!("stopped by {}: files that were not whole are removed", signal?))),
    };
    let (totals, took) = progress.finish();
    let failed = copied?;
    let rate = ByteSize((totals.bytes as f64 / took.as_secs_f64().max(0.001)) as u64);
    if output.is_json() {
        output.object(&serde_json::json!({
            "event": "copied", "files": totals.files, "bytes": totals.bytes, "failed": failed,
            "seconds": took.as_secs_f64(), "bytes_per_second": rate.0,
        }))?;
    } else {
        let (files, bytes) = (totals.files, ByteSize(totals.bytes));
        output.line(format!("copied {files} files, {bytes} in {} ({rate}/s)", span_text(took)))?;
    }
    if failed > 0 { Err(Failure::Reported) } else { Ok(()) }
}

/// Copies and says how many files failed.
async fn copy(client: &Client, args: &CpArgs, progress: &Arc<Progress>, json: bool) -> Result<usize, Failure> {
    let path = &args.path;
    let found = client.lookup(principal(), path).await.map_err(|fault| Failure::fault(path, &fault))?;
    let target = target(path, &args.local, found.entry.is_directory())?;
    let mut transfers = Transfers::new(client.clone(), Arc::clone(progress));
    match found.entry {
        Entry::File(file) => {
            progress.expect(file.content.size);
            progress.counted();
            transfers.add(path.clone(), file, target).await?;
        }
        Entry::Directory(_) if !args.recursive => {
            return Err(Failure::usage(format!(
                "{path} is a directory: `forebay cp -r` copies it with everything in it"
            )));
        }
        Entry::Directory(_) => {
            let counting = tokio::spawn(count(client.clone(), path.clone(), Arc::clone(progress)));
            let copied = copy_directory(client, path, &target, &mut transfers, progress, json).await;
            counting.abort();
            copied?;
        }
    }
    while let Some(outcome) = transfers.next().await {
        note(outcome, &mut transfers, progress, json)?;
    }
    Ok(transfers.failed)
}

async fn copy_directory(
    client: &Client,
    path: &NsPath,
    target: &Path,
    transfers: &mut Transfers,
    progress: &Progress,
    json: bool,
) -> Result<(), Failure> {
    local::make_directory(target)?;
    let mut walk = Walk::new(client.clone(), path);
    while let Some(step) = walk.next().await {
        match step {
            Ok(Step::Directory { below }) => local::make_directory(&target.join(below))?,
            Ok(Step::File { path, below, file }) => {
                if let Some(outcome) = transfers.add(path, file, target.join(below)).await? {
                    note(outcome, transfers, progress, json)?;
                }
            }
            Err(failure) => note(Err(failure), transfers, progress, json)?,
        }
    }
    if walk.hidden > 0 {
        progress.say(&format!("{} keys have no name in a directory and are not copied", walk.hidden));
    }
    Ok(())
}

/// Counts what there is to copy, beside the copying, so that time left can be told.
async fn count(client: Client, path: NsPath, progress: Arc<Progress>) {
    let mut walk = Walk::new(client, &path);
    while let Some(step) = walk.next().await {
        match step {
            Ok(Step::File { file, .. }) => progress.expect(file.content.size),
            Ok(Step::Directory { .. }) => {}
            // The copying meets the same failure and tells it.
            Err(_) => return,
        }
    }
    progress.counted();
}

/// Tells a failed file and goes on, up to a bound.
fn note(
    outcome: Result<(), Failure>,
    transfers: &mut Transfers,
    progress: &Progress,
    json: bool,
) -> Result<(), Failure> {
    match outcome {
        Ok(()) => Ok(()),
        Err(failure @ Failure::Failed { kind: Some(_), .. }) => {
            progress.suspend(|| failure.report(json));
            transfers.failed += 1;
            if transfers.failed < FAILURES_MAX {
                return Ok(());
            }
            Err(Failure::failed(format!("given up after {FAILURES_MAX} files that could not be read")))
        }
        // This machine's disk: the next file would fail too.
        Err(failure) => Err(failure),
    }
}

/// Where the copy goes: into a directory that exists, else under the name that is given.
fn target(path: &NsPath, local: &Path, is_directory: bool) -> Result<PathBuf, Failure> {
    if local.is_dir() {
        return match path.name() {
            Some(name) => Ok(local.join(local::checked(name)?)),
            None => Ok(local.to_owned()),
        };
    }
    let text = local.as_os_str().as_encoded_bytes();
    if text.is_empty() || (text.ends_with(b"/") && !is_directory) {
        return Err(Failure::failed(format!("there is no directory {:?}: make it first", local.display())));
    }
    let parent = local.parent().filter(|parent| !parent.as_os_str().is_empty());
    match parent {
        Some(parent) if !parent.is_dir() => {
            Err(Failure::failed(format!("there is no directory {}: make it first", parent.display())))
        }
        _ => Ok(local.to_owned()),
    }
}

/// Waits for a signal that ends the copy, so that half-written files are removed.
async fn interrupted() -> Result<&'static str, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok("SIGINT"),
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::command::ranges::RANGE;
    use crate::command::testing::Tree;
    use crate::output::tests::Written;

    async fn run(tree: Tree, path: &str, local: &Path, recursive: bool) -> (Result<(), Failure>, serde_json::Value) {
        let written = Written::default();
        let mut output = written.output(true);
        let args = CpArgs { path: path.parse().unwrap(), local: local.to_owned(), recursive };
        let result = cp(tree.client(), args, &mut output).await;
        output.flush().unwrap();
        (result, serde_json::from_str(&written.text()).unwrap_or_default())
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_file_is_copied_whole_with_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = Tree::bytes(20 * RANGE + 3);
        let (result, line) = run(Tree::default().file("/s/f", &bytes), "/s/f", directory.path(), false).await;
        result.unwrap();
        assert!(std::fs::read(directory.path().join("f")).unwrap() == bytes);
        assert_eq!(names(directory.path()), ["f"]);
        let modified = std::fs::metadata(directory.path().join("f")).unwrap().modified().unwrap();
        assert_eq!(modified, std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
        assert_eq!((line["files"].as_u64(), line["bytes"].as_u64()), (Some(1), Some(bytes.len() as u64)));
    }

    #[tokio::test]
    async fn a_directory_is_copied_with_everything() {
        let directory = tempfile::tempdir().unwrap();
        let mut tree = Tree::default().file("/s/d/deep/er/x y", b"xy").file("/s/d/empty", b"");
        for index in 0..100 {
            tree = tree.file(&format!("/s/d/many/{index}"), format!("{index}").as_bytes());
        }
        let target = directory.path().join("new");
        let (result, line) = run(tree, "/s/d", &target, true).await;
        result.unwrap();
        assert_eq!(std::fs::read(target.join("deep/er/x y")).unwrap(), b"xy");
        assert_eq!(std::fs::read(target.join("many/99")).unwrap(), b"99");
        assert_eq!(std::fs::read(target.join("empty")).unwrap(), b"");
        assert_eq!(names(&target.join("many")).len(), 100);
        assert_eq!(line["files"], 102);
    }

    #[tokio::test]
    async fn what_fails_leaves_nothing_and_the_rest_is_copied() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::default().file("/s/d/a", b"a").broken("/s/d/b").file("/s/d/c", b"c");
        let (result, line) = run(tree, "/s/d", directory.path(), true).await;
        assert!(matches!(result, Err(Failure::Reported)));
        assert_eq!(names(&directory.path().join("d")), ["a", "c"]);
        assert_eq!(line["failed"], 1);
    }

    #[tokio::test]
    async fn wrong_targets_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("absent/f");
        let (result, _) = run(Tree::default().file("/s/f", b"f"), "/s/f", &absent, false).await;
        assert!(matches!(result, Err(Failure::Failed { message, .. }) if message.contains("absent")));
        let (result, _) = run(Tree::default().file("/s/f", b"f"), "/s", directory.path(), false).await;
        assert!(matches!(result, Err(Failure::Usage(message)) if message.contains("cp -r")));
        // A directory stands where the file should go.
        std::fs::create_dir_all(directory.path().join("f/inner")).unwrap();
        let (result, _) = run(Tree::default().file("/s/f", b"f"), "/s/f", directory.path(), false).await;
        assert!(result.is_err());
        assert_eq!(names(directory.path()), ["f"]);
    }
}
