//! One store behind OpenDAL: the loop around every call (turn, deadline, retries, renewal of credentials), stat and the
//! one-key question whether a prefix exists.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay_model::{TimestampNs, Version};
use opendal::raw::oio::{ListDyn, ReadDyn};
use opendal::raw::{OpList, OpRead, OpStat, Servicer};
use opendal::{BytesRange, Executor, HttpTransporter, Metadata, OperationContext, options};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::connect::connect;
use crate::error::{OriginError, OriginErrorKind};
use crate::explain::{Failure, explain};
use crate::metrics::{Op, OriginMetrics};
use crate::settings::Resolved;
use crate::transport::{Notes, Transport, noting};
use crate::version::{mtime_of, version_of};
use crate::{Credentials, ObjectMeta, OriginSettings, Scheme, key, retry};

/// Credentials are read anew after a refusal, but not more often than this: wrong keys must not double every request.
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// A store behind OpenDAL.
pub(crate) struct Remote {
    pub(crate) settings: OriginSettings,
    resolved: Resolved,
    pub(crate) metrics: OriginMetrics,
    context: OperationContext,
    service: Mutex<Connected>,
    turns: Arc<Semaphore>,
    /// Whether a listing was seen whose order cannot be relied on.
    pub(crate) lists_in_disorder: AtomicBool,
}

/// The service in use. It holds the credentials that it has loaded, so new credentials mean a new service.
struct Connected {
    service: Servicer,
    generation: u64,
    renewed: Option<Instant>,
}

/// One try of a call.
#[derive(Clone)]
pub(crate) struct Try {
    pub(crate) service: Servicer,
    pub(crate) context: OperationContext,
    pub(crate) notes: Arc<Mutex<Notes>>,
    pub(crate) generation: u64,
}

/// Why a try failed: OpenDAL's word, to be explained, or a judgement already made.
pub(crate) enum Mishap {
    OpenDal(opendal::Error),
    Judged(Failure),
}

impl From<opendal::Error> for Mishap {
    fn from(error: opendal::Error) -> Self {
        Self::OpenDal(error)
    }
}

/// A turn among the requests that may be under way at one time. Ends when dropped.
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
    in_flight: Gauge,
}

impl Turn {
    pub(crate) fn new(permit: OwnedSemaphorePermit, metrics: &OriginMetrics) -> Self {
        metrics.in_flight.inc();
        Self { _permit: permit, in_flight: metrics.in_flight.clone() }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

impl Remote {
    pub(crate) fn new(
        settings: OriginSettings,
        resolved: Resolved,
        metrics: OriginMetrics,
    ) -> Result<Self, OriginError> {
        let transport = HttpTransporter::new(Transport::new(&settings, metrics.clone())?);
        let service = connect(&settings, &resolved)?;
        Ok(Self {
            context: OperationContext::from_parts(transport, Executor::default()),
            service: Mutex::new(Connected { service, generation: 0, renewed: None }),
            turns: Arc::new(Semaphore::new(settings.max_requests)),
            lists_in_disorder: AtomicBool::new(false),
            settings,
            resolved,
            metrics,
        })
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.settings.url.scheme()
    }

    /// Size, time and version of the object of exactly this key.
    pub(crate) async fn stat(&self, object: &str, deadline: Instant) -> Result<ObjectMeta, OriginError> {
        let scheme = self.scheme();
        key::check_object(scheme, object)?;
        let owned: Arc<str> = object.into();
        let call = |attempt: Try| {
            let object = Arc::clone(&owned);
            async move {
                match attempt.service.stat_dyn(&attempt.context, &object, OpStat::default()).await {
                    Ok(reply) => Ok((reply.into_metadata(), attempt.notes.lock().content_length)),
                    Err(error) => {
                        ask_why(scheme, &attempt, &object).await;
                        Err(Mishap::OpenDal(error))
                    }
                }
            }
        };
        let ((meta, length), _turn) = self.call(Op::Head, object, deadline, Some(self.settings.stall), call).await?;
        if meta.is_dir() && !object.ends_with('/') {
            return Err(self.error(Op::Head, object, OriginErrorKind::NotFound, "it is a directory"));
        }
        let size = if object.ends_with('/') { length.unwrap_or(0) } else { meta.content_length() };
        self.describe(object, &meta, size)
    }

    /// Whether its listings can begin at any key, come in the order of keys, and are read here.
    pub(crate) fn lists_ranges(&self) -> bool {
        matches!(self.scheme(), Scheme::S3 | Scheme::Oss | Scheme::Gs)
            && self.attempt().service.capability_dyn().list_with_start_after
            && !self.lists_in_disorder.load(Ordering::Relaxed)
    }

    /// Whether any key starts with `prefix`.
    pub(crate) async fn has_prefix(&self, prefix: &str, deadline: Instant) -> Result<bool, OriginError> {
        key::check_prefix(self.scheme(), prefix)?;
        let owned: Arc<str> = prefix.into();
        let call = |attempt: Try| {
            let prefix = Arc::clone(&owned);
            async move {
                let capability = attempt.service.capability_dyn();
                let recursive = capability.list_with_recursive && capability.list_with_limit;
                let arguments = OpList::from(options::ListOptions { limit: Some(1), recursive, ..Default::default() });
                let mut lister = attempt.service.list_dyn(&attempt.context, &prefix, arguments)?;
                // A tree answers for a file as for a directory: with the file itself.
                let file = prefix.trim_end_matches('/');
                let first = lister.next_dyn().await?;
                Ok(first.is_some_and(|entry| entry.metadata().is_dir() || entry.path() != file))
            }
        };
        let (found, _turn) = self.call(Op::List, prefix, deadline, Some(self.settings.stall), call).await?;
        Ok(found)
    }

    /// What the caller learns of an object.
    pub(crate) fn describe(&self, object: &str, meta: &Metadata, size: u64) -> Result<ObjectMeta, OriginError> {
        let scheme = self.scheme();
        let mtime = mtime_of(scheme, meta);
        let version = match version_of(scheme, meta, size) {
            Some(version) => version,
            None if self.settings.allow_unproved => Version::Stamp { mtime: TimestampNs(0), size, file: None },
            None => {
                return Err(self.error(
                    Op::Head,
                    object,
                    OriginErrorKind::Unsupported,
                    "the server gives neither a strong etag nor a time, so no version can be proved; \
                     if its contents never change, make the source `immutable`",
                ));
            }
        };
        Ok(ObjectMeta { size, mtime: mtime.unwrap_or_default(), version })
    }

    /// Runs `call` until it succeeds, cannot succeed, or `deadline` is reached. `patience` bounds one try.
    pub(crate) async fn call<T, F, Fut>(
        &self,
        op: Op,
        object: &str,
        deadline: Instant,
        patience: Option<Duration>,
        call: F,
    ) -> Result<(T, Turn), OriginError>
    where
        F: Fn(Try) -> Fut,
        Fut: Future<Output = Result<T, Mishap>> + Send,
    {
        let mut failures = 0;
        let mut renewed = false;
        // What the last try said: worth more to people than that time ran out.
        let mut last: Option<Failure> = None;
        loop {
            let turn = self.turn(op, object, deadline, last.as_ref()).await?;
            let attempt = self.attempt();
            let until = patience.map_or(deadline, |patience| deadline.min(Instant::now() + patience));
            let notes = Arc::clone(&attempt.notes);
            let generation = attempt.generation;
            let tried = async {
                // Other schemes count and wait in the transport, where each request passes.
                if self.scheme() == Scheme::Hdfs {
                    self.metrics.request(op, self.settings.injected_latency).await;
                }
                call(attempt).await
            };
            let outcome = tokio::time::timeout_at(until.into(), Box::pin(noting(Arc::clone(&notes), tried))).await;
            let failure = match outcome {
                Ok(Ok(value)) => return Ok((value, turn)),
                Ok(Err(Mishap::Judged(failure))) => failure,
                Ok(Err(Mishap::OpenDal(error))) => explain(self.scheme(), op, &error, &notes.lock()),
                Err(_) if Instant::now() >= deadline => return Err(self.out_of_time(op, object, last.as_ref())),
                Err(_) => Failure::again(format!("no answer within {:?}", self.settings.stall)),
            };
            drop(turn);
            if failure.renew && !renewed && self.renew(generation) {
                renewed = true;
                continue;
            }
            failures += 1;
            if !failure.retry || failures >= retry::MAX_ATTEMPTS {
                return Err(self.error(op, object, failure.kind, &failure.what));
            }
            let wait = retry::wait(failures, rand::random(), failure.after);
            if Instant::now() + wait >= deadline {
                return Err(self.out_of_time(op, object, Some(&failure)));
            }
            tracing::debug!(op = op.as_str(), key = object, failures, why = %failure.what, "origin request is sent again");
            tokio::time::sleep(wait).await;
            self.metrics.retries.inc();
            last = Some(failure);
        }
    }

    /// Waits for a turn.
    pub(crate) async fn turn(
        &self,
        op: Op,
        object: &str,
        deadline: Instant,
        last: Option<&Failure>,
    ) -> Result<Turn, OriginError> {
        let permit = tokio::time::timeout_at(deadline.into(), Arc::clone(&self.turns).acquire_owned()).await;
        match permit {
            Ok(Ok(permit)) => Ok(Turn::new(permit, &self.metrics)),
            // The semaphore is never closed, so this is the deadline.
            _ => match last {
                Some(failure) => Err(self.out_of_time(op, object, Some(failure))),
                None => {
                    let what = format!("all {} requests to this origin were busy", self.settings.max_requests);
                    Err(self.error(op, object, OriginErrorKind::TimedOut, &what))
                }
            },
        }
    }

    /// Requests that could begin now.
    pub(crate) fn turns_free(&self) -> usize {
        self.turns.available_permits()
    }

    pub(crate) fn attempt(&self) -> Try {
        let connected = self.service.lock();
        Try {
            service: Arc::clone(&connected.service),
            context: self.context.clone(),
            notes: Arc::default(),
            generation: connected.generation,
        }
    }

    /// Reads credentials anew, unless that was just done. Whether there is a newer service than `generation`.
    ///
    /// Credentials that say when they end are renewed by the signer two minutes before. Those of a file that somebody
    /// rewrites do not say: only a refusal tells.
    pub(crate) fn renew(&self, generation: u64) -> bool {
        if !matches!(self.settings.credentials, Credentials::Standard) {
            return false;
        }
        let mut connected = self.service.lock();
        if connected.generation != generation {
            return true;
        }
        if connected.renewed.is_some_and(|at| at.elapsed() < RENEW_EVERY) {
            return false;
        }
        connected.renewed = Some(Instant::now());
        let Ok(service) = connect(&self.settings, &self.resolved) else {
            return false;
        };
        connected.service = service;
        connected.generation += 1;
        self.metrics.renewals.inc();
        tracing::info!(origin = %self.settings.url, "credentials are read anew after a refusal");
        true
    }

    pub(crate) fn error(&self, op: Op, object: &str, kind: OriginErrorKind, what: &str) -> OriginError {
        OriginError::new(kind, format!("{} {}: {what}", op.as_str().to_uppercase(), self.name(object)))
    }

    /// The deadline was reached: after answers that said to come back, or without any.
    pub(crate) fn out_of_time(&self, op: Op, object: &str, last: Option<&Failure>) -> OriginError {
        match last {
            Some(failure) => {
                self.error(op, object, failure.kind, &format!("{}; given up at the deadline", failure.what))
            }
            None => self.error(
                op,
                object,
                OriginErrorKind::TimedOut,
                "no answer before the deadline; check the address and that the origin is up",
            ),
        }
    }

    /// The object's address for people.
    fn name(&self, object: &str) -> String {
        let url = &self.settings.url;
        let id = &self.resolved.id;
        match url.scheme() {
            Scheme::Hdfs | Scheme::Http | Scheme::Https => format!("{}/{object}", id.endpoint),
            scheme => format!("{}://{}/{object} at {}", scheme.as_str(), url.bucket(), id.endpoint),
        }
    }
}

/// S3 answers a HEAD without a body. Where the status alone does not say what to do, a GET of one byte does.
async fn ask_why(scheme: Scheme, attempt: &Try, object: &str) {
    let unclear = {
        let notes = attempt.notes.lock();
        notes.code.is_none() && matches!(notes.status, Some(301 | 307 | 400 | 401 | 403))
    };
    if scheme != Scheme::S3 || !unclear {
        return;
    }
    let before = attempt.notes.lock().clone();
    if let Ok(reader) = attempt.service.read_dyn(&attempt.context, object, OpRead::default()) {
        let answer = reader.open_dyn(BytesRange::new(0, Some(1))).await;
        let mut notes = attempt.notes.lock();
        if answer.is_ok() || notes.code.is_none() {
            *notes = before;
        }
    }
}
