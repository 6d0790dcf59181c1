//! Puts the engines together: the only file that starts them, and stops them.
//!
//! Always true here: what was started is stopped in the reverse order, also when a later part fails to start. Not here: what a
//! setting means to an engine (`engines.rs`).

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_catalog::{Catalog, SourceFacts};
use forebay_client::Client;
use forebay_cluster::Embedded;
use forebay_fuse::{Mount, Passthrough};
use forebay_model::{Fault, FaultKind, Freshness, NsPath, SourceSpec};
use forebay_node::{Listener, ManifestFile, Node, NodeParts, OpenFile, OpenSource, Source, upstream};
use forebay_origin::{OriginFamilies, Proof};
use forebay_route::Service;
use forebay_store::{DirectoryStats, Recovery, Store, StoreError, StoreOptions};
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::connect::default_sockets;
use crate::failure::Failure;
use crate::settings::Settings;

use super::engines;
use super::limits::Limits;
use super::ready::{Ready, ReadyCache, Recovered};

/// What requests under way get to end when the process stops: the mount itself takes up to two seconds more, the store's
/// queue up to five, and all of it must be below `up`'s limit.
const MOUNT_GRACE: Duration = Duration::from_secs(1);
/// How long a start waits for what is known of the caches, so that the ready line says it: about a million entries. The
/// rest becomes known while the process serves.
const RECOVERY_PATIENCE: Duration = Duration::from_millis(500);

/// Everything that `up` runs. Fields are dropped in order: nobody asks the node when it goes.
pub(crate) struct Running {
    mount: Option<Mount>,
    listener: Listener,
    node: Arc<Node>,
    report: Ready,
}

/// Starts everything. When it returns, the mount can be used. The origin is not asked: it may be away.
///
/// # Errors
/// `Usage` for settings that an engine refuses, `Failed` for what the machine refuses; nothing is left running.
pub(crate) async fn start(settings: &Settings, limits: Limits, registry: &mut Registry) -> Result<Running, Failure> {
    if let Some(address) = settings.process.listen {
        let why = "this version answers commands on its Unix socket alone: leave `listen` out";
        return Err(Failure::usage(format!("listen: {address}: {why}")));
    }
    let origins = OriginFamilies::default();
    let given = match &settings.source.origin {
        Some(url) => {
            let path = engines::source_path(settings, url)?;
            // Before anything is written: what is wrong with it ends the start.
            Some(open_source(&crate::origin::source(url, path, settings), settings, &origins)?.spec)
        }
        None => None,
    };
    let store = open_store(engines::store(settings, limits)).await?;
    let sources = open_registry(settings, given.clone())?;
    let catalog = open_catalog(settings).await?;
    let manifests = engines::state_directory(settings).map(|state| state.join("manifests"));

    let ours = registry.sub_registry_with_prefix("forebay");
    origins.register(ours);
    let node = Arc::new(Node::new(NodeParts {
        registry: sources,
        open: source_opener(settings.clone(), origins.clone()),
        open_file: file_opener(settings.clone(), origins),
        manifests: manifests.ok_or_else(no_state_directory)?,
        store: Arc::clone(&store),
        catalog,
        fetch: engines::fetch(settings, limits),
        runtime: Handle::current(),
    }));
    node.register(ours);
    let listener = listen(settings, &node)?;

    let mut report = Ready::new(listener.path().to_owned());
    report.sources = node.source_list().into_iter().map(Into::into).collect();
    let root = given.as_ref().map_or_else(NsPath::root, |spec| spec.path.clone());
    let shown = given.map_or_else(|| "all sources".to_owned(), |spec| spec.origin);
    report.cache = caches(&store);
    report.recovered = recovered(store.recovery());

    let mount = match &settings.mount.dir {
        Some(directory) => {
            report.shows = Some(shown.clone());
            let options = engines::mount(settings, limits, directory, root, shown);
            let service: Arc<dyn Service> = Arc::clone(&node) as _;
            let client = Client::new(service, engines::client_deadline(settings));
            let runtime = Handle::current();
            let mount = blocking(move || Mount::start(&options, client, runtime))
                .await?
                .map_err(|error| Failure::failed(error.to_string()))?;
            mount.register(registry);
            node.add_holder(Arc::new(mount.invalidator()));
            report.mount = Some(mount.mountpoint().to_owned());
            report.kind = Some(settings.mount.kind.name());
            report.passthrough = Some(match mount.passthrough() {
                Passthrough::Active => "active".to_owned(),
                Passthrough::Unavailable(why) => why,
            });
            report.transport = Some(mount.transport().to_string());
            Some(mount)
        }
        None => None,
    };
    Ok(Running { mount, listener, node, report })
}

impl Running {
    /// What was started. The admin address is the caller's to fill in.
    pub(crate) fn report(&self) -> &Ready {
        &self.report
    }

    /// The node of this process.
    pub(crate) fn service(&self) -> Arc<dyn Service> {
        Arc::clone(&self.node) as _
    }

    /// Waits until something other than a signal ends the work, and says what.
    pub(crate) async fn ended(&self) -> String {
        match &self.mount {
            Some(mount) => {
                mount.unmounted().await;
                format!("{} was unmounted", mount.mountpoint().display())
            }
            None => std::future::pending().await,
        }
    }

    /// Stops everything: unmounts, removes the socket, writes what waits for the caches.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        let Self { mount, listener, node, .. } = self;
        let unmounted = match mount {
            Some(mount) => blocking(move || mount.stop(MOUNT_GRACE)).await?.map_err(|error| error.to_string()),
            None => Ok(()),
        };
        drop(listener);
        let closed = blocking(move || node.close()).await?.map_err(|error| error.to_string());
        unmounted.and(closed).map_err(Failure::failed)
    }
}

/// Opens sources as they come, for as long as the process runs.
fn source_opener(settings: Settings, origins: OriginFamilies) -> OpenSource {
    Box::new(move |spec| {
        let invalid = |failure: Failure| Fault::new(FaultKind::Invalid, failure.to_string());
        open_source(spec, &settings, &origins).map_err(invalid)
    })
}

/// Opens the files of manifests and snapshots as they come.
fn file_opener(settings: Settings, origins: OriginFamilies) -> OpenFile {
    Box::new(move |spec, address| {
        let invalid = |failure: Failure| Fault::new(FaultKind::Invalid, failure.to_string());
        let counted = origins.of(spec.path.as_str());
        let (origin, key) = crate::origin::open_file(spec, address, &settings, counted).map_err(invalid)?;
        let is_in_bucket = !origin.id().bucket.is_empty();
        Ok(ManifestFile { upstream: upstream(origin), key, address: address.to_owned(), is_in_bucket })
    })
}

/// The source that a definition speaks of. Sends nothing.
fn open_source(spec: &SourceSpec, settings: &Settings, origins: &OriginFamilies) -> Result<Source, Failure> {
    let origin = crate::origin::open(spec, settings, origins.of(spec.path.as_str()))?;
    let proof = origin.proof();
    if proof == Proof::None && spec.freshness != Freshness::Immutable {
        let why = "this origin cannot prove which version it gives: use it with `--freshness immutable` only";
        return Err(Failure::usage(format!("{}: {why}", origin.url())));
    }
    let facts = SourceFacts {
        path: spec.path.clone(),
        origin: origin.id().clone(),
        prefix: origin.prefix().into(),
        teller: None,
        freshness: spec.freshness,
        added: spec.added,
    };
    // A web server's address may name the manifest itself.
    let own = origin.url().is_manifest().then(|| origin.url().to_string());
    Ok(Source {
        manifest: spec.manifest.clone().or(own),
        spec: SourceSpec { origin: origin.url().to_string(), ..spec.clone() },
        facts: Arc::new(facts),
        proof: proof.as_str().to_owned(),
        upstream: upstream(origin),
        problem: Default::default(),
    })
}

/// A store that serves, and that knows by now what lies in caches of a usual size.
async fn open_store(options: StoreOptions) -> Result<Arc<Store>, Failure> {
    let open = move || {
        let store = Store::start(&options)?;
        store.wait_recovered(RECOVERY_PATIENCE);
        Ok(Arc::new(store))
    };
    blocking(open).await?.map_err(|error: StoreError| Failure::failed(error.to_string()))
}

/// Opens the catalog in the state directory.
async fn open_catalog(settings: &Settings) -> Result<Catalog, Failure> {
    let Some(options) = engines::catalog(settings) else { return Err(no_state_directory()) };
    blocking(move || Catalog::open(&options)).await?.map_err(|error| Failure::failed(error.to_string()))
}

fn no_state_directory() -> Failure {
    Failure::usage("there is no state directory: give `--state DIR`")
}

/// The registry, with the source of the command line in it, if there is one: the registry knows when it was first added, and the rules
/// that the command line does not speak of.
fn open_registry(settings: &Settings, given: Option<SourceSpec>) -> Result<Embedded, Failure> {
    let Some(directory) = engines::state_directory(settings) else {
        return Err(no_state_directory());
    };
    fs::create_dir_all(&directory).map_err(|error| {
        Failure::failed(format!("cannot make the state directory {}: {error}", directory.display()))
    })?;
    let refused = |error: forebay_cluster::RegistryError| Failure::failed(error.to_string());
    let mut registry = Embedded::open(&directory).map_err(refused)?;
    if let Some(mut spec) = given {
        if let Some(known) = registry.sources().iter().find(|known| known.path == spec.path) {
            (spec.quota, spec.priority, spec.read_only) = (known.quota, known.priority, known.read_only);
            spec.manifest.clone_from(&known.manifest);
        }
        registry.put_source(spec).map_err(refused)?;
    }
    if registry.sources().is_empty() && settings.mount.dir.is_none() {
        tracing::info!("there is no source yet: `forebay source add PATH ORIGIN` adds one");
    }
    Ok(registry)
}

/// Listens on the socket of the settings; without one, on the first default that this user may use.
fn listen(settings: &Settings, node: &Arc<Node>) -> Result<Listener, Failure> {
    let refused = |path: &PathBuf, error: &io::Error| {
        let advice = "choose another by `--socket PATH`";
        Failure::failed(format!("cannot listen for commands on {}: {error}; {advice}", path.display()))
    };
    if let Some(path) = &settings.process.socket {
        let path = engines::absolute(path);
        return Listener::bind(&path, Arc::clone(node)).map_err(|error| refused(&path, &error));
    }
    let mut sockets = default_sockets().into_iter().peekable();
    while let Some(path) = sockets.next() {
        match Listener::bind(&path, Arc::clone(node)) {
            Ok(listener) => return Ok(listener),
            // /run is root's: a user's own directory is next.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && sockets.peek().is_some() => {}
            Err(error) => return Err(refused(&path, &error)),
        }
    }
    unreachable!("there is always a default socket")
}

fn caches(store: &Store) -> Vec<ReadyCache> {
    let cache = |directory: DirectoryStats| ReadyCache {
        directory: directory.path,
        capacity_bytes: directory.capacity,
        resident_bytes: directory.bytes_resident,
        is_down: directory.is_down,
        is_recovering: directory.is_recovering,
    };
    store.directories().into_iter().map(cache).collect()
}

fn recovered(recovery: Recovery) -> Recovered {
    let Recovery { contents, bytes, micros, recovering, .. } = recovery;
    Recovered { contents, bytes, millis: micros / 1000, is_complete: recovering == 0 }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    spawn_blocking(work).await.map_err(|error| Failure::failed(format!("a part of the process broke off: {error}")))
}
