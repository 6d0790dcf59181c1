//! One level of a store behind OpenDAL, page by page.

use std::sync::Arc;
use std::time::Instant;

use opendal::options;
use opendal::raw::OpList;
use opendal::raw::oio::{self, ListDyn};

use crate::error::{OriginError, OriginErrorKind};
use crate::explain::{Failure, explain};
use crate::listing::{BATCH, Listed};
use crate::metrics::{Op, OriginMetrics};
use crate::remote::{Remote, Try};
use crate::transport::{Notes, noting};
use crate::{Scheme, retry};

/// A listing under way.
pub(crate) struct RemoteList {
    remote: Arc<Remote>,
    prefix: String,
    lister: Option<(Try, oio::Lister)>,
    /// Kept here, not in the call, so that a call that is dropped loses no entry.
    batch: Vec<Listed>,
    /// First entry of the batch before: a store that sends the same page for ever must not be believed.
    batch_start: Option<String>,
    entries_seen: bool,
    /// The last entry that came.
    reached: Option<String>,
    /// A new lister has to come to this entry, which an earlier one gave, before it goes on.
    go_on_behind: Option<String>,
    ended: bool,
    /// The ids of the batch, where current versions of all depths are listed.
    ids: Option<Vec<Option<Arc<str>>>>,
}

impl RemoteList {
    pub(crate) fn new(remote: Arc<Remote>, prefix: &str) -> Self {
        Self {
            remote,
            prefix: prefix.to_owned(),
            lister: None,
            batch: Vec::new(),
            batch_start: None,
            entries_seen: false,
            reached: None,
            go_on_behind: None,
            ended: false,
            ids: None,
        }
    }

    /// The next entries; None when all were given.
    pub(crate) async fn next_batch(&mut self) -> Result<Option<Vec<Listed>>, OriginError> {
        if self.ended {
            return Ok(None);
        }
        let deadline = Instant::now() + self.remote.settings.deadline;
        let remote = Arc::clone(&self.remote);
        let _turn = remote.turn(Op::List, &self.prefix, deadline, None).await?;
        while !self.ended && self.batch.len() < BATCH {
            match self.next_entry(deadline).await? {
                Some(entry) => self.take(&entry)?,
                None => self.ended = true,
            }
        }
        Ok(if self.batch.is_empty() { None } else { Some(std::mem::take(&mut self.batch)) })
    }

    fn take(&mut self, entry: &oio::Entry) -> Result<(), OriginError> {
        let (path, meta) = (entry.path(), entry.metadata());
        self.entries_seen = true;
        if self.ids.is_some() && (meta.is_deleted() || meta.is_current() == Some(false)) {
            return Ok(());
        }
        let is_tree = matches!(self.remote.scheme(), Scheme::Hdfs | Scheme::Hf);
        let is_itself = path == self.prefix || (is_tree && (path == "/" || path == self.prefix.trim_end_matches('/')));
        if is_itself {
            // The directory itself, the object that stands for it, or the file that has taken its place.
            return Ok(());
        }
        if self.batch.is_empty() && self.batch_start.replace(path.to_owned()).as_deref() == Some(path) {
            let what = "the listing does not advance: the server sends the same page again and again";
            return Err(self.error(OriginErrorKind::Unavailable, what));
        }
        if !path.starts_with(&self.prefix) {
            let what = format!("the server listed {path:?}, which is not below the prefix");
            return Err(self.error(OriginErrorKind::Unsupported, &what));
        }
        if meta.is_dir() || path.ends_with('/') {
            // `/` at the root stands for all keys that start with a slash, which no name can show.
            let slash = if path.ends_with('/') { "" } else { "/" };
            self.batch.push(Listed::Prefix { key: format!("{path}{slash}").into() });
            self.ids.iter_mut().for_each(|ids| ids.push(None));
        } else {
            if let Some(ids) = &mut self.ids {
                // Written while the bucket kept no versions: another one of that name replaces it.
                ids.push(meta.version().filter(|id| *id != "null" && !id.is_empty()).map(Into::into));
            }
            let described = self.remote.describe(path, meta, meta.content_length())?;
            self.batch.push(Listed::Object { key: path.into(), meta: described });
        }
        Ok(())
    }

    /// The next entry: most come from the page at hand, every thousandth by a request.
    async fn next_entry(&mut self, deadline: Instant) -> Result<Option<oio::Entry>, OriginError> {
        let remote = Arc::clone(&self.remote);
        let is_hdfs = remote.scheme() == Scheme::Hdfs;
        let mut failures = 0;
        let mut last: Option<Failure> = None;
        loop {
            let is_new = self.lister.is_none();
            let (attempt, lister) = self.open()?;
            let (notes, generation) = (Arc::clone(&attempt.notes), attempt.generation);
            *notes.lock() = Notes::default();
            // The native client of HDFS has no transport that counts.
            if is_hdfs && is_new {
                remote.metrics.request(Op::List, remote.settings.injected_latency).await;
            }
            let next = noting(Arc::clone(&notes), lister.next_dyn());
            let failure = match tokio::time::timeout_at(deadline.into(), next).await {
                Ok(Ok(entry)) if is_hdfs && self.was_given(entry.as_ref())? => continue,
                Ok(Ok(entry)) => return Ok(entry),
                Ok(Err(error)) => explain(remote.scheme(), Op::List, &error, &notes.lock()),
                Err(_) => return Err(self.too_late(last.as_ref())),
            };
            if failure.renew && last.is_none() && remote.renew(generation) {
                if self.entries_seen {
                    let what = format!("{}; the credentials were read anew: list again", failure.what);
                    return Err(self.error(OriginErrorKind::Unavailable, &what));
                }
                self.lister = None;
                last = Some(failure);
                continue;
            }
            failures += 1;
            if is_hdfs {
                // After a failure its lister says that nothing more comes.
                self.lister = None;
                self.go_on_behind.clone_from(&self.reached);
            }
            if !failure.retry || failures >= retry::MAX_ATTEMPTS {
                return Err(self.error(failure.kind, &failure.what));
            }
            let wait = retry::wait(failures, rand::random(), failure.after);
            if Instant::now() + wait >= deadline {
                return Err(self.too_late(Some(&failure)));
            }
            tracing::debug!(prefix = &*self.prefix, failures, why = %failure.what, "origin listing is asked for again");
            tokio::time::sleep(wait).await;
            remote.metrics.retries.inc();
            last = Some(failure);
        }
    }

    /// Whether an entry is one that an earlier lister gave, before it failed.
    fn was_given(&mut self, entry: Option<&oio::Entry>) -> Result<bool, OriginError> {
        let Some(behind) = &self.go_on_behind else {
            self.reached = entry.map(|entry| entry.path().to_owned());
            return Ok(false);
        };
        let Some(entry) = entry else {
            let what = format!("the listing was interrupted behind {behind:?}, which has gone since; list again");
            return Err(self.error(OriginErrorKind::Unavailable, &what));
        };
        if entry.path() == behind {
            self.go_on_behind = None;
        }
        Ok(true)
    }

    fn open(&mut self) -> Result<&mut (Try, oio::Lister), OriginError> {
        let opened = match self.lister.take() {
            Some(opened) => opened,
            None => self.start()?,
        };
        Ok(self.lister.insert(opened))
    }

    fn start(&self) -> Result<(Try, oio::Lister), OriginError> {
        let attempt = self.remote.attempt();
        let arguments = OpList::from(options::ListOptions {
            limit: Some(BATCH),
            recursive: self.ids.is_some(),
            // With the current versions come the marks of deleted ones, which are left out.
            deleted: self.ids.is_some(),
            ..Default::default()
        });
        let lister = attempt.service.list_dyn(&attempt.context, &self.prefix, arguments);
        let lister = lister.map_err(|error| {
            let failure = explain(self.remote.scheme(), Op::List, &error, &Notes::default());
            self.error(failure.kind, &failure.what)
        })?;
        Ok((attempt, lister))
    }

    fn too_late(&self, last: Option<&Failure>) -> OriginError {
        self.remote.out_of_time(Op::List, &self.prefix, last)
    }

    fn error(&self, kind: OriginErrorKind, what: &str) -> OriginError {
        self.remote.error(Op::List, &self.prefix, kind, what)
    }
}

/// The current versions of all objects below a prefix, whatever their depth.
pub struct VersionListing {
    list: RemoteList,
    metrics: OriginMetrics,
}

impl VersionListing {
    pub(crate) fn new(remote: Arc<Remote>, prefix: &str, metrics: OriginMetrics) -> Self {
        let mut list = RemoteList::new(remote, prefix);
        list.ids = Some(Vec::new());
        Self { list, metrics }
    }

    /// The next objects, each with the id of its version where it has one that outlives it. None: that were all.
    pub async fn next_batch(&mut self) -> Result<Option<Vec<(Listed, Option<Arc<str>>)>>, OriginError> {
        let batch = Box::pin(self.list.next_batch()).await.inspect_err(|error| self.metrics.failed(error.kind))?;
        let ids = self.list.ids.replace(Vec::new()).unwrap_or_default();
        Ok(batch.map(|batch| batch.into_iter().zip(ids).collect()))
    }
}
