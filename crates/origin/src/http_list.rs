//! What a web server holds, which has no listing of its own: one object, or what a manifest says.

use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_model::{ByteRange, TimestampNs, Version};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use crate::ObjectMeta;
use crate::error::{OriginError, OriginErrorKind};
use crate::listing::{BATCH, Listed};
use crate::manifest::{MANIFEST_MAX, Row, Rows, parse};
use crate::metrics::Op;
use crate::remote::Remote;
use crate::remote_read::RemoteRead;

/// A manifest is asked for anew (by HEAD, and read if it changed) when it is older than this.
const MANIFEST_AGE: Duration = Duration::from_secs(60);
/// HEADs at one time for lines of a manifest that lack size or etag.
const HEADS: usize = 16;

/// A web server as an origin.
#[derive(Clone)]
pub(crate) struct Web {
    remote: Arc<Remote>,
    object: Arc<str>,
    is_manifest: bool,
    manifest: Arc<Mutex<Option<Loaded>>>,
}

struct Loaded {
    at: Instant,
    meta: ObjectMeta,
    rows: Arc<Rows>,
}

impl Web {
    pub(crate) fn new(remote: Arc<Remote>) -> Self {
        let url = &remote.settings.url;
        let object = url.web_object.as_deref().unwrap_or_default().into();
        Self { object, is_manifest: url.is_manifest(), manifest: Arc::default(), remote }
    }

    pub(crate) async fn stat(&self, object: &str, deadline: Instant) -> Result<ObjectMeta, OriginError> {
        let rows = self.rows(deadline).await?;
        let Some(row) = rows.get(object) else {
            let what =
                if self.is_manifest { "the manifest does not list it" } else { "this origin is one other object" };
            return Err(self.remote.error(Op::Head, object, OriginErrorKind::NotFound, what));
        };
        self.describe(object, row, deadline).await
    }

    pub(crate) async fn has_prefix(&self, prefix: &str, deadline: Instant) -> Result<bool, OriginError> {
        let rows = self.rows(deadline).await?;
        let first = rows.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)).next();
        Ok(first.is_some_and(|(key, _)| key.starts_with(prefix)))
    }

    pub(crate) async fn probe(&self, deadline: Instant) -> Result<(), OriginError> {
        self.remote.stat(&self.object, deadline).await?;
        self.rows(deadline).await.map(drop)
    }

    async fn describe(&self, object: &str, row: &Row, deadline: Instant) -> Result<ObjectMeta, OriginError> {
        match (row.size, &row.etag) {
            (Some(size), Some(etag)) => {
                Ok(ObjectMeta { size, mtime: TimestampNs(0), version: Version::Etag(Arc::clone(etag)) })
            }
            _ => Box::pin(self.remote.stat(object, deadline)).await,
        }
    }

    /// The objects, by key.
    async fn rows(&self, deadline: Instant) -> Result<Arc<Rows>, OriginError> {
        if !self.is_manifest {
            return Ok(Arc::new(Rows::from([(Arc::clone(&self.object), Row::default())])));
        }
        // One reader fetches; those who wait for it have their own deadlines.
        let Ok(mut manifest) = tokio::time::timeout_at(deadline.into(), self.manifest.lock()).await else {
            return Err(self.error(OriginErrorKind::TimedOut, "the manifest did not come in time"));
        };
        if let Some(loaded) = manifest.as_ref()
            && loaded.at.elapsed() < MANIFEST_AGE
        {
            return Ok(Arc::clone(&loaded.rows));
        }
        let meta = Box::pin(self.remote.stat(&self.object, deadline)).await?;
        match manifest.as_mut() {
            Some(loaded) if loaded.meta == meta => loaded.at = Instant::now(),
            _ => {
                let rows = Arc::new(Box::pin(self.load(&meta, deadline)).await?);
                *manifest = Some(Loaded { at: Instant::now(), meta, rows });
            }
        }
        match manifest.as_ref() {
            Some(loaded) => Ok(Arc::clone(&loaded.rows)),
            None => Err(self.error(OriginErrorKind::Unavailable, "the manifest was dropped")),
        }
    }

    async fn load(&self, meta: &ObjectMeta, deadline: Instant) -> Result<Rows, OriginError> {
        if meta.size > MANIFEST_MAX {
            return Err(self.error(OriginErrorKind::Invalid, "the manifest is larger than 256 MiB"));
        }
        let range = ByteRange::new(0, meta.size);
        let remote = Arc::clone(&self.remote);
        let mut read = RemoteRead::open(remote, &self.object, &meta.version, meta.size, range, deadline).await?;
        let mut text = Vec::with_capacity(meta.size as usize);
        while let Some(piece) = read.next().await? {
            text.extend_from_slice(&piece);
        }
        let text =
            String::from_utf8(text).map_err(|_| self.error(OriginErrorKind::Invalid, "the manifest is not UTF-8"))?;
        parse(&self.remote.settings.url, &text).map_err(|why| self.error(OriginErrorKind::Invalid, &why))
    }

    fn error(&self, kind: OriginErrorKind, what: &str) -> OriginError {
        self.remote.error(Op::Get, &self.object, kind, what)
    }
}

/// A listing of a web server under way.
pub(crate) struct HttpList {
    web: Web,
    prefix: String,
    rows: Option<Arc<Rows>>,
    /// The next key must not be below this one.
    from: Bound<String>,
    ended: bool,
}

impl HttpList {
    pub(crate) fn new(web: Web, prefix: &str) -> Self {
        Self { web, prefix: prefix.to_owned(), rows: None, from: Bound::Included(prefix.to_owned()), ended: false }
    }

    pub(crate) async fn next_batch(&mut self) -> Result<Option<Vec<Listed>>, OriginError> {
        if self.ended {
            return Ok(None);
        }
        let deadline = Instant::now() + self.web.remote.settings.deadline;
        let rows = match &self.rows {
            Some(rows) => Arc::clone(rows),
            None => {
                let rows = self.web.rows(deadline).await?;
                Arc::clone(self.rows.insert(rows))
            }
        };
        // The place is moved only when the batch is whole, so that a call that is dropped loses nothing.
        let mut from = self.from.clone();
        let mut found = Vec::new();
        while found.len() < BATCH {
            let Some((key, row)) = rows.range::<str, _>((as_str(&from), Bound::Unbounded)).next() else { break };
            let Some(rest) = key.strip_prefix(self.prefix.as_str()) else { break };
            match rest.find('/') {
                Some(slash) => {
                    let prefix = &key[..self.prefix.len() + slash];
                    // `0` is the byte after `/`: past everything below the prefix.
                    from = Bound::Included(format!("{prefix}0"));
                    found.push((Arc::from(format!("{prefix}/")), None));
                }
                None => {
                    from = Bound::Excluded(key.to_string());
                    found.push((Arc::clone(key), Some(row.clone())));
                }
            }
        }
        if found.is_empty() {
            self.ended = true;
            return Ok(None);
        }
        let web = self.web.clone();
        let described = stream::iter(found).map(|(key, row): (Arc<str>, Option<Row>)| {
            let web = web.clone();
            async move {
                let Some(row) = row else { return Ok(Listed::Prefix { key }) };
                let meta = web.describe(&key, &row, deadline).await?;
                Ok(Listed::Object { key, meta })
            }
        });
        let batch: Vec<Listed> = described.buffered(HEADS).try_collect().await?;
        self.from = from;
        Ok(Some(batch))
    }
}

fn as_str(bound: &Bound<String>) -> Bound<&str> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}
