//! A node over a real store in a temporary directory and an origin in memory that counts and misbehaves as told.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use forebay_catalog::{Catalog, CatalogOptions, Observed, ObservedFile, SourceFacts};
use forebay_cluster::Embedded;
use forebay_manifest::Line;
use forebay_model::{
    ByteRange, ByteSize, Capacity, Content, Entry, Fault, FaultKind, Freshness, NsPath, OriginId, Principal,
    SourceSpec, TimestampNs, Version,
};
use forebay_node::{
    FetchSettings, ManifestFile, Node, NodeParts, Observation, OpenFile, Source, Turns, Upstream, UpstreamRead,
    UpstreamWrite,
};
use forebay_route::{Context, Service};
use forebay_store::{Caching, DirectoryOptions, Store, StoreOptions};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// What the origin holds, and what it was asked.
pub(crate) struct Cloud {
    pub(crate) objects: Mutex<BTreeMap<String, (Bytes, u32)>>,
    /// Ranges of reads that were answered, in the order of asking.
    pub(crate) reads: Mutex<Vec<(String, ByteRange)>>,
    pub(crate) stats: AtomicU64,
    pub(crate) lists: AtomicU64,
    /// Listings that have ended, whatever came of them.
    pub(crate) lists_ended: AtomicU64,
    /// Fails every call while set.
    pub(crate) fault: Mutex<Option<FaultKind>>,
    /// Places for answers: take them all and nothing is answered.
    pub(crate) gate: Semaphore,
    /// Parts of listings that may still be answered.
    pub(crate) parts: Semaphore,
    /// Whether listings are said to come in order.
    pub(crate) in_order: AtomicBool,
    /// Bytes of a chunk.
    pub(crate) chunk: usize,
    /// Whether old versions are kept, under the ids `idN`, and those that are.
    pub(crate) keeps_versions: AtomicBool,
    kept: Mutex<HashMap<(String, String), Bytes>>,
    this: Mutex<Weak<Cloud>>,
    /// Requests that it says it allows, reads that are under way, and the most that ever were.
    pub(crate) turns: usize,
    /// How long a read takes to answer.
    pub(crate) delay: Duration,
    pub(crate) under_way: Arc<AtomicUsize>,
    pub(crate) under_way_max: AtomicUsize,
}

pub(crate) const OPEN: usize = 1 << 20;

impl Cloud {
    fn fail(&self) -> Result<(), Fault> {
        match *self.fault.lock() {
            Some(kind) => Err(Fault::new(kind, "the cloud fails as it was told")),
            None => Ok(()),
        }
    }

    pub(crate) fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let mut objects = self.objects.lock();
        let version = objects.get(key).map_or(1, |(_, version)| version + 1);
        let bytes = bytes.into();
        if self.keeps_versions.load(Ordering::Relaxed) {
            self.kept.lock().insert((key.to_owned(), format!("id{version}")), bytes.clone());
        }
        objects.insert(key.to_owned(), (bytes, version));
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.reads.lock().iter().map(|(_, range)| range.len()).sum()
    }

    fn seen(&self, key: &str) -> Observed {
        match self.objects.lock().get(key) {
            Some((bytes, version)) => Observed::File(ObservedFile {
                size: bytes.len() as u64,
                mtime: TimestampNs(i64::from(*version)),
                version: Version::Etag(format!("\"{version}\"").into()),
            }),
            None => Observed::Absent,
        }
    }
}

#[async_trait]
impl Upstream for Cloud {
    async fn probe(&self) -> Result<(), Fault> {
        self.fail()
    }

    async fn stat(&self, key: &str, _: Instant) -> Result<Observed, Fault> {
        self.stats.fetch_add(1, Ordering::Relaxed);
        // The answer is made when it is asked for, and may be long on its way.
        let seen = self.seen(key);
        let _place = self.gate.acquire().await;
        self.fail()?;
        Ok(seen)
    }

    async fn has_prefix(&self, prefix: &str, _: Instant) -> Result<bool, Fault> {
        self.fail()?;
        Ok(self.objects.lock().keys().any(|key| key.starts_with(prefix)))
    }

    async fn list(
        &self,
        prefix: &str,
        sink: &mut (dyn FnMut(Vec<Observation>) -> Result<(), Fault> + Send),
    ) -> Result<(), Fault> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        let _end = Ended(&self.lists_ended);
        let keys: Vec<String> = self.objects.lock().keys().filter(|key| key.starts_with(prefix)).cloned().collect();
        let observe = |key: &String| match key[prefix.len()..].split_once('/') {
            Some((name, _)) => (format!("{prefix}{name}/"), Observed::Directory),
            None => (key.clone(), self.seen(key)),
        };
        let seen: Vec<_> = keys.iter().map(observe).collect();
        let _place = self.gate.acquire().await;
        self.fail()?;
        for part in seen.chunks(1000) {
            self.parts.acquire().await.expect("it is never closed").forget();
            self.fail()?;
            sink(part.to_vec())?;
        }
        Ok(())
    }

    fn lists_in_order(&self) -> bool {
        self.in_order.load(Ordering::Relaxed)
    }

    fn names_per_request(&self) -> u64 {
        1000
    }

    fn turns(&self) -> Turns {
        let busy = self.under_way.load(Ordering::Relaxed);
        Turns { free: self.turns.saturating_sub(busy), max: self.turns }
    }

    async fn read(
        &self,
        key: &str,
        version: &Version,
        _: u64,
        range: ByteRange,
        _: Instant,
    ) -> Result<Box<dyn UpstreamRead>, Fault> {
        self.reads.lock().push((key.to_owned(), range));
        let under_way = UnderWay(self.under_way.clone());
        self.under_way_max.fetch_max(under_way.0.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let _place = self.gate.acquire().await;
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        self.fail()?;
        let found = self.objects.lock().get(key).cloned();
        let changed = || Fault::new(FaultKind::Changed, format!("{key} changed"));
        let gone = || Fault::new(FaultKind::NotFound, format!("{key} does not exist"));
        let (bytes, current) = found.ok_or_else(gone)?;
        if *version != Version::Etag(format!("\"{current}\"").into()) {
            return Err(changed());
        }
        Ok(Box::new(CloudRead {
            rest: bytes.slice(range.start as usize..range.end as usize),
            chunk: self.chunk,
            _under_way: under_way,
        }))
    }

    async fn read_by_id(
        &self,
        key: &str,
        id: Option<&str>,
        version: &Version,
        size: u64,
        range: ByteRange,
        deadline: Instant,
    ) -> Result<Box<dyn UpstreamRead>, Fault> {
        let Some(id) = id else { return self.read(key, version, size, range, deadline).await };
        let kept = self.kept.lock().get(&(key.to_owned(), id.to_owned())).cloned();
        let bytes = kept.ok_or_else(|| Fault::new(FaultKind::NotFound, format!("{key}: no version {id}")))?;
        let under_way = UnderWay(self.under_way.clone());
        under_way.0.fetch_add(1, Ordering::Relaxed);
        let rest = bytes.slice(range.start as usize..range.end as usize);
        Ok(Box::new(CloudRead { rest, chunk: self.chunk, _under_way: under_way }))
    }

    async fn list_all(
        &self,
        prefix: &str,
        sink: &mut (dyn FnMut(Vec<Line>) -> Result<(), Fault> + Send),
    ) -> Result<(), Fault> {
        self.fail()?;
        let keeps = self.keeps_versions.load(Ordering::Relaxed);
        let objects = self.objects.lock().clone();
        for (key, (bytes, version)) in objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
            let (etag, version_id) = (Some(version.to_string()), keeps.then(|| format!("id{version}")));
            let size = Some(bytes.len() as u64);
            sink(vec![Line { key: key.clone(), size, etag, version_id, ..Line::default() }])?;
        }
        Ok(())
    }

    async fn upload(&self, key: &str, _: Instant) -> Result<Box<dyn UpstreamWrite>, Fault> {
        self.fail()?;
        let cloud = self.this.lock().upgrade().expect("the cloud is there while it is asked");
        Ok(Box::new(CloudWrite { cloud, key: key.to_owned(), bytes: Vec::new() }))
    }
}

struct CloudWrite {
    cloud: Arc<Cloud>,
    key: String,
    bytes: Vec<u8>,
}

#[async_trait]
impl UpstreamWrite for CloudWrite {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Fault> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Fault> {
        self.cloud.fail()?;
        self.cloud.put(&self.key, std::mem::take(&mut self.bytes));
        Ok(())
    }

    async fn abort(self: Box<Self>) {}
}

/// Counts when it is dropped.
struct Ended<'a>(&'a AtomicU64);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct CloudRead {
    rest: Bytes,
    chunk: usize,
    _under_way: UnderWay,
}

struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl UpstreamRead for CloudRead {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        tokio::task::yield_now().await;
        let next = self.rest.split_to(self.rest.len().min(self.chunk));
        Ok((!next.is_empty()).then_some(next))
    }
}

/// A node and its cloud.
pub(crate) struct World {
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) store: Arc<Store>,
    pub(crate) node: Arc<Node>,
    pub(crate) directory: Arc<TempDir>,
    /// Of its catalog.
    name: String,
}

/// A delay that is to be long beside what we do ourselves: as much longer as whatever watches us (AddressSanitizer) says that it
/// makes us slower, in `FOREBAY_TEST_SLOWNESS`.
pub(crate) fn far(delay: Duration) -> Duration {
    delay * std::env::var("FOREBAY_TEST_SLOWNESS").map_or(1, |times| times.parse().expect("a whole number"))
}

pub(crate) struct Setup {
    pub(crate) capacity: u64,
    pub(crate) memory: u64,
    pub(crate) freshness: Freshness,
    pub(crate) deadline: Duration,
    pub(crate) files_ahead: bool,
    pub(crate) directories_ahead: bool,
    pub(crate) turns: usize,
    pub(crate) delay: Duration,
    pub(crate) write_rate_max: Option<ByteSize>,
}

impl Default for Setup {
    fn default() -> Self {
        let (freshness, deadline) = (Freshness::default(), Duration::from_secs(20));
        Self {
            capacity: 1 << 30,
            memory: 64 << 20,
            freshness,
            deadline,
            files_ahead: true,
            directories_ahead: false,
            turns: 64,
            delay: Duration::ZERO,
            write_rate_max: None,
        }
    }
}

pub(crate) fn world(setup: &Setup) -> World {
    let cloud = Arc::new(Cloud {
        objects: Mutex::default(),
        reads: Mutex::default(),
        stats: AtomicU64::new(0),
        lists: AtomicU64::new(0),
        lists_ended: AtomicU64::new(0),
        fault: Mutex::new(None),
        gate: Semaphore::new(OPEN),
        parts: Semaphore::new(OPEN),
        in_order: AtomicBool::new(true),
        chunk: 50_000,
        keeps_versions: AtomicBool::new(false),
        kept: Mutex::default(),
        this: Mutex::default(),
        turns: setup.turns,
        delay: setup.delay,
        under_way: Arc::default(),
        under_way_max: AtomicUsize::new(0),
    });
    *cloud.this.lock() = Arc::downgrade(&cloud);
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    let name = new_name();
    let (store, node) = store_and_node(setup, &cloud, &directory, &name);
    World { store, node, cloud, directory, name }
}

pub(crate) fn node(setup: &Setup, cloud: &Arc<Cloud>, directory: &TempDir) -> Arc<Node> {
    store_and_node(setup, cloud, directory, &new_name()).1
}

fn store_and_node(setup: &Setup, cloud: &Arc<Cloud>, directory: &TempDir, name: &str) -> (Arc<Store>, Arc<Node>) {
    let cache = DirectoryOptions::new(directory.path().join("cache"), Capacity::Bytes(ByteSize(setup.capacity)));
    let mut options = StoreOptions::new(vec![cache]);
    options.admission.write_rate_max = setup.write_rate_max;
    let (store, _) = Store::open(&options).expect("a store");
    let store = Arc::new(store);
    let mut registry = Embedded::open(directory.path()).expect("a registry");
    let spec = SourceSpec::new(path("/ml"), "s3://b".to_owned(), TimestampNs(7));
    let spec = SourceSpec { freshness: setup.freshness, ..spec };
    registry.put_source(spec).expect("it is written");
    let upstream = cloud.clone();
    let node = Node::new(NodeParts {
        registry,
        open: Box::new(move |spec| open(spec, upstream.clone())),
        open_file: open_file(cloud),
        manifests: directory.path().join("manifests"),
        store: store.clone(),
        catalog: catalog(directory, name),
        fetch: FetchSettings {
            memory: ByteSize(setup.memory),
            read_ahead_max: ByteSize(32 << 20),
            files_ahead: setup.files_ahead,
            directories_ahead: setup.directories_ahead,
            request_max: ByteSize(8 << 20),
            deadline: setup.deadline,
            caching: Caching::Keep,
        },
        runtime: tokio::runtime::Handle::current(),
    });
    (store, Arc::new(node))
}

/// Buckets `s3://NAME/PREFIX` of the cloud, which has one set of keys for all; other addresses are refused.
fn open(spec: &SourceSpec, cloud: Arc<Cloud>) -> Result<Source, Fault> {
    let refused = || Fault::new(FaultKind::Invalid, format!("{}: it is not in the cloud", spec.origin));
    let rest = spec.origin.strip_prefix("s3://").ok_or_else(refused)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let origin = OriginId { scheme: "s3".into(), endpoint: "http://cloud".into(), bucket: bucket.into() };
    let (path, freshness, added) = (spec.path.clone(), spec.freshness, spec.added);
    Ok(Source {
        spec: spec.clone(),
        facts: Arc::new(SourceFacts { path, origin, prefix: prefix.into(), teller: None, freshness, added }),
        proof: "precondition".to_owned(),
        manifest: spec.manifest.clone(),
        upstream: cloud,
        problem: Mutex::default(),
    })
}

/// Files `s3://NAME/KEY` of the cloud.
fn open_file(cloud: &Arc<Cloud>) -> OpenFile {
    let cloud = cloud.clone();
    Box::new(move |_, address| {
        let refused = || Fault::new(FaultKind::Invalid, format!("{address}: it is not in the cloud"));
        let (_, key) = address.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).ok_or_else(refused)?;
        let (key, address) = (key.to_owned(), address.to_owned());
        Ok(ManifestFile { upstream: cloud.clone(), key, address, is_in_bucket: true })
    })
}

/// A catalog of its own for each node: two of them may live at once.
fn new_name() -> String {
    static CATALOGS: AtomicU64 = AtomicU64::new(0);
    format!("catalog-{}", CATALOGS.fetch_add(1, Ordering::Relaxed))
}

fn catalog(directory: &TempDir, name: &str) -> Catalog {
    let options = CatalogOptions {
        directory: directory.path().join(name),
        disk: ByteSize(256 << 20),
        memory: ByteSize(64 << 20),
    };
    // Longer than any deadline of a test.
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match Catalog::open(&options) {
            Ok(catalog) => return catalog,
            // Tasks that nobody waits for may hold that of the node before until their deadline.
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn context() -> Context {
    Context::new(Principal::Forebay, Duration::from_secs(20))
}

pub(crate) fn path(text: &str) -> NsPath {
    text.parse().expect("a path")
}

/// Bytes that tell every position of every object apart.
pub(crate) fn pattern(seed: u64, len: usize) -> Bytes {
    let word = |i: u64| (i ^ seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    (0..len.div_ceil(8) as u64).flat_map(word).take(len).collect::<Vec<u8>>().into()
}

impl World {
    /// Ends the node in order and starts another on what it has left.
    pub(crate) async fn restarted(self, setup: &Setup) -> Self {
        let Self { cloud, store, node, directory, name } = self;
        node.close().expect("it closes");
        let last = Arc::downgrade(&node);
        drop((node, store));
        while last.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        let (store, node) = store_and_node(setup, &cloud, &directory, &name);
        Self { cloud, store, node, directory, name }
    }

    pub(crate) async fn content(&self, at: &str) -> Content {
        let found = self.node.lookup(&context(), &path(at)).await.expect(at);
        match found.entry {
            Entry::File(file) => file.content.clone(),
            Entry::Directory(_) => panic!("{at} is a directory"),
        }
    }

    pub(crate) async fn read(&self, content: &Content, start: u64, len: u64) -> Result<Vec<u8>, Fault> {
        let range = ByteRange::at(start, len, content.size);
        Ok(self.node.read(&context(), content, range).await?.concat())
    }
}
