//! The façade: one type for every kind of origin.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use forebay_model::{ByteRange, OriginId, TimestampNs, Version};

use crate::error::{OriginError, OriginErrorKind};
use crate::files::Files;
use crate::files_list::FilesList;
use crate::listing::{self, Listing};
use crate::metrics::OriginMetrics;
use crate::parallel::{KeySpan, PartListing};
use crate::read::{self, ReadStream};
use crate::remote::Remote;
use crate::remote_list::RemoteList;
use crate::remote_list::VersionListing;
use crate::remote_read::RemoteRead;
use crate::upload::{self, FileUpload, RemoteUpload, Upload};
use crate::version::{Stated, version_of_stated};
use crate::web::{Web, WebList};
use crate::{OriginSettings, OriginUrl, Scheme};

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Size in bytes.
    pub size: u64,
    /// Modification time; 0 where the origin does not tell it.
    pub mtime: TimestampNs,
    /// Its version. A listing and a stat of one content give the same.
    pub version: Version,
}

/// How an origin proves that bytes belong to a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// The request carries the version (`If-Match`), and the answer's is compared; where that has none, a stat follows.
    Precondition,
    /// The answer's etag, or its time and size, are compared; a precondition is sent where there is an etag.
    Response,
    /// The object is looked at before and after: for files the open descriptor, after every piece.
    StatAround,
    /// Nothing but the size: only for sources whose contents never change.
    None,
}

impl Proof {
    /// A name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Precondition => "precondition",
            Self::Response => "response",
            Self::StatAround => "stat-around",
            Self::None => "none",
        }
    }
}

/// A store, open for reading. Clones share connections, counters and the cap of requests.
#[derive(Clone)]
pub struct Origin {
    id: Arc<OriginId>,
    settings: Arc<OriginSettings>,
    metrics: OriginMetrics,
    engine: Engine,
}

#[derive(Clone)]
enum Engine {
    Store(Arc<Remote>),
    Web(Arc<Remote>, Web),
    Files(Files),
}

impl Origin {
    /// An origin for `settings`, with counters of its own. Sends nothing; fails if the settings make no sense.
    pub fn open(settings: OriginSettings) -> Result<Self, OriginError> {
        Self::open_counted(settings, OriginMetrics::default())
    }

    /// The same, counted in `metrics`.
    pub fn open_counted(mut settings: OriginSettings, metrics: OriginMetrics) -> Result<Self, OriginError> {
        settings.has_manifest |= settings.url.is_manifest();
        let resolved = settings.resolve(&|name| std::env::var(name).ok())?;
        let id = Arc::new(resolved.id.clone());
        let engine = match settings.url.scheme() {
            Scheme::File => Engine::Files(Files::new(settings.clone(), metrics.clone())),
            scheme => {
                let remote = Arc::new(Remote::new(settings.clone(), resolved, metrics.clone())?);
                if scheme.is_web() { Engine::Web(Arc::clone(&remote), Web::new(remote)) } else { Engine::Store(remote) }
            }
        };
        Ok(Self { id, settings: Arc::new(settings), metrics, engine })
    }

    /// Which store this is: scheme, normalised endpoint, bucket.
    pub fn id(&self) -> &OriginId {
        &self.id
    }

    /// Its address, without credentials.
    pub fn url(&self) -> &OriginUrl {
        &self.settings.url
    }

    /// What all its keys start with: empty, or ends in `/`.
    pub fn prefix(&self) -> &str {
        self.settings.url.prefix()
    }

    /// How it proves a version.
    pub fn proof(&self) -> Proof {
        match self.settings.url.scheme() {
            Scheme::S3 | Scheme::Gs | Scheme::Az | Scheme::Oss | Scheme::Cos => Proof::Precondition,
            Scheme::Http | Scheme::Https if self.settings.allow_unproved => Proof::None,
            Scheme::Http | Scheme::Https => Proof::Response,
            Scheme::File | Scheme::Hdfs | Scheme::Hf => Proof::StatAround,
        }
    }

    /// Now and the settings' deadline: for callers that have none of their own.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.settings.deadline
    }

    /// Size, time and version of the object of exactly `key`, a full key without a leading slash. A mere prefix or
    /// directory is not found.
    pub async fn stat(&self, key: &str, deadline: Instant) -> Result<ObjectMeta, OriginError> {
        self.counted(match &self.engine {
            Engine::Store(remote) => Box::pin(remote.stat(key, deadline)).await,
            Engine::Web(_, web) => Box::pin(web.stat(key, deadline)).await,
            Engine::Files(files) => files.stat(key, deadline).await,
        })
    }

    /// Whether any key starts with `prefix`, which is empty or ends in `/`. A directory counts even if it is empty.
    pub async fn has_prefix(&self, prefix: &str, deadline: Instant) -> Result<bool, OriginError> {
        self.counted(match check_prefix(prefix) {
            Err(error) => Err(error),
            Ok(()) => match &self.engine {
                Engine::Store(remote) => Box::pin(remote.has_prefix(prefix, deadline)).await,
                Engine::Web(_, web) => web.has_prefix(prefix),
                Engine::Files(files) => files.has_prefix(prefix, deadline).await,
            },
        })
    }

    /// Names that a listing brings for the price of one request, about.
    pub fn names_per_request(&self) -> u64 {
        match &self.engine {
            Engine::Store(_) => 1_000,
            // Each name is looked at by itself, which is cheaper than a lookup.
            Engine::Files(_) => 16,
            // There is no more than one.
            Engine::Web(..) => 1,
        }
    }

    /// Requests that could begin now, and those that may be under way at the same time.
    pub fn turns(&self) -> (usize, usize) {
        let free = match &self.engine {
            Engine::Store(remote) | Engine::Web(remote, _) => remote.turns_free(),
            Engine::Files(files) => files.turns_free(),
        };
        (free, self.settings.max_requests)
    }

    /// One level of names below `prefix`, which is empty or ends in `/`. The object that stands for the prefix itself is
    /// left out. A prefix that does not exist has no names.
    pub fn list(&self, prefix: &str) -> Listing {
        let checked = check_prefix(prefix).and_then(|()| crate::key::check_prefix(self.settings.url.scheme(), prefix));
        let engine = match (checked, &self.engine) {
            (Err(error), _) => listing::Engine::Refused(error),
            (Ok(()), Engine::Store(remote)) => {
                listing::Engine::Remote(Box::new(RemoteList::new(Arc::clone(remote), prefix)))
            }
            (Ok(()), Engine::Web(_, web)) => listing::Engine::Web(WebList::new(web.clone(), prefix)),
            (Ok(()), Engine::Files(files)) => listing::Engine::Files(FilesList::new(files.clone(), prefix)),
        };
        Listing::new(engine, self.metrics.clone())
    }

    /// The same names part by part, of the keys in `gaps` only: ascending; they may touch. Where the store can begin a
    /// listing at any key, many listers share the work; a prefix that fits on a page costs one request. Must be called in a
    /// runtime.
    pub fn list_parts(&self, prefix: &str, gaps: Vec<KeySpan>) -> PartListing {
        let scheme = self.settings.url.scheme();
        let checked = check_prefix(prefix).and_then(|()| crate::key::check_prefix(scheme, prefix));
        match (checked, &self.engine) {
            (Err(error), _) => PartListing::refused(error, self.metrics.clone()),
            (Ok(()), Engine::Store(remote)) if remote.lists_ranges() => {
                PartListing::parallel(remote, prefix, gaps, false)
            }
            (Ok(()), _) => PartListing::whole(self.list(prefix), gaps, self.metrics.clone()),
        }
    }

    /// Whether [`Self::list_parts`] lists the gaps alone, and says what it has covered.
    pub fn lists_ranges(&self) -> bool {
        matches!(&self.engine, Engine::Store(remote) if remote.lists_ranges())
    }

    /// All objects below `prefix`, whatever their depth, by many listers. None: this kind of origin lists level by level. Must be
    /// called in a runtime.
    pub fn list_all(&self, prefix: &str) -> Option<PartListing> {
        match &self.engine {
            Engine::Store(remote) if remote.lists_ranges() => {
                Some(PartListing::parallel(remote, prefix, vec![KeySpan::whole()], true))
            }
            _ => None,
        }
    }

    /// The current versions of all objects below `prefix` with their ids, one page after the other. None: this kind of origin
    /// is not asked for them.
    pub fn list_versions(&self, prefix: &str) -> Option<VersionListing> {
        match &self.engine {
            Engine::Store(remote) if remote.lists_versions() => {
                Some(VersionListing::new(Arc::clone(remote), prefix, self.metrics.clone()))
            }
            _ => None,
        }
    }

    /// The version that `stated` proves, as a listing would give it. None: it proves none here.
    pub fn version_of(&self, stated: &Stated<'_>) -> Option<Version> {
        version_of_stated(self.settings.url.scheme(), stated)
    }

    /// Begins to write the object `key`. Nobody sees it before it is whole.
    pub async fn upload(&self, key: &str, deadline: Instant) -> Result<Upload, OriginError> {
        let begun = match &self.engine {
            Engine::Store(remote) | Engine::Web(remote, _) => {
                RemoteUpload::begin(Arc::clone(remote), key).map(|upload| upload::Engine::Remote(Box::new(upload)))
            }
            Engine::Files(files) => FileUpload::begin(files.clone(), key, deadline).await.map(upload::Engine::File),
        };
        self.counted(begun.map(|engine| Upload::new(engine, self.metrics.clone())))
    }

    /// Bytes `range` of `version` of the object `key`, whose size is `size`. Returns when the origin has answered and the
    /// version is proved, before the body is read. Hold no more of them than needed: each keeps a request's turn until
    /// its body has ended or it is dropped.
    pub async fn read(
        &self,
        key: &str,
        version: &Version,
        size: u64,
        range: ByteRange,
        deadline: Instant,
    ) -> Result<ReadStream, OriginError> {
        self.read_by_id(key, None, version, size, range, deadline).await
    }

    /// The same of an object that may have been replaced since: where the origin keeps old versions, it is asked for the one with
    /// that id. Its bytes are still proved to be those of `version`.
    pub async fn read_by_id(
        &self,
        key: &str,
        id: Option<&str>,
        version: &Version,
        size: u64,
        range: ByteRange,
        deadline: Instant,
    ) -> Result<ReadStream, OriginError> {
        if range.end > size {
            let what = format!("GET {key}: bytes {}-{} are not in an object of {size}", range.start, range.end);
            return self.counted(Err(OriginError::new(OriginErrorKind::Invalid, what)));
        }
        let opened = match &self.engine {
            Engine::Store(remote) | Engine::Web(remote, _) => {
                let open = RemoteRead::open(Arc::clone(remote), (key, id), version, size, range, deadline);
                Box::pin(open).await.map(|read| read::Engine::Remote(Box::new(read)))
            }
            Engine::Files(files) => files.read(key, version, size, range, deadline).await.map(read::Engine::File),
        };
        self.counted(opened.map(|engine| ReadStream::new(engine, self.metrics.clone())))
    }

    /// Whether the origin can be reached and lets its names be read: for `doctor`.
    pub async fn probe(&self) -> Result<(), OriginError> {
        let deadline = self.deadline();
        self.counted(match &self.engine {
            Engine::Store(remote) => Box::pin(remote.has_prefix(self.prefix(), deadline)).await.map(drop),
            Engine::Web(_, web) => Box::pin(web.probe(deadline)).await,
            Engine::Files(files) => files.probe(deadline).await,
        })
    }

    /// Its counters.
    pub fn metrics(&self) -> &OriginMetrics {
        &self.metrics
    }

    fn counted<T>(&self, outcome: Result<T, OriginError>) -> Result<T, OriginError> {
        outcome.inspect_err(|error| self.metrics.failed(error.kind))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("url", &self.settings.url.to_string()).finish_non_exhaustive()
    }
}

fn check_prefix(prefix: &str) -> Result<(), OriginError> {
    if prefix.is_empty() || prefix.ends_with('/') {
        return Ok(());
    }
    Err(OriginError::new(OriginErrorKind::Invalid, format!("LIST {prefix:?}: a prefix must end in `/`")))
}
