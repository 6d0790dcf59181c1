//! The reader's half of the service: what every front door translates its language to.
//!
//! A path is looked up or listed, a content is read. A content is fixed when it is looked up: every byte read through one
//! [`Content`] belongs to one version of one object, whatever happens at the origin meanwhile.
//!
//! Not here: errno, HTTP, Python exceptions (the doors), and where bytes lie (`route` and `node`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_model::{
    ByteRange, ByteSize, Content, Fault, Found, ListedPage, NsPath, ObjectEvent, Principal, Refreshed, Snapshot,
    SourceChange, SourceInfo, SourceSpec, Trace,
};
use forebay_route::{Context, Service};

pub use forebay_route::{Handout, Holder, Outdated, ReadNow};

/// Asks the service on behalf of front doors. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    service: Arc<dyn Service>,
    deadline: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of `service` that gives every request `deadline`.
    pub fn new(service: Arc<dyn Service>, deadline: Duration) -> Self {
        Self { service, deadline }
    }

    /// What `path` stands for, if known without asking anyone.
    pub fn lookup_now(&self, principal: Principal, path: &NsPath) -> Option<Result<Found, Fault>> {
        self.service.lookup_now(&self.context(principal), path)
    }

    /// What `path` stands for.
    ///
    /// # Errors
    /// `NotFound`, or why it cannot be told.
    pub async fn lookup(&self, principal: Principal, path: &NsPath) -> Result<Found, Fault> {
        self.service.lookup(&self.context(principal), path).await
    }

    /// [`Self::list`], if known without asking anyone.
    pub fn list_now(
        &self,
        principal: Principal,
        path: &NsPath,
        after: &str,
        limit: u32,
    ) -> Option<Result<ListedPage, Fault>> {
        self.service.list_now(&self.context(principal), path, after, limit)
    }

    /// Names of the directory `path` after `after` (empty: from the first), in byte order, at most `limit`.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, or why it cannot be told.
    pub async fn list(
        &self,
        principal: Principal,
        path: &NsPath,
        after: &str,
        limit: u32,
    ) -> Result<ListedPage, Fault> {
        self.service.list(&self.context(principal), path, after, limit).await
    }

    /// Fills `buffer` with the bytes from `start`, if all are on this machine. The range must lie within the content. May
    /// block on a local disk: not for async tasks.
    pub fn read_now(&self, principal: Principal, content: &Content, start: u64, buffer: &mut [u8]) -> ReadNow {
        let range = ByteRange::new(start, start + buffer.len() as u64);
        debug_assert!(range.end <= content.size, "a read is cut at the content's end before it comes here");
        self.service.read_now(&self.context(principal), content, range, buffer)
    }

    /// All bytes of a content, which must not be long, if they are on this machine. May block on a local disk: not for async
    /// tasks.
    pub fn read_whole_now(&self, principal: Principal, content: &Content) -> Option<Bytes> {
        self.service.read_whole_now(&self.context(principal), content)
    }

    /// Whether [`Self::read_now`] is worth a try from `start` on. Waits for nothing.
    pub fn may_have(&self, content: &Content, start: u64) -> bool {
        self.service.may_have(content, start)
    }

    /// The bytes of `range`, cut at the content's end, as chunks in order.
    ///
    /// # Errors
    /// `Changed` if the object is not the content's version any more and the missing bytes cannot be had; `TimedOut`,
    /// `Unavailable`, `Denied`, `Damaged` as they say.
    pub async fn read(&self, principal: Principal, content: &Content, range: ByteRange) -> Result<Vec<Bytes>, Fault> {
        let range = range.intersect(ByteRange::new(0, content.size));
        if range.is_empty() {
            return Ok(Vec::new());
        }
        self.service.read(&self.context(principal), content, range).await
    }

    /// A descriptor of the whole content, if it lies on this machine in a file of its own. May block on a local disk.
    pub fn descriptor(&self, principal: Principal, content: &Content) -> Option<Handout> {
        self.service.descriptor(&self.context(principal), content)
    }

    /// What the node is doing, as a JSON document.
    ///
    /// # Errors
    /// Why it did not answer.
    pub async fn status(&self, principal: Principal) -> Result<String, Fault> {
        self.service.status(&self.context(principal)).await
    }

    /// Begins to record what the node is asked to read in `file`, an absolute path of its machine where nothing is yet,
    /// until it takes `limit` bytes.
    ///
    /// # Errors
    /// A trace is running, or the file cannot be made.
    pub async fn start_trace(&self, principal: Principal, file: &str, limit: ByteSize) -> Result<Trace, Fault> {
        self.service.start_trace(&self.context(principal), file, limit).await
    }

    /// Ends the trace, which must be written to `file` if that is given.
    ///
    /// # Errors
    /// No trace is running, or one to another file; its end cannot be written in time.
    pub async fn stop_trace(&self, principal: Principal, file: Option<&str>) -> Result<Trace, Fault> {
        self.service.stop_trace(&self.context(principal), file).await
    }

    /// The sources, by path.
    ///
    /// # Errors
    /// Why the node did not answer.
    pub async fn sources(&self, principal: Principal) -> Result<Vec<SourceInfo>, Fault> {
        self.service.sources(&self.context(principal)).await
    }

    /// Shows an origin at a path where no source is. One that does not answer is shown all the same, with its problem.
    ///
    /// # Errors
    /// `Invalid` for what cannot be a source; the registry cannot be written.
    pub async fn add_source(&self, principal: Principal, spec: SourceSpec) -> Result<SourceInfo, Fault> {
        self.service.add_source(&self.context(principal), spec).await
    }

    /// Changes the rules of the source at `path`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for rules that its origin cannot have; the registry cannot be written.
    pub async fn set_source(
        &self,
        principal: Principal,
        path: &NsPath,
        change: SourceChange,
    ) -> Result<SourceInfo, Fault> {
        self.service.set_source(&self.context(principal), path, change).await
    }

    /// Takes the source at `path` away, and lets go of what is kept of it.
    ///
    /// # Errors
    /// `NotFound`; the registry cannot be written.
    pub async fn remove_source(&self, principal: Principal, path: &NsPath) -> Result<SourceInfo, Fault> {
        self.service.remove_source(&self.context(principal), path).await
    }

    /// Begins to write down the versions of the source at `path` as the snapshot `name`, or tells how far that is.
    ///
    /// # Errors
    /// `NotFound` without a source there; `Invalid` for a name that is none or is taken; `ReadOnly` where `to` must be given.
    pub async fn snapshot(
        &self,
        principal: Principal,
        path: &NsPath,
        name: &str,
        to: Option<&str>,
    ) -> Result<Snapshot, Fault> {
        self.service.snapshot(&self.context(principal), path, name, to).await
    }

    /// How far the snapshot `name` is.
    ///
    /// # Errors
    /// `NotFound` if none of that name was begun.
    pub async fn snapshot_state(&self, principal: Principal, name: &str) -> Result<Snapshot, Fault> {
        self.service.snapshot_state(&self.context(principal), name).await
    }

    /// Forgets what is known of `path`: attributes, absence and listing, and of a directory the names in it; with `recursive`,
    /// of all below it.
    ///
    /// # Errors
    /// `NotFound` where no source is; why it could not be done.
    pub async fn refresh(&self, principal: Principal, path: &NsPath, recursive: bool) -> Result<Refreshed, Fault> {
        self.service.refresh(&self.context(principal), path, recursive).await
    }

    /// Forgets what is outdated by what happened to objects of the origin of the source at `source`.
    ///
    /// # Errors
    /// `NotFound` if there is no source at exactly that path; why it could not be done.
    pub async fn events(
        &self,
        principal: Principal,
        source: &NsPath,
        events: Vec<ObjectEvent>,
    ) -> Result<Refreshed, Fault> {
        self.service.events(&self.context(principal), source, events).await
    }

    fn context(&self, principal: Principal) -> Context {
        Context::new(principal, self.deadline)
    }
}
