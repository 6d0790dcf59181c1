//! The admin port: metrics, health, status and word of events over plain HTTP, on loopback unless told otherwise.
//!
//! | path | answer |
//! |---|---|
//! | `GET /metrics` | metrics in Prometheus text; every name starts with `forebay_` |
//! | `GET /healthz`, `GET /livez` | 200 `ok` as long as the process answers |
//! | `GET /readyz` | 200 `ready` when the mount is there; 503 `starting` before, 503 `stopping` after |
//! | `GET /v1/status` | what `forebay status --json` prints; 503 before the node is there |
//! | `POST /v1/events/SOURCE` | takes S3 event notifications about the origin of a source, with a bearer token (`webhook`) |
//!
//! Always true here: through this port nothing can be changed but what is known of origins, by who has the token; and it works on a
//! bounded number of requests.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use forebay_client::Client;
use forebay_model::Principal;
use forebay_route::Service;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::failure::Failure;
use crate::webhook::Webhook;

/// Requests that are answered at the same time; others get 503. A scraper, a dashboard and a probe need three.
const REQUESTS_MAX: usize = 32;
/// How long a node may take for its status, or to forget what events are about: senders wait some 5 to 30 s.
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
    webhook: Webhook,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("ready", &self.node.get().is_some()).finish_non_exhaustive()
    }
}

impl Admin {
    /// Listens on `address`. Answers `starting` until [`Self::ready`].
    pub(crate) async fn start(address: SocketAddr, webhook: Webhook) -> Result<Self, Failure> {
        webhook.check().await?;
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
            webhook,
        });
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(alive))
            .route("/livez", get(alive))
            .route("/readyz", get(ready))
            .route("/v1/status", get(status))
            .route("/v1/events/{*source}", post(events))
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
    pub(crate) fn ready(&self, mut registry: Registry, service: Arc<dyn Service>) {
        self.state.webhook.register(&mut registry);
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

async fn events(
    State(state): State<Arc<Shared>>,
    Path(source): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let client = state.node.get().map(|(_, client)| client);
    state.webhook.answer(client, &source, &headers, body).await
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

    async fn start(token: Option<std::path::PathBuf>) -> Admin {
        Admin::start(([127, 0, 0, 1], 0).into(), Webhook::new(token)).await.unwrap()
    }

    async fn get(admin: &Admin, path: &str) -> String {
        ask(admin, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }

    async fn post(admin: &Admin, path: &str, token: &str, body: &str) -> String {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n");
        ask(admin, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await
    }

    async fn ask(admin: &Admin, request: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(admin.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_from_start_to_stop() {
        let admin = start(None).await;
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

    const EVENT: &str = r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"object":{"key":"k"}}},
        {"eventName":"ObjectRemoved:Delete","s3":{"object":{"key":"other"}}}]}"#;

    #[tokio::test]
    async fn events_are_taken_of_who_has_the_token() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let token = "a-token-of-some-length";
        std::fs::write(&file, token).unwrap();
        let admin = start(Some(file.clone())).await;
        let status = |answer: &str| answer[9..12].to_owned();
        assert_eq!(status(&post(&admin, "/v1/events/s", token, EVENT).await), "503");
        admin.ready(Registry::default(), Arc::new(Tree::default()));
        let answer = post(&admin, "/v1/events/s", token, EVENT).await;
        assert!(answer.contains(r#""ignored":1"#) && answer.contains(r#""names":1"#), "{answer}");
        assert_eq!(status(&post(&admin, "/v1/events//s/", token, EVENT).await), "200");
        for (path, shown, body, expected) in [
            ("/v1/events/s", "a-token-of-some-lengtH", EVENT, "401"),
            ("/v1/events/s", "", "{}", "401"),
            ("/v1/events/s", token, "{}", "400"),
            ("/v1/events/nowhere", token, EVENT, "404"),
            ("/v1/events/s/../t", token, EVENT, "404"),
            ("/v1/events", token, EVENT, "404"),
        ] {
            let answer = post(&admin, path, shown, body).await;
            assert_eq!(status(&answer), expected, "{path} {body}: {answer}");
            assert!(!answer.contains("a-token"), "{answer}");
        }
        let long = format!("{{\"Records\":[],\"x\":\"{}\"}}", "x".repeat(5 << 20));
        assert_eq!(status(&post(&admin, "/v1/events/s", token, &long).await), "413");
        assert_eq!(status(&get(&admin, "/v1/events/s").await), "405");
        let metrics = get(&admin, "/metrics").await;
        assert!(metrics.contains(r#"forebay_webhook_requests_total{status="401"} 2"#), "{metrics}");

        // Another token from now on.
        std::fs::write(&file, "another-token-of-some-length").unwrap();
        assert_eq!(status(&post(&admin, "/v1/events/s", token, EVENT).await), "401");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(status(&post(&admin, "/v1/events/s", token, EVENT).await), "500");
    }

    #[tokio::test]
    async fn without_a_token_no_events_are_taken() {
        let admin = start(None).await;
        let answer = post(&admin, "/v1/events/s", "", EVENT).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("events_token"), "{answer}");
        let absent = Webhook::new(Some("/nowhere/token".into()));
        let error = Admin::start(([127, 0, 0, 1], 0).into(), absent).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/token"), "{error}");
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = start(None).await;
        let error = Admin::start(first.address(), Webhook::new(None)).await.unwrap_err();
        assert!(matches!(error, Failure::Failed { message, .. } if message.contains(&first.address().to_string())));
    }
}
