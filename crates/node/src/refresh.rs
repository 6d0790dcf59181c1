//! Forgetting on request, and on word of an origin.
//!
//! Always true, in this order: the catalog has forgotten, then mounts are told, then what is forgotten is in the catalog's file,
//! so that it stays forgotten if the process is killed. When an answer to a refresh has gone out, nothing is told that was asked
//! for before it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_catalog::{Catalog, Held};
use forebay_model::{Fault, FaultKind, Happened, NsPath, ObjectEvent, Refreshed};
use forebay_route::Outdated;
use futures_util::{StreamExt, stream};
use prometheus_client::registry::Registry;

use crate::beside::beside;
use crate::holders::Holders;
use crate::metrics::RefreshMetrics;
use crate::namespace::{Namespace, Place};
use crate::source::Source;

/// Events of one request: what a store tells of a bulk deletion comes in parts of a thousand.
const EVENTS_MAX: usize = 10_000;
/// How long an origin may take to say whether anything is left of directories. If it takes longer, that is asked when it matters.
const LEFT_LIMIT: Duration = Duration::from_secs(5);
/// Such questions at once.
const LEFT_AT_ONCE: usize = 8;

/// Forgets.
#[derive(Debug)]
pub(crate) struct Refresher {
    namespace: Arc<Namespace>,
    catalog: Arc<Catalog>,
    holders: Arc<Holders>,
    metrics: RefreshMetrics,
}

/// What one request has forgotten so far, of one source.
struct Work<'a> {
    catalog: &'a Catalog,
    source: &'a Arc<Source>,
    outdated: Vec<Outdated>,
    /// Directories that came into being, or may have.
    led_to: HashSet<NsPath>,
    refreshed: Refreshed,
}

impl Refresher {
    pub(crate) fn new(namespace: Arc<Namespace>, catalog: Arc<Catalog>, holders: Arc<Holders>) -> Self {
        Self { namespace, catalog, holders, metrics: RefreshMetrics::default() }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Forgets what is known of `path` and of the names in it; with `is_tree`, of all below it.
    pub(crate) async fn refresh(&self, path: &NsPath, is_tree: bool) -> Result<Refreshed, Fault> {
        self.metrics.refreshes.inc();
        let (mut refreshed, mut outdated) = (Refreshed::default(), Vec::new());
        match self.namespace.place(path) {
            Place::Nowhere => {
                let why = format!("no source shows {path}: `forebay source list` names all");
                return Err(Fault::new(FaultKind::NotFound, why));
            }
            Place::Inside(source) => {
                source.upstream.refresh();
                let mut work = Work::new(&self.catalog, &source);
                work.forget_name(path);
                work.forget_way(path);
                (refreshed, outdated) = (work.refreshed, work.outdated);
            }
            Place::Root(source) | Place::Above(Some(source)) => source.upstream.refresh(),
            Place::Above(None) => {}
        }
        if is_tree {
            let sources = self.namespace.sources();
            let below = sources.iter().filter(|source| source.facts.path.below(path).is_some());
            below.for_each(|source| source.upstream.refresh());
        }
        let forgot = self.catalog.forget_all(path, is_tree);
        refreshed.names += forgot.names;
        refreshed.listings += forgot.listings;
        let path = path.clone();
        outdated.push(if is_tree { Outdated::Tree(path) } else { Outdated::Directory(path) });
        self.end(&outdated, refreshed).await
    }

    /// Forgets what is outdated by what happened at the origin of the source at `source`.
    pub(crate) async fn events(&self, source: &NsPath, events: Vec<ObjectEvent>) -> Result<Refreshed, Fault> {
        let no_source = || {
            Fault::new(FaultKind::NotFound, format!("there is no source at {source}: `forebay source list` names all"))
        };
        let source = self.namespace.at(source.as_str()).ok_or_else(no_source)?;
        if events.len() > EVENTS_MAX {
            let why = format!("{} events: at most {EVENTS_MAX} at once", events.len());
            return Err(Fault::new(FaultKind::Invalid, why));
        }
        let mut work = Work::new(&self.catalog, &source);
        // Directories of which something has gone: one that has nothing left has gone too.
        let mut lost = HashSet::new();
        for event in events {
            let is_other = event.bucket.is_some_and(|bucket| *bucket != *source.facts.origin.bucket);
            let path = source.facts.path_of(&event.key).filter(|_| !is_other);
            let shown = path.filter(|path| *path != source.facts.path && self.namespace.is_of(&source, path));
            let Some(path) = shown else {
                work.refreshed.ignored += 1;
                self.metrics.ignored.inc();
                continue;
            };
            self.metrics.events.get_or_create(&event.what.into()).inc();
            work.forget_name(&path);
            match event.what {
                Happened::Written => work.outdated.push(Outdated::Name(path.clone())),
                Happened::Removed => {
                    work.outdated.push(Outdated::Name(path.clone()));
                    lost.extend(path.parent());
                    continue;
                }
                Happened::Moved => {
                    let forgot = self.catalog.forget_all(&path, true);
                    work.refreshed.names += forgot.names;
                    work.refreshed.listings += forgot.listings;
                    work.outdated.push(Outdated::Tree(path.clone()));
                    lost.extend(path.parent());
                }
            }
            work.forget_way(&path);
        }
        work.forget_empty(lost).await;
        let Work { outdated, refreshed, .. } = work;
        self.end(&outdated, refreshed).await
    }

    /// Tells the mounts, and waits until what is forgotten stays so.
    async fn end(&self, outdated: &[Outdated], mut refreshed: Refreshed) -> Result<Refreshed, Fault> {
        self.metrics.names.inc_by(refreshed.names);
        if outdated.is_empty() {
            return Ok(refreshed);
        }
        self.holders.let_go(outdated, &mut refreshed).await;
        self.metrics.mounts_late.inc_by(u64::from(refreshed.mounts_late));
        let catalog = self.catalog.clone();
        if !beside(move || catalog.flush()).await? {
            let why = "it is forgotten, but would be remembered after a crash: the disk of the state directory hangs";
            return Err(Fault::new(FaultKind::Unavailable, why));
        }
        Ok(refreshed)
    }
}

impl<'a> Work<'a> {
    fn new(catalog: &'a Catalog, source: &'a Arc<Source>) -> Self {
        Self { catalog, source, outdated: Vec::new(), led_to: HashSet::new(), refreshed: Refreshed::default() }
    }

    fn forget_name(&mut self, path: &NsPath) {
        self.catalog.forget_name(&self.source.facts, path);
        self.refreshed.names += 1;
    }

    /// Something may have come into being at `path`: so may the directories that lead to it.
    fn forget_way(&mut self, path: &NsPath) {
        let facts = &self.source.facts;
        let mut next = path.parent();
        while let Some(directory) = next.take_if(|directory| *directory != facts.path) {
            if !self.led_to.insert(directory.clone()) {
                return;
            }
            let known = self.catalog.lookup(facts, &directory, Instant::now());
            if !matches!(&known, Held::Found(found) if found.entry.is_directory()) {
                self.forget_name(&directory);
            }
            self.outdated.push(Outdated::Doubtful(directory.clone()));
            next = directory.parent();
        }
    }

    /// Something has gone from these directories: those that have nothing left are forgotten, and so on above them.
    async fn forget_empty(&mut self, lost: HashSet<NsPath>) {
        let mut by_depth: BTreeMap<usize, HashSet<NsPath>> = BTreeMap::new();
        let deadline = Instant::now() + LEFT_LIMIT;
        let depth = |path: &NsPath| path.as_str().matches('/').count();
        for path in lost {
            by_depth.entry(depth(&path)).or_default().insert(path);
        }
        while let Some((_, directories)) = by_depth.pop_last() {
            let source = self.source;
            let empty: Vec<NsPath> = stream::iter(directories)
                .filter(|directory| std::future::ready(*directory != source.facts.path))
                .map(|directory| async move { has_nothing(source, &directory, deadline).await.then_some(directory) })
                .buffer_unordered(LEFT_AT_ONCE)
                .filter_map(std::future::ready)
                .collect()
                .await;
            for directory in empty {
                self.forget_name(&directory);
                self.refreshed.listings += self.catalog.forget_all(&directory, false).listings;
                if let Some(above) = directory.parent() {
                    by_depth.entry(depth(&above)).or_default().insert(above);
                }
                self.outdated.push(Outdated::Directory(directory));
            }
        }
    }
}

/// Whether nothing is left of a directory, or nobody knows.
async fn has_nothing(source: &Source, directory: &NsPath, deadline: Instant) -> bool {
    let Some(key) = source.facts.key(directory) else { return false };
    let prefix = format!("{key}/");
    let asked = source.upstream.has_prefix(&prefix, deadline);
    let answered = tokio::time::timeout_at(deadline.into(), asked).await;
    !matches!(answered, Ok(Ok(true)))
}
