//! `POST /v1/events/SOURCE` of the admin port: a store tells what has happened to its objects, and it is forgotten.
//!
//! Always true here: nothing is read of a body before the token was shown; what is taken is bounded; 200 says that nothing older than
//! the event is told from then on, and any other answer that the sender had better send it again.

mod shapes;
mod token;

use std::path::PathBuf;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use forebay_client::Client;
use forebay_model::{FaultKind, NsPath, Principal};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::failure::Failure;

/// Bytes of one request: some thousand records of AWS, which sends one, and a part of a bulk deletion of MinIO.
const BODY_MAX: usize = 4 << 20;
/// Requests that are worked on at the same time; others are to be sent again.
const REQUESTS_MAX: usize = 8;

/// Takes events.
pub(crate) struct Webhook {
    /// The file with the token. None: no events are taken.
    token: Option<PathBuf>,
    requests: Semaphore,
    answers: Family<[(&'static str, u16); 1], Counter>,
}

impl Webhook {
    pub(crate) fn new(token: Option<PathBuf>) -> Self {
        Self { token, requests: Semaphore::new(REQUESTS_MAX), answers: Family::default() }
    }

    /// Whether what is set can be used.
    pub(crate) async fn check(&self) -> Result<(), Failure> {
        match &self.token {
            Some(file) => token::read(file).await.map(drop).map_err(Failure::usage),
            None => Ok(()),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let ours = registry.sub_registry_with_prefix("forebay");
        ours.register("webhook_requests", "Requests of senders of events, by status", self.answers.clone());
    }

    /// Answers one request. `client` is none before the node is there.
    pub(crate) async fn answer(
        &self,
        client: Option<&Client>,
        source: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Response {
        let response = match self.take(client, source, headers, body).await {
            Ok(response) => response,
            Err((status, why)) => {
                tracing::debug!(source, status = status.as_u16(), "events refused");
                (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{why}\n")).into_response()
            }
        };
        self.answers.get_or_create(&[("status", response.status().as_u16())]).inc();
        response
    }

    async fn take(
        &self,
        client: Option<&Client>,
        source: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, (StatusCode, String)> {
        let Some(file) = &self.token else {
            let why = "events are not taken: set `events_token` to a file with the token that their sender shows";
            return Err((StatusCode::FORBIDDEN, why.to_owned()));
        };
        let busy = |_| (StatusCode::SERVICE_UNAVAILABLE, "too many requests at the same time".to_owned());
        let _permit = self.requests.try_acquire().map_err(busy)?;
        let token = token::read(file).await.map_err(|why| {
            tracing::error!(why, "events are refused");
            (StatusCode::INTERNAL_SERVER_ERROR, "the token cannot be read: look at the log".to_owned())
        })?;
        let shown = headers.get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
        if !token::is_shown(shown, &token) {
            let why = "the token is missing or wrong: send `Authorization: Bearer TOKEN`";
            return Err((StatusCode::UNAUTHORIZED, why.to_owned()));
        }
        let client = client.ok_or((StatusCode::SERVICE_UNAVAILABLE, "starting".to_owned()))?;
        let path = format!("/{}", source.trim_matches('/'));
        let path: NsPath = path.parse().map_err(|error| (StatusCode::NOT_FOUND, format!("{error}")))?;
        let too_long = |_| (StatusCode::PAYLOAD_TOO_LARGE, format!("a body of at most {BODY_MAX} bytes is expected"));
        let body = to_bytes(body, BODY_MAX).await.map_err(too_long)?;
        let events = shapes::read(&body).map_err(|why| (StatusCode::BAD_REQUEST, why))?;
        let refreshed = client.events(Principal::Forebay, &path, events).await.map_err(|fault| {
            let status = match fault.kind {
                FaultKind::NotFound => StatusCode::NOT_FOUND,
                FaultKind::Invalid => StatusCode::BAD_REQUEST,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, fault.message)
        })?;
        if refreshed.mounts_late > 0 {
            let why = "it is forgotten, but the mount's kernel has not let go of it yet";
            return Err((StatusCode::SERVICE_UNAVAILABLE, why.to_owned()));
        }
        let done = json!({ "names": refreshed.names, "listings": refreshed.listings, "ignored": refreshed.ignored });
        Ok(([(header::CONTENT_TYPE, "application/json")], format!("{done}\n")).into_response())
    }
}
