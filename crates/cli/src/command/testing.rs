//! A service over a tree in memory, for tests of the commands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use forebay_client::Client;
use forebay_model::{
    ByteRange, ByteSize, Content, ContentId, DirectoryEntry, Entry, Fault, FaultKind, FileEntry, Found, ListedEntry,
    ListedPage, NsPath, ObjectEvent, OriginId, Refreshed, Snapshot, SnapshotState, SourceChange, SourceInfo,
    SourceSpec, TimestampNs, Trace, TraceState, Version,
};
use forebay_route::{Context, Handout, ReadNow, Service};

/// Files by path; directories are their prefixes.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, Bytes>,
    /// A path whose reads fail.
    broken: Option<String>,
}

const MTIME: TimestampNs = TimestampNs(1_000_000_000_000_000_000);

impl Tree {
    /// With a file.
    pub(crate) fn file(mut self, path: &str, bytes: &[u8]) -> Self {
        self.files.insert(path.to_owned(), Bytes::copy_from_slice(bytes));
        self
    }

    /// With a file that cannot be read.
    pub(crate) fn broken(mut self, path: &str) -> Self {
        self.broken = Some(path.to_owned());
        self.file(path, b"never seen")
    }

    /// A client that asks it.
    pub(crate) fn client(self) -> Client {
        Client::new(Arc::new(self), Duration::from_secs(10))
    }

    /// Bytes of which no two ranges are alike.
    pub(crate) fn bytes(len: u64) -> Vec<u8> {
        (0..len).map(|index| (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
    }

    fn entry(&self, path: &str) -> Option<Entry> {
        if let Some(bytes) = self.files.get(path) {
            let key = path.splitn(3, '/').nth(2).unwrap_or_default();
            let origin = OriginId { scheme: "s3".into(), endpoint: "".into(), bucket: "b".into() };
            let version = Version::Etag("\"e\"".into());
            let id = ContentId::derive(&origin, key, &version, bytes.len() as u64);
            let content = Content { source: "/s".into(), key: key.into(), version, size: bytes.len() as u64, id };
            return Some(Entry::File(Arc::new(FileEntry { content, mtime: MTIME })));
        }
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let exists = path == "/" || self.files.keys().any(|file| file.starts_with(&prefix));
        exists.then_some(Entry::Directory(DirectoryEntry { mtime: MTIME }))
    }
}

#[async_trait]
impl Service for Tree {
    fn lookup_now(&self, _: &Context, _: &NsPath) -> Option<Result<Found, Fault>> {
        None
    }

    async fn lookup(&self, _: &Context, path: &NsPath) -> Result<Found, Fault> {
        let entry =
            self.entry(path.as_str()).ok_or_else(|| Fault::new(FaultKind::NotFound, "there is no such object"))?;
        Ok(Found { entry, fresh_for: Duration::from_secs(60) })
    }

    fn list_now(&self, _: &Context, _: &NsPath, _: &str, _: u32) -> Option<Result<ListedPage, Fault>> {
        None
    }

    async fn list(&self, _: &Context, path: &NsPath, after: &str, limit: u32) -> Result<ListedPage, Fault> {
        let prefix = format!("{}/", path.as_str().trim_end_matches('/'));
        let mut names: Vec<&str> =
            self.files.keys().filter_map(|file| file.strip_prefix(&prefix)?.split('/').next()).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| *name > after);
        let more = names.len() > limit as usize;
        names.truncate(limit as usize);
        let entry = |name: &str| ListedEntry {
            name: name.into(),
            entry: self.entry(&format!("{prefix}{name}")).expect("a name of the tree"),
        };
        Ok(ListedPage {
            entries: names.into_iter().map(entry).collect(),
            more,
            hidden: 0,
            fresh_for: std::time::Duration::ZERO,
        })
    }

    fn read_now(&self, _: &Context, _: &Content, _: ByteRange, _: &mut [u8]) -> ReadNow {
        ReadNow::Absent
    }

    async fn read(&self, _: &Context, content: &Content, range: ByteRange) -> Result<Vec<Bytes>, Fault> {
        let path = format!("{}/{}", content.source, content.key);
        if self.broken.as_ref() == Some(&path) {
            return Err(Fault::new(FaultKind::Unavailable, "the origin answers with failures"));
        }
        let bytes = self.files[&path].slice(range.start as usize..range.end as usize);
        let half = bytes.len() / 2;
        Ok(vec![bytes.slice(..half), bytes.slice(half..)])
    }

    fn descriptor(&self, _: &Context, _: &Content) -> Option<Handout> {
        None
    }

    async fn status(&self, _: &Context) -> Result<String, Fault> {
        Ok(r#"{"version":"1","cache":[{"directory":"/c","capacity_bytes":1000000}],"node":{"uptime_seconds":61}}"#
            .to_owned())
    }

    async fn start_trace(&self, _: &Context, file: &str, _: ByteSize) -> Result<Trace, Fault> {
        Ok(Trace { file: file.to_owned(), reads: 0, dropped: 0, bytes: 60, state: TraceState::Running })
    }

    async fn stop_trace(&self, _: &Context, file: Option<&str>) -> Result<Trace, Fault> {
        let state = match file {
            Some("/failed") => TraceState::Failed("no space".to_owned()),
            Some("/full") => TraceState::Full,
            _ => TraceState::Stopped,
        };
        Ok(Trace { file: file.unwrap_or("/t").to_owned(), reads: 7, dropped: 1, bytes: 1_000, state })
    }

    async fn sources(&self, _: &Context) -> Result<Vec<SourceInfo>, Fault> {
        let spec = SourceSpec::new("/s".parse().expect("a path"), "s3://b".to_owned(), MTIME);
        Ok(vec![SourceInfo {
            spec,
            proof: "precondition".to_owned(),
            problem: Some("it is away".to_owned()),
            manifest: None,
        }])
    }

    async fn add_source(&self, _: &Context, spec: SourceSpec) -> Result<SourceInfo, Fault> {
        Ok(SourceInfo { spec, proof: "precondition".to_owned(), problem: None, manifest: None })
    }

    async fn set_source(&self, context: &Context, path: &NsPath, change: SourceChange) -> Result<SourceInfo, Fault> {
        let known = self.sources(context).await?.into_iter().find(|info| info.spec.path == *path);
        let known = known.ok_or_else(|| Fault::new(FaultKind::NotFound, "there is no such source"))?;
        Ok(SourceInfo { spec: change.applied(known.spec), proof: known.proof, problem: None, manifest: None })
    }

    async fn remove_source(&self, context: &Context, path: &NsPath) -> Result<SourceInfo, Fault> {
        self.set_source(context, path, SourceChange::default()).await
    }

    async fn snapshot(&self, context: &Context, _: &NsPath, name: &str, _: Option<&str>) -> Result<Snapshot, Fault> {
        self.snapshot_state(context, name).await
    }

    async fn snapshot_state(&self, _: &Context, name: &str) -> Result<Snapshot, Fault> {
        let state = if name == "bad" {
            SnapshotState::Failed(Fault::new(FaultKind::Denied, "it may not be written"))
        } else {
            SnapshotState::Done
        };
        let path = format!("/.snapshots/{name}").parse().expect("a path");
        let address = format!("s3://b/.forebay/snapshots/{name}.jsonl");
        Ok(Snapshot {
            name: name.to_owned(),
            path,
            address,
            objects: 3,
            bytes: 9,
            old_versions: 3,
            written: 200,
            state,
        })
    }

    async fn refresh(&self, _: &Context, path: &NsPath, recursive: bool) -> Result<Refreshed, Fault> {
        if self.entry(path.as_str()).is_none() {
            return Err(Fault::new(FaultKind::NotFound, format!("no source shows {path}")));
        }
        let names = if recursive { 1_234_567 } else { 1 };
        let is_late = self.broken.as_deref() == Some(path.as_str());
        Ok(Refreshed { names, mounts: u32::from(!is_late), mounts_late: u32::from(is_late), ..Refreshed::default() })
    }

    async fn events(&self, _: &Context, source: &NsPath, events: Vec<ObjectEvent>) -> Result<Refreshed, Fault> {
        if source.as_str() != "/s" {
            return Err(Fault::new(FaultKind::NotFound, format!("there is no source at {source}")));
        }
        let (ours, others): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| !event.key.starts_with("other"));
        let (names, ignored) = (ours.len() as u64, others.len() as u64);
        Ok(Refreshed { names, ignored, mounts: 1, ..Refreshed::default() })
    }
}
