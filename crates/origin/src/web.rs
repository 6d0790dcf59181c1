//! What a web server holds, which has no listing of its own: one object, or whatever a manifest says.

use std::sync::Arc;
use std::time::Instant;

use crate::ObjectMeta;
use crate::error::{OriginError, OriginErrorKind};
use crate::listing::Listed;
use crate::metrics::Op;
use crate::remote::Remote;

/// A web server as an origin.
#[derive(Clone)]
pub(crate) struct Web {
    remote: Arc<Remote>,
    /// The one object. None: a manifest says which there are.
    object: Option<Arc<str>>,
}

impl Web {
    pub(crate) fn new(remote: Arc<Remote>) -> Self {
        let settings = &remote.settings;
        let object = settings.url.web_object.as_deref().filter(|_| !settings.has_manifest).map(Into::into);
        Self { object, remote }
    }

    pub(crate) async fn stat(&self, object: &str, deadline: Instant) -> Result<ObjectMeta, OriginError> {
        if self.object.as_deref().is_some_and(|ours| ours != object) {
            return Err(self.error(Op::Head, object, OriginErrorKind::NotFound, "this origin is one other object"));
        }
        self.remote.stat(object, deadline).await
    }

    pub(crate) fn has_prefix(&self, prefix: &str) -> Result<bool, OriginError> {
        match &self.object {
            Some(object) => Ok(object.starts_with(prefix)),
            None => Err(self.not_listed(prefix)),
        }
    }

    pub(crate) async fn probe(&self, deadline: Instant) -> Result<(), OriginError> {
        match &self.object {
            Some(object) => self.remote.stat(object, deadline).await.map(drop),
            // What it has is asked of the manifest.
            None => Ok(()),
        }
    }

    fn not_listed(&self, prefix: &str) -> OriginError {
        self.error(Op::List, prefix, OriginErrorKind::Unsupported, "a web server has no listing: ask the manifest")
    }

    fn error(&self, op: Op, object: &str, kind: OriginErrorKind, what: &str) -> OriginError {
        self.remote.error(op, object, kind, what)
    }
}

/// The listing of a web server: one object, or the prefix that leads to it.
pub(crate) struct WebList {
    web: Web,
    prefix: String,
    ended: bool,
}

impl WebList {
    pub(crate) fn new(web: Web, prefix: &str) -> Self {
        Self { web, prefix: prefix.to_owned(), ended: false }
    }

    pub(crate) async fn next_batch(&mut self) -> Result<Option<Vec<Listed>>, OriginError> {
        let Some(object) = &self.web.object else { return Err(self.web.not_listed(&self.prefix)) };
        let Some(rest) = object.strip_prefix(&*self.prefix).filter(|_| !self.ended) else { return Ok(None) };
        let listed = match rest.find('/') {
            Some(slash) => Listed::Prefix { key: object[..=self.prefix.len() + slash].into() },
            None => {
                let deadline = Instant::now() + self.web.remote.settings.deadline;
                let meta = Box::pin(self.web.remote.stat(object, deadline)).await?;
                Listed::Object { key: Arc::clone(object), meta }
            }
        };
        self.ended = true;
        Ok(Some(vec![listed]))
    }
}
