//! Snapshots: the versions of a source, written down in a file and shown as a source of its own.
//!
//! Always true: a file is whole or it is not there; the registry learns of it after that; memory is bounded however many objects there
//! are. The registry holds the name and the address of a snapshot, and nothing of what is in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use forebay_catalog::Observed;
use forebay_manifest::{Builder, Line, Rules, SNAPSHOT_FORMAT, SnapshotHeader, SnapshotText};
use forebay_model::{Fault, FaultKind, Freshness, NsPath, SNAPSHOTS, Snapshot, SnapshotState, SourceSpec, TimestampNs};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::beside::in_place;
use crate::manifest::{ManifestFile, Manifests, fault_of};
use crate::namespace::Namespace;
use crate::source::Source;
use crate::sources::Sources;

/// Snapshots that are made at one time.
const RUNNING_MAX: usize = 4;
/// Snapshots that have ended and are still told of.
const ENDED_MAX: usize = 64;
/// The longest name.
const NAME_MAX: usize = 100;
/// How long the place of the file may take to answer.
const ASK_MAX: Duration = Duration::from_secs(30);
/// Where Forebay writes in an origin, below a source's prefix: no part of a snapshot.
const OWN: &str = ".forebay/";

/// The snapshots that were begun since the start.
pub(crate) struct Snapshots {
    manifests: Arc<Manifests>,
    namespace: Arc<Namespace>,
    sources: Arc<Sources>,
    runtime: Handle,
    begun: Mutex<Vec<Arc<Running>>>,
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshots").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// One that is being made, or was.
struct Running {
    name: String,
    path: NsPath,
    address: String,
    objects: AtomicU64,
    bytes: AtomicU64,
    old_versions: AtomicU64,
    written: AtomicU64,
    state: Mutex<SnapshotState>,
}

impl Running {
    fn told(&self) -> Snapshot {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Snapshot {
            name: self.name.clone(),
            path: self.path.clone(),
            address: self.address.clone(),
            objects: count(&self.objects),
            bytes: count(&self.bytes),
            old_versions: count(&self.old_versions),
            written: count(&self.written),
            state: self.state.lock().clone(),
        }
    }

    fn is_running(&self) -> bool {
        matches!(*self.state.lock(), SnapshotState::Listing | SnapshotState::Writing)
    }
}

impl Snapshots {
    pub(crate) fn new(
        manifests: Arc<Manifests>,
        namespace: Arc<Namespace>,
        sources: Arc<Sources>,
        runtime: Handle,
    ) -> Self {
        Self { manifests, namespace, sources, runtime, begun: Mutex::default() }
    }

    /// How far it is.
    pub(crate) fn told(&self, name: &str) -> Result<Snapshot, Fault> {
        let begun = self.begun.lock();
        let found = begun.iter().rev().find(|running| running.name == name);
        found.map(|running| running.told()).ok_or_else(|| {
            Fault::new(FaultKind::NotFound, format!("no snapshot {name} was begun since the start of the process"))
        })
    }

    /// Begins one; if it was begun already, tells how far it is.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        path: &NsPath,
        name: &str,
        to: Option<&str>,
    ) -> Result<Snapshot, Fault> {
        let shown = path_of(name)?;
        let source = self.namespace.at(path.as_str()).ok_or_else(|| {
            let why = format!("there is no source at {path}: a snapshot is made of a source, `source list` names all");
            Fault::new(FaultKind::NotFound, why)
        })?;
        if let Some(running) = self.begun.lock().iter().find(|running| running.name == name && running.is_running()) {
            return Ok(running.told());
        }
        if self.namespace.at(shown.as_str()).is_some() {
            let why = format!("there is a snapshot {name} already: `source remove {shown}` takes it away");
            return Err(invalid(why));
        }
        if to.is_none() && source.spec.read_only {
            let why = format!("{path} is read-only: name a place for the file by `--to`");
            return Err(Fault::new(FaultKind::ReadOnly, why));
        }
        let own = || format!("{}/{OWN}snapshots/{name}.jsonl", source.spec.origin.trim_end_matches('/'));
        let address = to.map_or_else(own, str::to_owned);
        if !address.ends_with(".jsonl") {
            return Err(invalid(format!("{address}: the file of a snapshot is named NAME.jsonl")));
        }
        let file = (self.manifests.open)(&source.spec, &address)?;
        match file.upstream.stat(&file.key, Instant::now() + ASK_MAX).await? {
            Observed::Absent => {}
            Observed::File(_) | Observed::Directory => {
                return Err(invalid(format!("{address} is there already: choose another name, or delete it first")));
            }
        }
        let running = Arc::new(Running {
            name: name.to_owned(),
            path: shown,
            address,
            objects: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            old_versions: AtomicU64::new(0),
            written: AtomicU64::new(0),
            state: Mutex::new(SnapshotState::Listing),
        });
        {
            let mut begun = self.begun.lock();
            if let Some(other) = begun.iter().find(|other| other.name == name && other.is_running()) {
                return Ok(other.told());
            }
            if begun.iter().filter(|running| running.is_running()).count() >= RUNNING_MAX {
                return Err(invalid(format!("{RUNNING_MAX} snapshots are being made: wait for one of them")));
            }
            begun.retain(|running| running.name != name);
            if begun.len() >= ENDED_MAX {
                let oldest = begun.iter().position(|running| !running.is_running());
                oldest.map(|at| begun.remove(at));
            }
            begun.push(Arc::clone(&running));
        }
        let (snapshots, ours) = (Arc::clone(self), Arc::clone(&running));
        self.runtime.spawn(async move {
            // A task of its own, so that whatever ends it the state is told.
            let work = tokio::spawn({
                let ours = Arc::clone(&ours);
                async move { snapshots.make(&source, &ours, file).await }
            });
            let made = work.await.unwrap_or_else(|error| Err(Fault::new(FaultKind::Bug, error.to_string())));
            *ours.state.lock() = match made {
                Ok(()) => SnapshotState::Done,
                Err(fault) => {
                    tracing::warn!(snapshot = ours.name, %fault, "the snapshot cannot be made");
                    SnapshotState::Failed(fault)
                }
            };
        });
        Ok(running.told())
    }

    async fn make(&self, source: &Arc<Source>, running: &Running, file: ManifestFile) -> Result<(), Fault> {
        let taken = SystemTime::now();
        let directory = &self.manifests.directory;
        std::fs::create_dir_all(directory).map_err(|error| {
            Fault::new(FaultKind::Unavailable, format!("cannot make the directory {}: {error}", directory.display()))
        })?;
        let mut builder = in_place(|| Builder::new(directory, Rules::default(), Arc::default())).map_err(fault_of)?;
        let prefix = source.facts.prefix.to_string();
        let own = format!("{prefix}{OWN}");
        let mut markers = 0;
        let mut sink = |lines: Vec<Line>| {
            in_place(|| {
                for line in lines.into_iter().filter(|line| !line.key.starts_with(&own) && line.key != prefix) {
                    running.objects.fetch_add(1, Ordering::Relaxed);
                    markers += u64::from(line.key.ends_with('/'));
                    running.bytes.fetch_add(line.size.unwrap_or(0), Ordering::Relaxed);
                    running.old_versions.fetch_add(u64::from(line.version_id.is_some()), Ordering::Relaxed);
                    builder.push(line)?;
                }
                Ok(())
            })
            .map_err(fault_of)
        };
        source.upstream.list_all(&source.facts.prefix, &mut sink).await?;
        let index = in_place(|| builder.finish("", None)).map_err(fault_of)?;
        *running.state.lock() = SnapshotState::Writing;
        match running.old_versions.load(Ordering::Relaxed) {
            0 => {}
            // A generation is a proof, and no promise that old ones are kept.
            _ if &*source.facts.origin.scheme == "gs" => running.old_versions.store(0, Ordering::Relaxed),
            // What stands for an empty directory has no bytes that could change.
            _ => drop(running.old_versions.fetch_add(markers, Ordering::Relaxed)),
        }
        let header = SnapshotHeader {
            forebay_snapshot: SNAPSHOT_FORMAT,
            name: running.name.clone(),
            source: source.spec.path.to_string(),
            origin: source.spec.origin.clone(),
            taken: humantime::format_rfc3339_seconds(taken).to_string(),
            objects: index.facts().objects,
            bytes: index.facts().bytes,
            old_versions: running.old_versions.load(Ordering::Relaxed),
        };
        let mut upload = file.upstream.upload(&file.key, Instant::now() + ASK_MAX).await?;
        let written = async {
            let mut text = SnapshotText::new(header, &index);
            while let Some(part) = in_place(|| text.next_part()).map_err(fault_of)? {
                let length = part.len() as u64;
                upload.write(part).await?;
                running.written.fetch_add(length, Ordering::Relaxed);
            }
            upload.finish().await
        };
        if let Err(fault) = written.await {
            upload.abort().await;
            return Err(fault);
        }
        let added = taken.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let spec = SourceSpec {
            path: running.path.clone(),
            manifest: Some(running.address.clone()),
            freshness: Freshness::Immutable,
            added: TimestampNs(i64::try_from(added).unwrap_or(i64::MAX)),
            quota: None,
            read_only: true,
            ..source.spec.clone()
        };
        let info = self.sources.add(spec).await?;
        match info.problem {
            Some(why) => Err(Fault::new(FaultKind::Unavailable, format!("it was written and does not answer: {why}"))),
            None => Ok(()),
        }
    }
}

/// Where the snapshot of that name is shown.
fn path_of(name: &str) -> Result<NsPath, Fault> {
    let fits = (1..=NAME_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let wrong =
        || invalid(format!("{name:?} is no name of a snapshot: 1 to {NAME_MAX} letters, digits, `-`, `_` and `.`"));
    if !fits {
        return Err(wrong());
    }
    format!("{SNAPSHOTS}/{name}").parse().map_err(|_| wrong())
}

fn invalid(why: String) -> Fault {
    Fault::new(FaultKind::Invalid, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        assert_eq!(path_of("run-7_b.2").map(|path| path.to_string()).as_deref(), Ok("/.snapshots/run-7_b.2"));
        for name in ["", ".", "..", ".x", "a/b", "a b", "é", "-x", &"x".repeat(101)] {
            assert!(path_of(name).is_err(), "{name:?}");
        }
    }
}
