//! A service in memory: a tree of names, contents by id, and what a test wants to go wrong.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Bound;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use forebay_client::{Handout, ReadNow};
use forebay_model::{
    ByteRange, ByteSize, Content, ContentId, DirectoryEntry, Entry, Fault, FaultKind, FileEntry, Found, ListedEntry,
    ListedPage, NsPath, ObjectEvent, OriginId, Refreshed, Snapshot, SourceChange, SourceInfo, SourceSpec, TimestampNs,
    Trace, Version,
};
use forebay_route::{Context, Service};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(crate) struct Fake {
    tree: Mutex<BTreeMap<(String, String), Entry>>,
    contents: Mutex<HashMap<ContentId, Bytes>>,
    files: Mutex<HashMap<ContentId, PathBuf>>,
    faults: Mutex<HashMap<String, FaultKind>>,
    versions: AtomicU64,
    /// Whether the `_now` calls know anything.
    pub(crate) at_hand: AtomicBool,
    /// For how long answers may be held, in ms.
    pub(crate) fresh_ms: AtomicU64,
    /// For how long an absence may be held, in ms.
    pub(crate) absent_ms: AtomicU64,
    /// Reads never end while set.
    pub(crate) hang: AtomicBool,
    /// Told when a read hangs.
    pub(crate) hung: Notify,
    /// Reads panic while set.
    pub(crate) panic: AtomicBool,
    /// Reads of what is at hand panic while set.
    pub(crate) panic_at_hand: AtomicBool,
    /// Reads come back a byte short while set.
    pub(crate) short: AtomicBool,
    pub(crate) leases: Arc<()>,
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            tree: Mutex::default(),
            contents: Mutex::default(),
            files: Mutex::default(),
            faults: Mutex::default(),
            versions: AtomicU64::new(0),
            at_hand: AtomicBool::new(true),
            fresh_ms: AtomicU64::new(3_600_000),
            absent_ms: AtomicU64::new(60_000),
            hang: AtomicBool::new(false),
            hung: Notify::new(),
            panic: AtomicBool::new(false),
            panic_at_hand: AtomicBool::new(false),
            short: AtomicBool::new(false),
            leases: Arc::new(()),
        })
    }

    /// Makes `path` a file with these bytes, in a version of its own, and all directories above it.
    pub(crate) fn put(&self, path: &str, bytes: impl Into<Bytes>) -> ContentId {
        let bytes = bytes.into();
        let version = Version::Id(self.versions.fetch_add(1, Ordering::Relaxed).to_string().into());
        let origin = OriginId { scheme: "s3".into(), endpoint: "".into(), bucket: "b".into() };
        let id = ContentId::derive(&origin, path, &version, bytes.len() as u64);
        let content = Content { source: "/".into(), key: path.into(), version, size: bytes.len() as u64, id };
        self.contents.lock().insert(id, bytes);
        let file = FileEntry { content, mtime: TimestampNs(1_700_000_000_123_456_789) };
        self.insert(path, Entry::File(Arc::new(file)));
        id
    }

    /// Like [`Self::put`], with the bytes of a file that may be handed out.
    pub(crate) fn put_file(&self, path: &str, file: PathBuf) -> ContentId {
        let id = self.put(path, std::fs::read(&file).unwrap());
        self.files.lock().insert(id, file);
        id
    }

    /// From now on `id` lies whole in `file`.
    pub(crate) fn now_whole(&self, id: ContentId, file: PathBuf) {
        self.files.lock().insert(id, file);
    }

    /// From now on the bytes of `id` cannot be had: the object has changed.
    pub(crate) fn lose(&self, id: ContentId) {
        self.contents.lock().remove(&id);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.tree.lock().remove(&split(path));
    }

    /// From now on everything asked of `path` fails.
    pub(crate) fn fail(&self, path: &str, kind: FaultKind) {
        self.faults.lock().insert(path.to_owned(), kind);
    }

    fn insert(&self, path: &str, entry: Entry) {
        let mut tree = self.tree.lock();
        let mut key = split(path);
        tree.insert(key.clone(), entry);
        while key.0 != "/" {
            key = split(&key.0);
            let directory = Entry::Directory(DirectoryEntry { mtime: TimestampNs(1_600_000_000_000_000_000) });
            tree.entry(key.clone()).or_insert(directory);
        }
    }

    fn fault(&self, path: &str) -> Result<(), Fault> {
        match self.faults.lock().get(path) {
            Some(kind) => Err(Fault::new(*kind, format!("{path} fails because the test says so"))),
            None => Ok(()),
        }
    }

    fn find(&self, path: &NsPath) -> Result<Found, Fault> {
        self.fault(path.as_str())?;
        let entry = if path.is_root() {
            Entry::Directory(DirectoryEntry { mtime: TimestampNs(0) })
        } else {
            let held = Duration::from_millis(self.absent_ms.load(Ordering::Relaxed));
            let none = || Fault::absent(format!("{path} does not exist"), held);
            self.tree.lock().get(&split(path.as_str())).cloned().ok_or_else(none)?
        };
        Ok(Found { entry, fresh_for: Duration::from_millis(self.fresh_ms.load(Ordering::Relaxed)) })
    }

    fn page(&self, path: &NsPath, after: &str, limit: u32) -> Result<ListedPage, Fault> {
        if !self.find(path)?.entry.is_directory() {
            return Err(Fault::new(FaultKind::NotADirectory, format!("{path} is a file")));
        }
        let tree = self.tree.lock();
        let from = Bound::Excluded((path.as_str().to_owned(), after.to_owned()));
        let mut names = tree.range((from, Bound::Unbounded)).take_while(|((dir, _), _)| dir == path.as_str());
        let listed = |((_, name), entry): (&(String, String), &Entry)| ListedEntry {
            name: name.as_str().into(),
            entry: entry.clone(),
        };
        let entries = names.by_ref().take(limit as usize).map(listed).collect();
        Ok(ListedPage {
            entries,
            more: names.next().is_some(),
            hidden: 0,
            fresh_for: Duration::from_millis(self.fresh_ms.load(Ordering::Relaxed)),
        })
    }

    fn bytes(&self, content: &Content) -> Option<Bytes> {
        self.contents.lock().get(&content.id).cloned()
    }

    fn at_hand(&self) -> bool {
        self.at_hand.load(Ordering::Relaxed)
    }
}

/// The directory and the name.
fn split(path: &str) -> (String, String) {
    let (directory, name) = path.rsplit_once('/').unwrap();
    (if directory.is_empty() { "/" } else { directory }.to_owned(), name.to_owned())
}

#[async_trait]
impl Service for Fake {
    fn lookup_now(&self, _: &Context, path: &NsPath) -> Option<Result<Found, Fault>> {
        self.at_hand().then(|| self.find(path))
    }

    async fn lookup(&self, _: &Context, path: &NsPath) -> Result<Found, Fault> {
        tokio::task::yield_now().await;
        self.find(path)
    }

    fn list_now(&self, _: &Context, path: &NsPath, after: &str, limit: u32) -> Option<Result<ListedPage, Fault>> {
        self.at_hand().then(|| self.page(path, after, limit))
    }

    async fn list(&self, _: &Context, path: &NsPath, after: &str, limit: u32) -> Result<ListedPage, Fault> {
        tokio::task::yield_now().await;
        self.page(path, after, limit)
    }

    fn read_now(&self, _: &Context, content: &Content, range: ByteRange, buffer: &mut [u8]) -> ReadNow {
        assert!(!self.panic_at_hand.load(Ordering::Relaxed), "the test wants a panic");
        match self.bytes(content).filter(|_| self.at_hand()) {
            Some(bytes) => {
                buffer.copy_from_slice(&bytes[range.start as usize..range.end as usize]);
                ReadNow::Filled
            }
            None => {
                buffer.fill(0xEE);
                ReadNow::Absent
            }
        }
    }

    async fn read(&self, _: &Context, content: &Content, range: ByteRange) -> Result<Vec<Bytes>, Fault> {
        tokio::task::yield_now().await;
        assert!(!self.panic.load(Ordering::Relaxed), "the test wants a panic");
        if self.hang.load(Ordering::Relaxed) {
            self.hung.notify_one();
            std::future::pending::<()>().await;
        }
        self.fault(&content.key)?;
        let changed = || Fault::new(FaultKind::Changed, format!("{} has changed", content.key));
        let bytes = self.bytes(content).ok_or_else(changed)?;
        let end = range.end as usize - usize::from(self.short.load(Ordering::Relaxed));
        let bytes = bytes.slice(range.start as usize..end);
        // In uneven chunks, as pages and blocks bring them about.
        let cut = bytes.len().min(70_001);
        Ok(if range.start.is_multiple_of(2) { vec![bytes.slice(..cut), bytes.slice(cut..)] } else { vec![bytes] })
    }

    fn descriptor(&self, _: &Context, content: &Content) -> Option<Handout> {
        let file = File::open(self.files.lock().get(&content.id)?).unwrap();
        Some(Handout { file: Arc::new(OwnedFd::from(file)), lease: Box::new(self.leases.clone()) })
    }

    async fn status(&self, _: &Context) -> Result<String, Fault> {
        Ok("{}".to_owned())
    }

    async fn start_trace(&self, _: &Context, _: &str, _: ByteSize) -> Result<Trace, Fault> {
        unreachable!("a mount records nothing")
    }

    async fn stop_trace(&self, _: &Context, _: Option<&str>) -> Result<Trace, Fault> {
        unreachable!("a mount records nothing")
    }

    async fn sources(&self, _: &Context) -> Result<Vec<SourceInfo>, Fault> {
        unreachable!("a mount does not ask for sources")
    }

    async fn add_source(&self, _: &Context, _: SourceSpec) -> Result<SourceInfo, Fault> {
        unreachable!("a mount changes no source")
    }

    async fn set_source(&self, _: &Context, _: &NsPath, _: SourceChange) -> Result<SourceInfo, Fault> {
        unreachable!("a mount changes no source")
    }

    async fn remove_source(&self, _: &Context, _: &NsPath) -> Result<SourceInfo, Fault> {
        unreachable!("a mount changes no source")
    }

    async fn snapshot(&self, _: &Context, _: &NsPath, _: &str, _: Option<&str>) -> Result<Snapshot, Fault> {
        unreachable!("a mount makes no snapshot")
    }

    async fn snapshot_state(&self, _: &Context, _: &str) -> Result<Snapshot, Fault> {
        unreachable!("a mount makes no snapshot")
    }

    async fn refresh(&self, _: &Context, _: &NsPath, _: bool) -> Result<Refreshed, Fault> {
        unreachable!("a mount refreshes nothing")
    }

    async fn events(&self, _: &Context, _: &NsPath, _: Vec<ObjectEvent>) -> Result<Refreshed, Fault> {
        unreachable!("a mount knows of no events")
    }
}
