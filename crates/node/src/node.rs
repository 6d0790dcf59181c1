//! The node: the service of this machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use forebay_catalog::Catalog;
use forebay_cluster::Embedded;
use forebay_model::{
    ByteRange, ByteSize, CONTENT_MAX, Content, ContentId, Fault, FaultKind, Found, ListedPage, NsPath, ObjectEvent,
    Refreshed, Snapshot, SourceChange, SourceInfo, SourceSpec, Trace,
};
use forebay_route::{Context, Handout, Holder, ReadNow, Service};
use forebay_store::{Store, StoreError};
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use crate::beside::beside;
use crate::fetch::{FetchSettings, Fetcher, group_of};
use crate::holders::Holders;
use crate::manifest::{Manifests, OpenFile};
use crate::metrics::ReadMetrics;
use crate::namespace::Namespace;
use crate::refresh::Refresher;
use crate::resolve::Resolver;
use crate::snapshots::Snapshots;
use crate::source::{OpenSource, Source};
use crate::sources::Sources;
use crate::status;
use crate::trace::Tracer;

/// The largest range of one read. Larger ones are asked for in parts.
const READ_MAX: u64 = 64 << 20;

/// What a node is made of.
pub struct NodeParts {
    /// Its name and its sources.
    pub registry: Embedded,
    /// How a source is opened.
    pub open: OpenSource,
    /// How the file of a manifest or a snapshot is opened.
    pub open_file: OpenFile,
    /// The directory of the indexes of manifests, which it has for itself.
    pub manifests: PathBuf,
    /// Its pages.
    pub store: Arc<Store>,
    /// Its attributes and listings.
    pub catalog: Catalog,
    /// How it fetches.
    pub fetch: FetchSettings,
    /// Where its tasks run.
    pub runtime: Handle,
}

impl std::fmt::Debug for NodeParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeParts").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// A node: answers for its store and its sources.
#[derive(Debug)]
pub struct Node {
    pub(crate) name: String,
    pub(crate) started: Instant,
    pub(crate) store: Arc<Store>,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) fetcher: Arc<Fetcher>,
    sources: Arc<Sources>,
    snapshots: Arc<Snapshots>,
    pub(crate) catalog: Arc<Catalog>,
    resolver: Resolver,
    refresher: Refresher,
    holders: Arc<Holders>,
    pub(crate) metrics: ReadMetrics,
    pub(crate) tracer: Arc<Tracer>,
}

impl Node {
    /// A node of these parts.
    pub fn new(parts: NodeParts) -> Self {
        let NodeParts { registry, open, open_file, manifests, store, catalog, fetch, runtime } = parts;
        let (namespace, catalog, name) = (Arc::new(Namespace::new()), Arc::new(catalog), registry.node().0.clone());
        let holders = Arc::new(Holders::default());
        let manifests = Arc::new(Manifests::new(manifests, open_file, runtime.clone()));
        let shared = (namespace.clone(), catalog.clone(), store.clone());
        let sources = Arc::new(Sources::new(registry, open, manifests.clone(), shared, holders.clone()));
        let snapshots = Snapshots::new(manifests, namespace.clone(), sources.clone(), runtime.clone());
        let refresher = Refresher::new(namespace.clone(), catalog.clone(), holders.clone());
        let resolver = Resolver::new(namespace.clone(), catalog.clone(), fetch.deadline, &runtime);
        let fetcher = Arc::new(Fetcher::new(store.clone(), catalog.clone(), fetch, runtime));
        let (metrics, tracer) = (ReadMetrics::default(), Arc::default());
        let started = Instant::now();
        Self {
            name,
            started,
            store,
            namespace,
            fetcher,
            sources,
            snapshots: Arc::new(snapshots),
            catalog,
            resolver,
            refresher,
            holders,
            metrics,
            tracer,
        }
    }

    /// From now on `holder` is told of what it has to let go.
    pub fn add_holder(&self, holder: Arc<dyn Holder>) {
        self.holders.add(holder);
    }

    /// Adds the node's, the catalog's and the store's counters to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
        self.refresher.register(registry);
        self.fetcher.metrics.register(registry);
        self.catalog.register(registry);
        self.store.register(registry);
    }

    /// The sources, by path.
    pub fn source_list(&self) -> Vec<SourceInfo> {
        self.sources.list()
    }

    /// Writes what waits for the store's directories and the catalog and lets them go, and ends the trace. Everything is absent from then on.
    ///
    /// # Errors
    /// A directory did not finish in time.
    pub fn close(&self) -> Result<(), StoreError> {
        let closed = self.store.close();
        self.catalog.close();
        self.tracer.close();
        closed
    }

    /// A request to read is answered: hit or miss, each goes by here once.
    fn note(&self, source: &Source, content: &Content, range: ByteRange) {
        if self.tracer.is_on() {
            self.tracer.note(content, group_of(source), range);
        }
    }

    /// As much was read of what is here.
    fn was_read_now(&self, source: &Source, content: &Content, range: ByteRange) {
        self.note(source, content, range);
        self.metrics.reads_here.inc();
        self.metrics.bytes.inc_by(range.len());
    }

    /// The source of a content.
    fn source_of(&self, content: &Content) -> Result<Arc<Source>, Fault> {
        let invalid = |why: String| Fault::new(FaultKind::Invalid, why);
        let source = self
            .namespace
            .at(&content.source)
            .ok_or_else(|| invalid(format!("there is no source {} on this node", content.source)))?;
        if !content.key.starts_with(&*source.facts.prefix) {
            return Err(invalid(format!("{} is not in the source {}", content.key, content.source)));
        }
        Ok(source)
    }

    /// Checks that the id of a content that came over the wire is that of its object, version and size: what a reader
    /// says is not believed, for bytes would be kept under that id.
    pub(crate) fn prove(&self, content: &Content) -> Result<(), Fault> {
        let source = self.source_of(content)?;
        let id = ContentId::derive(&source.facts.origin, &content.key, &content.version, content.size);
        if id == content.id && content.size <= CONTENT_MAX {
            Ok(())
        } else {
            let why = format!("{}: the content id is not that of this object, version and size", content.key);
            Err(Fault::new(FaultKind::Invalid, why))
        }
    }
}

#[async_trait]
impl Service for Node {
    fn lookup_now(&self, _: &Context, path: &NsPath) -> Option<Result<Found, Fault>> {
        self.resolver.lookup_now(path)
    }

    async fn lookup(&self, context: &Context, path: &NsPath) -> Result<Found, Fault> {
        self.resolver.lookup(context, path).await
    }

    fn list_now(&self, _: &Context, path: &NsPath, after: &str, limit: u32) -> Option<Result<ListedPage, Fault>> {
        self.resolver.list_now(path, after, limit)
    }

    async fn list(&self, context: &Context, path: &NsPath, after: &str, limit: u32) -> Result<ListedPage, Fault> {
        self.resolver.list(context, path, after, limit).await
    }

    fn read_now(&self, _: &Context, content: &Content, range: ByteRange, buffer: &mut [u8]) -> ReadNow {
        debug_assert_eq!(range.len(), buffer.len() as u64, "a buffer is as long as its range");
        let Ok(source) = self.source_of(content) else { return ReadNow::Absent };
        if !self.fetcher.read_now(&source, content, range, buffer) {
            return ReadNow::Absent;
        }
        self.was_read_now(&source, content, range);
        ReadNow::Filled
    }

    fn read_whole_now(&self, _: &Context, content: &Content) -> Option<Bytes> {
        let source = self.source_of(content).ok()?;
        let bytes = self.fetcher.read_whole_now(&source, content)?;
        self.was_read_now(&source, content, ByteRange::new(0, content.size));
        Some(bytes)
    }

    fn may_have(&self, content: &Content, start: u64) -> bool {
        self.fetcher.may_have(content, start)
    }

    async fn read(&self, context: &Context, content: &Content, range: ByteRange) -> Result<Vec<Bytes>, Fault> {
        let range = range.intersect(ByteRange::new(0, content.size));
        if range.len() > READ_MAX {
            let why = format!("a read of {} bytes: at most {READ_MAX} at once", range.len());
            return Err(Fault::new(FaultKind::Invalid, why));
        }
        let read = async {
            let source = self.source_of(content)?;
            self.note(&source, content, range);
            self.fetcher.read(context, &source, content, range).await
        };
        let answer = read.await;
        match &answer {
            Ok(_) => {
                self.metrics.reads_waited.inc();
                self.metrics.bytes.inc_by(range.len());
            }
            Err(_) => drop(self.metrics.faults.inc()),
        }
        answer
    }

    fn descriptor(&self, _: &Context, content: &Content) -> Option<Handout> {
        let source = self.source_of(content).ok()?;
        let descriptor = self.store.descriptor(content.id, content.size)?;
        // What is read from it, nobody tells.
        self.note(&source, content, ByteRange::new(0, content.size));
        Some(Handout { file: descriptor.file.clone(), lease: Box::new(descriptor) })
    }

    async fn status(&self, _: &Context) -> Result<String, Fault> {
        Ok(status::document(self).to_string())
    }

    async fn start_trace(&self, _: &Context, file: &str, limit: ByteSize) -> Result<Trace, Fault> {
        let (tracer, file) = (self.tracer.clone(), file.to_owned());
        beside(move || tracer.start(&file, limit)).await?
    }

    async fn stop_trace(&self, _: &Context, file: Option<&str>) -> Result<Trace, Fault> {
        let (tracer, file) = (self.tracer.clone(), file.map(str::to_owned));
        beside(move || tracer.stop(file.as_deref())).await?
    }

    async fn sources(&self, _: &Context) -> Result<Vec<SourceInfo>, Fault> {
        Ok(self.sources.list())
    }

    async fn add_source(&self, _: &Context, spec: SourceSpec) -> Result<SourceInfo, Fault> {
        self.sources.add(spec).await
    }

    async fn set_source(&self, _: &Context, path: &NsPath, change: SourceChange) -> Result<SourceInfo, Fault> {
        self.sources.set(path, change).await
    }

    async fn remove_source(&self, _: &Context, path: &NsPath) -> Result<SourceInfo, Fault> {
        self.sources.remove(path).await
    }

    async fn snapshot(&self, _: &Context, path: &NsPath, name: &str, to: Option<&str>) -> Result<Snapshot, Fault> {
        self.snapshots.begin(path, name, to).await
    }

    async fn snapshot_state(&self, _: &Context, name: &str) -> Result<Snapshot, Fault> {
        self.snapshots.told(name)
    }

    async fn refresh(&self, _: &Context, path: &NsPath, recursive: bool) -> Result<Refreshed, Fault> {
        self.refresher.refresh(path, recursive).await
    }

    async fn events(&self, _: &Context, source: &NsPath, events: Vec<ObjectEvent>) -> Result<Refreshed, Fault> {
        self.refresher.events(source, events).await
    }
}
