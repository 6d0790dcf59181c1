//! Bytes of one version of an object in a store behind OpenDAL.
//!
//! Always true here: the answer's status, range, size and etag were checked before a byte of its body is given out; a
//! body that is cut short or stands still is asked for again from where it stopped, as the same version; the last piece
//! is held back until the body has ended where it should.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use forebay_model::{ByteRange, Version};
use opendal::raw::oio::{ReadDyn, ReadStreamDyn};
use opendal::raw::{OpRead, OpReader, RpRead};
use opendal::{BytesRange, options};

use crate::error::{OriginError, OriginErrorKind};
use crate::explain::{Failure, explain};
use crate::metrics::Op;
use crate::remote::{Mishap, Remote, Try, Turn};
use crate::transport::Notes;
use crate::version::version_of;
use crate::{Scheme, key, retry};

/// Bytes before the range that are thrown away where a server ignores ranges. Beyond it the object is not readable in
/// pieces: its every page would cost a download of all before it.
const SKIP_MAX: u64 = 64 << 20;

/// A read under way.
pub(crate) struct RemoteRead {
    remote: Arc<Remote>,
    key: Arc<str>,
    version: Version,
    size: u64,
    position: u64,
    end: u64,
    deadline: Instant,
    body: Option<Body>,
    /// Whether a stat after the last piece is the proof, decided by the first answer.
    proves_after: bool,
    failures: u32,
    last: Option<Failure>,
}

struct Body {
    stream: Box<dyn ReadStreamDyn>,
    /// Bytes to throw away first: the server sent the object from its start.
    skip: u64,
    /// Whether it goes on after the range.
    runs_over: bool,
    /// Whether the answer itself said which version it is of.
    is_proved: bool,
    _turn: Turn,
}

impl RemoteRead {
    /// Sends the first request and checks its answer.
    pub(crate) async fn open(
        remote: Arc<Remote>,
        object: &str,
        version: &Version,
        size: u64,
        range: ByteRange,
        deadline: Instant,
    ) -> Result<Self, OriginError> {
        key::check_object(remote.scheme(), object)?;
        let mut read = Self {
            remote,
            key: object.into(),
            version: version.clone(),
            size,
            position: range.start,
            end: range.end,
            deadline,
            body: None,
            proves_after: false,
            failures: 0,
            last: None,
        };
        if !range.is_empty() {
            let body = read.ask().await?;
            read.proves_after = !body.is_proved;
            read.body = Some(body);
        }
        Ok(read)
    }

    /// Whether nothing is proved before the last piece.
    pub(crate) fn is_proved_at_end(&self) -> bool {
        self.proves_after
    }

    /// The next bytes; None after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        while self.position < self.end {
            match Box::pin(self.piece()).await? {
                Ok(piece) => {
                    self.position += piece.len() as u64;
                    self.failures = 0;
                    self.remote.metrics.bytes.inc_by(piece.len() as u64);
                    if self.position == self.end {
                        self.body = None;
                    }
                    return Ok(Some(piece));
                }
                Err(failure) => self.back_off(failure).await?,
            }
        }
        Ok(None)
    }

    /// A piece of the body, or why this body is of no more use.
    async fn piece(&mut self) -> Result<Result<Bytes, Failure>, OriginError> {
        if self.body.is_none() {
            let body = self.ask().await?;
            if !body.is_proved && !self.proves_after {
                // What was given out before is proved, and this could not be in time.
                return Ok(Err(Failure::again(
                    "the answer does not say which version it is of, as the one before did",
                )));
            }
            self.body = Some(body);
        }
        let left = self.end - self.position;
        let Some(body) = &mut self.body else { return Ok(Err(Failure::again("the body was dropped"))) };
        let scheme = self.remote.scheme();
        let stall = self.remote.settings.stall;
        loop {
            let until = self.deadline.min(Instant::now() + stall);
            let mut piece = match tokio::time::timeout_at(until.into(), body.stream.read_dyn()).await {
                Ok(Ok(piece)) if piece.is_empty() => {
                    return Ok(Err(Failure::again(format!("the body ended {left} bytes too early"))));
                }
                Ok(Ok(piece)) => piece.to_bytes(),
                Ok(Err(error)) => return Ok(Err(explain(scheme, Op::Get, &error, &Notes::default()))),
                Err(_) => return Ok(Err(Failure::again(format!("the body stood still for {stall:?}")))),
            };
            let skipped = body.skip.min(piece.len() as u64);
            body.skip -= skipped;
            piece = piece.slice(skipped as usize..);
            if piece.is_empty() {
                continue;
            }
            if (piece.len() as u64) < left {
                return Ok(Ok(piece));
            }
            if piece.len() as u64 > left && !body.runs_over {
                return Ok(Err(Failure::again("the body is longer than the range asked for")));
            }
            piece.truncate(left as usize);
            if !body.runs_over {
                match tokio::time::timeout_at(until.into(), body.stream.read_dyn()).await {
                    Ok(Ok(rest)) if rest.is_empty() => {}
                    Ok(Ok(_)) => return Ok(Err(Failure::again("the body is longer than the range asked for"))),
                    Ok(Err(error)) => return Ok(Err(explain(scheme, Op::Get, &error, &Notes::default()))),
                    Err(_) => return Ok(Err(Failure::again("the body does not end"))),
                }
            }
            if self.proves_after {
                self.prove_by_stat().await?;
            }
            return Ok(Ok(piece));
        }
    }

    /// Counts a failure and waits, or gives up.
    async fn back_off(&mut self, failure: Failure) -> Result<(), OriginError> {
        self.body = None;
        self.failures += 1;
        if !failure.retry || self.failures >= retry::MAX_ATTEMPTS {
            return Err(self.remote.error(Op::Get, &self.key, failure.kind, &failure.what));
        }
        let wait = retry::wait(self.failures, rand::random(), failure.after);
        if Instant::now() + wait >= self.deadline {
            let kind = if Instant::now() >= self.deadline { OriginErrorKind::TimedOut } else { failure.kind };
            let what = format!("{}; given up at the deadline", failure.what);
            return Err(self.remote.error(Op::Get, &self.key, kind, &what));
        }
        tracing::debug!(key = &*self.key, position = self.position, why = %failure.what, "origin read is resumed");
        tokio::time::sleep(wait).await;
        self.remote.metrics.retries.inc();
        self.last = Some(failure);
        Ok(())
    }

    /// Asks for what is left, and checks that the answer is what was asked for.
    async fn ask(&self) -> Result<Body, OriginError> {
        let scheme = self.remote.scheme();
        if proves_around(scheme) {
            self.prove_by_stat().await?;
        }
        let range = ByteRange::new(self.position, self.end);
        let wanted = Wanted {
            scheme,
            version: self.version.clone(),
            size: self.size,
            range,
            unproved: self.remote.settings.allow_unproved,
        };
        let call = |attempt: Try| {
            let (object, wanted) = (Arc::clone(&self.key), wanted.clone());
            async move { open(&attempt, &object, &wanted).await }
        };
        let patience = self.remote.settings.stall;
        let (opened, turn) =
            Box::pin(self.remote.call(Op::Get, &self.key, self.deadline, Some(patience), call)).await?;
        let Opened { stream, skip, runs_over, is_proved } = opened;
        Ok(Body { stream, skip, runs_over, is_proved, _turn: turn })
    }

    async fn prove_by_stat(&self) -> Result<(), OriginError> {
        let now = Box::pin(self.remote.stat(&self.key, self.deadline)).await?;
        if now.version == self.version && now.size == self.size {
            return Ok(());
        }
        Err(self.remote.error(Op::Get, &self.key, OriginErrorKind::Changed, &Failure::changed().what))
    }
}

/// What the answer to a read must be.
#[derive(Clone)]
struct Wanted {
    scheme: Scheme,
    version: Version,
    size: u64,
    range: ByteRange,
    unproved: bool,
}

/// Whether no answer says which version it is of, so that a stat before and after is the proof.
fn proves_around(scheme: Scheme) -> bool {
    matches!(scheme, Scheme::Hdfs | Scheme::Hf)
}

/// An answer whose head was checked; see [`Body`].
struct Opened {
    stream: Box<dyn ReadStreamDyn>,
    skip: u64,
    runs_over: bool,
    is_proved: bool,
}

async fn open(attempt: &Try, object: &str, wanted: &Wanted) -> Result<Opened, Mishap> {
    let capability = attempt.service.capability_dyn();
    let mut arguments = options::ReadOptions::default();
    match &wanted.version {
        Version::Id(generation) => arguments.if_version_match = Some(generation.to_string()),
        Version::Etag(etag) if capability.read_with_if_match => arguments.if_match = Some(etag.to_string()),
        Version::Etag(_) | Version::Stamp { .. } => {}
    }
    let (_, arguments, _): (BytesRange, OpRead, OpReader) = arguments.into();
    let reader = attempt.service.read_dyn(&attempt.context, object, arguments)?;
    let range = BytesRange::new(wanted.range.start, Some(wanted.range.len()));
    let (reply, stream) = reader.open_dyn(range).await.map_err(|error| {
        // A range behind the end of an object that has become shorter: some servers answer with one that ends before it begins.
        let is_other = matches!(attempt.notes.lock().content_range, Some((_, _, Some(total))) if total != wanted.size);
        if is_other { Mishap::Judged(Failure::changed()) } else { Mishap::OpenDal(error) }
    })?;
    if wanted.scheme == Scheme::Hdfs {
        return Ok(Opened { stream, skip: 0, runs_over: false, is_proved: false });
    }
    let (skip, runs_over) = check_range(&attempt.notes.lock(), wanted).map_err(Mishap::Judged)?;
    let is_proved = !proves_around(wanted.scheme) && check_version(&reply, wanted).map_err(Mishap::Judged)?;
    Ok(Opened { stream, skip, runs_over, is_proved })
}

/// How many bytes to skip, and whether the body goes on after the range.
fn check_range(notes: &Notes, wanted: &Wanted) -> Result<(u64, bool), Failure> {
    let range = wanted.range;
    match (notes.status, notes.content_range) {
        (Some(206), Some((first, last, total))) => {
            if total.is_some_and(|total| total != wanted.size) {
                return Err(Failure::changed());
            }
            if first != range.start || last.checked_add(1) != Some(range.end) {
                return Err(Failure::again(format!(
                    "bytes {first}-{last} came for bytes {}-{}",
                    range.start,
                    range.end - 1
                )));
            }
            Ok((0, false))
        }
        (Some(206), None) => {
            Err(Failure::last(OriginErrorKind::Unsupported, "a partial answer does not say which bytes it holds"))
        }
        _ => {
            // The server does not know ranges: the whole object comes.
            if notes.content_length.is_some_and(|length| length != wanted.size) {
                return Err(Failure::changed());
            }
            if range.start > SKIP_MAX {
                let what = "the server sends whole objects only (no Range), and this one is too large for that";
                return Err(Failure::last(OriginErrorKind::Unsupported, what));
            }
            Ok((range.start, range.end < wanted.size))
        }
    }
}

/// Whether the answer says that it is of the version asked for; an error if it says that it is not.
fn check_version(reply: &RpRead, wanted: &Wanted) -> Result<bool, Failure> {
    let found = reply.metadata().and_then(|meta| version_of(wanted.scheme, meta, wanted.size));
    match (&wanted.version, found) {
        (version, Some(found)) if *version == found => Ok(true),
        // Azure, OSS, COS and GCS judge the precondition, but what speaks their protocol may not.
        (Version::Etag(_) | Version::Id(_), Some(Version::Stamp { .. }) | None)
            if matches!(wanted.scheme, Scheme::Az | Scheme::Oss | Scheme::Cos | Scheme::Gs) =>
        {
            Ok(false)
        }
        (Version::Stamp { .. }, None) if wanted.unproved => Ok(true),
        (Version::Etag(_) | Version::Id(_), Some(Version::Stamp { .. }) | None) => Err(Failure::last(
            OriginErrorKind::Unsupported,
            "the answer has no strong etag, so it cannot be proved to be the version asked for",
        )),
        _ => Err(Failure::changed()),
    }
}
