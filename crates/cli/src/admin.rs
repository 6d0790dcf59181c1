//! The admin port: metrics, health and status over plain HTTP, without a password, on loopback unless told otherwise.
//!
//! | path | answer |
//! |---|---|
//! | `GET /metrics` | metrics in Prometheus text; every name starts with `forebay_` |
//! | `GET /healthz`, `GET /livez` | 200 `ok` as long as the process answers |
//! | `GET /readyz` | 200 `ready` when the mount is there; 503 `starting` before, 503 `stopping` after |
//! | `GET /v1/status` | what `forebay status --json` prints; 503 before the node is there |
//!
//! Always true here: nothing can be changed through this port, and it holds a bounded number of connections.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use forebay_client::Client;
use forebay_model::Principal;
use forebay_route::Service;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::failure::Failure;

/// Requests that are answered at the same time; others get 503. A scraper, a dashboard and a probe need three.
const REQUESTS_MAX: usize = 32;
/// How long a node may take for its status.
const STATUS_DEADLINE: Duration = Duration::from_secs(5);
/// What Prometheus reads.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The admin port. Closes when dropped.
#[derive(Debug)]
pub(crate) struct Admin {
    address: SocketAddr,
    state: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    /// Set once, when everything has started.
    node: OnceLock<(Registry, Client)>,
    stopping: OnceLock<()>,
    requests: Semaphore,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("ready", &self.node.get().is_some()).finish_non_exhaustive()
    }
}

impl Admin {
    /// Listens on `address`. Answers `starting` until [`Self::ready`].
    pub(crate) async fn start(address: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Failure::failed(format!(
                "cannot listen on {address} for metrics and health: {error}. Choose another by `--admin`, such as \
                 `--admin 127.0.0.1:0` for a free port"
            ))
        })?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::failed(format!("cannot read the admin address: {error}")))?;
        let state = Arc::new(Shared {
            node: OnceLock::new(),
            stopping: OnceLock::new(),
            requests: Semaphore::new(REQUESTS_MAX),
        });
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(alive))
            .route("/livez", get(alive))
            .route("/readyz", get(ready))
            .route("/v1/status", get(status))
            .with_state(Arc::clone(&state));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "admin port closed");
            }
        });
        Ok(Self { address, state, server })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it is ready, and shows `registry` and the status of `service`.
    pub(crate) fn ready(&self, registry: Registry, service: Arc<dyn Service>) {
        let client = Client::new(service, STATUS_DEADLINE);
        assert!(self.state.node.set((registry, client)).is_ok(), "the process becomes ready once");
    }

    /// From now on it is not ready any more.
    pub(crate) fn stopping(&self) {
        // A second call changes nothing.
        let _ = self.state.stopping.set(());
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn alive() -> &'static str {
    "ok"
}

async fn ready(State(state): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    if state.stopping.get().is_some() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping")
    } else if state.node.get().is_none() {
        (StatusCode::SERVICE_UNAVAILABLE, "starting")
    } else {
        (StatusCode::OK, "ready")
    }
}

async fn metrics(State(state): State<Arc<Shared>>) -> Response {
    let Ok(_permit) = state.requests.try_acquire() else { return busy() };
    let Some((registry, _)) = state.node.get() else { return starting() };
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the metrics: {error}\n")).into_response()
        }
    }
}

async fn status(State(state): State<Arc<Shared>>) -> Response {
    let Ok(_permit) = state.requests.try_acquire() else { return busy() };
    let Some((_, client)) = state.node.get() else { return starting() };
    match client.status(Principal::Forebay).await {
        Ok(document) => ([(header::CONTENT_TYPE, "application/json")], document).into_response(),
        Err(fault) => (StatusCode::SERVICE_UNAVAILABLE, format!("{fault}\n")).into_response(),
    }
}

fn starting() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response()
}

fn busy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "too many requests at the same time\n").into_response()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::command::testing::Tree;

    async fn get(admin: &Admin, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(admin.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_from_start_to_stop() {
        let admin = Admin::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        assert!(get(&admin, "/healthz").await.ends_with("\r\n\r\nok"));
        assert!(get(&admin, "/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(get(&admin, "/metrics").await.starts_with("HTTP/1.1 503"));

        let mut registry = Registry::default();
        crate::process_metrics::register(&mut registry);
        admin.ready(registry, Arc::new(Tree::default()));
        assert!(get(&admin, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(&admin, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(get(&admin, "/metrics").await.contains("forebay_process_threads "));
        let status = get(&admin, "/v1/status").await;
        assert!(status.contains("application/json") && status.ends_with('}'), "{status}");
        assert!(get(&admin, "/absent").await.starts_with("HTTP/1.1 404"));

        admin.stopping();
        assert!(get(&admin, "/readyz").await.contains("stopping"));
        assert!(get(&admin, "/healthz").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = Admin::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        let error = Admin::start(first.address()).await.unwrap_err();
        assert!(matches!(error, Failure::Failed { message, .. } if message.contains(&first.address().to_string())));
    }
}
