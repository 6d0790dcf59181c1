//! Sources that come, change and go while the node runs.
//!
//! Always true, in this order: the registry has it; the namespace shows it; what was known of its paths is forgotten; mounts are told. One
//! change at a time. A source that is replaced keeps no entries: the next lookup asks the origin of the new one.

use std::sync::Arc;
use std::time::Duration;

use forebay_catalog::Catalog;
use forebay_cluster::{Embedded, RegistryError};
use forebay_model::{Fault, FaultKind, NsPath, Refreshed, SourceChange, SourceInfo, SourceSpec};
use forebay_route::Outdated;
use forebay_store::Store;
use parking_lot::Mutex;

use crate::beside::beside;
use crate::fetch::group_of;
use crate::holders::Holders;
use crate::manifest::Manifests;
use crate::namespace::Namespace;
use crate::source::{OpenSource, Source};

/// Sources of one node: each lookup looks through them.
const SOURCES_MAX: usize = 1_000;
/// How long an origin may take to show that it is there, when it is added.
const PROBE_MAX: Duration = Duration::from_secs(10);

/// Changes the sources of a node.
pub(crate) struct Sources {
    registry: Arc<Mutex<Embedded>>,
    open: OpenSource,
    manifests: Arc<Manifests>,
    namespace: Arc<Namespace>,
    catalog: Arc<Catalog>,
    store: Arc<Store>,
    holders: Arc<Holders>,
    /// Held while one is changed.
    turn: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Sources {
    /// Shows all that the registry has. One that cannot be opened is shown too, and answers with why.
    pub(crate) fn new(
        registry: Embedded,
        open: OpenSource,
        manifests: Arc<Manifests>,
        (namespace, catalog, store): (Arc<Namespace>, Arc<Catalog>, Arc<Store>),
        holders: Arc<Holders>,
    ) -> Self {
        for spec in registry.sources() {
            let opened = open(spec).and_then(|source| manifests.listed(source));
            let source = opened.unwrap_or_else(|fault| {
                tracing::warn!(source = %spec.path, %fault, "a source cannot be opened");
                Source::broken(spec.clone(), &fault)
            });
            store.set_group(group_of(&source), &source.rules());
            namespace.put(source);
        }
        manifests.sweep(&namespace.sources(), true);
        let (registry, turn) = (Arc::new(Mutex::new(registry)), tokio::sync::Mutex::default());
        Self { registry, open, manifests, namespace, catalog, store, holders, turn }
    }

    /// All, by path.
    pub(crate) fn list(&self) -> Vec<SourceInfo> {
        let mut all: Vec<SourceInfo> = self.namespace.sources().iter().map(|source| source.info()).collect();
        all.sort_by(|one, other| one.spec.path.as_str().cmp(other.spec.path.as_str()));
        all
    }

    pub(crate) async fn add(&self, spec: SourceSpec) -> Result<SourceInfo, Fault> {
        let _turn = self.turn.lock().await;
        let path = &spec.path;
        if path.is_root() {
            return Err(invalid("/ is above all sources: name a path such as /imagenet".to_owned()));
        }
        if self.namespace.at(path.as_str()).is_some() {
            let advice = "`source set` changes its rules, `source remove` takes it away";
            return Err(invalid(format!("there is a source at {path} already: {advice}")));
        }
        if self.namespace.sources().len() >= SOURCES_MAX {
            return Err(invalid(format!("there are {SOURCES_MAX} sources: remove one first")));
        }
        self.show(spec).await
    }

    pub(crate) async fn set(&self, path: &NsPath, change: SourceChange) -> Result<SourceInfo, Fault> {
        let _turn = self.turn.lock().await;
        let known = self.namespace.at(path.as_str()).ok_or_else(|| no_source(path))?;
        self.show(change.applied(known.spec.clone())).await
    }

    pub(crate) async fn remove(&self, path: &NsPath) -> Result<SourceInfo, Fault> {
        let _turn = self.turn.lock().await;
        let known = self.namespace.at(path.as_str()).ok_or_else(|| no_source(path))?;
        let gone = path.clone();
        self.register(move |registry| registry.remove_source(&gone).map(|_| ())).await?;
        self.namespace.remove(path);
        self.forget(path).await;
        let (store, group) = (self.store.clone(), group_of(&known));
        beside(move || store.forget_group(group)).await?;
        self.manifests.sweep(&self.namespace.sources(), false);
        Ok(known.info())
    }

    /// Opens, registers and shows a source.
    async fn show(&self, spec: SourceSpec) -> Result<SourceInfo, Fault> {
        let source = self.manifests.listed((self.open)(&spec)?)?;
        let answered = tokio::time::timeout(PROBE_MAX, source.upstream.probe()).await;
        *source.problem.lock() = match answered {
            Ok(Ok(())) => None,
            Ok(Err(fault)) => Some(fault.message),
            Err(_) => Some(format!("it did not answer within {} s", PROBE_MAX.as_secs())),
        };
        let (path, rules, group, info) = (spec.path, source.rules(), group_of(&source), source.info());
        let spec = source.spec.clone();
        self.register(move |registry| registry.put_source(spec).map(|_| ())).await?;
        self.store.set_group(group, &rules);
        self.namespace.put(source);
        self.forget(&path).await;
        self.manifests.sweep(&self.namespace.sources(), false);
        Ok(info)
    }

    /// Another source stands at `path` now, or none.
    async fn forget(&self, path: &NsPath) {
        self.catalog.forget_below(path);
        self.holders.let_go(&[Outdated::Tree(path.clone())], &mut Refreshed::default()).await;
    }

    async fn register(
        &self,
        change: impl FnOnce(&mut Embedded) -> Result<(), RegistryError> + Send + 'static,
    ) -> Result<(), Fault> {
        let registry = Arc::clone(&self.registry);
        let changed = beside(move || change(&mut registry.lock())).await?;
        changed.map_err(|error| Fault::new(FaultKind::Unavailable, error.to_string()))
    }
}

fn invalid(why: String) -> Fault {
    Fault::new(FaultKind::Invalid, why)
}

fn no_source(path: &NsPath) -> Fault {
    Fault::new(FaultKind::NotFound, format!("there is no source at {path}: `forebay source list` names all"))
}
