//! What a node answers, in this process or across a connection.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use forebay_model::{
    ByteRange, ByteSize, Content, Fault, Found, ListedPage, NsPath, ObjectEvent, Refreshed, Snapshot, SourceChange,
    SourceInfo, SourceSpec, Trace,
};

use crate::Context;

/// What a node answers. The `_now` calls answer from what this machine holds or say that they cannot; they never wait for
/// an origin or another node.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// What `path` stands for, if that is known without asking anyone. Takes no lock that is held across I/O.
    fn lookup_now(&self, context: &Context, path: &NsPath) -> Option<Result<Found, Fault>>;

    /// What `path` stands for.
    async fn lookup(&self, context: &Context, path: &NsPath) -> Result<Found, Fault>;

    /// Names of a directory after `after`, in the order of keys, at most `limit`, as far as its listing is known without asking
    /// anyone.
    fn list_now(&self, context: &Context, path: &NsPath, after: &str, limit: u32) -> Option<Result<ListedPage, Fault>>;

    /// Names of a directory after `after` (empty: from the first), in the order of keys, at most `limit`.
    async fn list(&self, context: &Context, path: &NsPath, after: &str, limit: u32) -> Result<ListedPage, Fault>;

    /// Fills `buffer` with the bytes of `range`, which lies within the content and is as long as `buffer`, if all are
    /// here. May block on a local disk: not for async tasks.
    fn read_now(&self, context: &Context, content: &Content, range: ByteRange, buffer: &mut [u8]) -> ReadNow;

    /// All bytes of a content, if they are here, in memory of the node's. May block on a local disk.
    fn read_whole_now(&self, context: &Context, content: &Content) -> Option<Bytes> {
        let mut bytes = vec![0; content.size as usize];
        let read = self.read_now(context, content, ByteRange::new(0, content.size), &mut bytes);
        (read == ReadNow::Filled).then(|| bytes.into())
    }

    /// Whether [`Self::read_now`] is worth a try from `start` on: false only if the bytes there are not here. Waits for nothing.
    fn may_have(&self, _content: &Content, _start: u64) -> bool {
        true
    }

    /// The bytes of `range`, cut at the content's end, as chunks in order.
    async fn read(&self, context: &Context, content: &Content, range: ByteRange) -> Result<Vec<Bytes>, Fault>;

    /// A descriptor of the whole content, if it lies on this machine in a file of its own and may be handed out. May
    /// block on a local disk.
    fn descriptor(&self, context: &Context, content: &Content) -> Option<Handout>;

    /// What the node is doing, as a JSON document.
    async fn status(&self, context: &Context) -> Result<String, Fault>;

    /// Begins to record what is read in `file`, an absolute path of the node's machine where nothing is yet, until it takes
    /// `limit` bytes.
    async fn start_trace(&self, context: &Context, file: &str, limit: ByteSize) -> Result<Trace, Fault>;

    /// Ends the trace, which must be written to `file` if that is given.
    async fn stop_trace(&self, context: &Context, file: Option<&str>) -> Result<Trace, Fault>;

    /// The sources, by path.
    async fn sources(&self, context: &Context) -> Result<Vec<SourceInfo>, Fault>;

    /// Shows an origin at a path where no source is, from now on and after every start. One that does not answer is shown
    /// all the same, with its problem.
    async fn add_source(&self, context: &Context, spec: SourceSpec) -> Result<SourceInfo, Fault>;

    /// Changes the rules of the source at `path`.
    async fn set_source(&self, context: &Context, path: &NsPath, change: SourceChange) -> Result<SourceInfo, Fault>;

    /// Takes the source at `path` away, and lets go of what is kept of it.
    async fn remove_source(&self, context: &Context, path: &NsPath) -> Result<SourceInfo, Fault>;

    /// Begins to write down the versions of the source at `path`, as the snapshot `name`, in the file `to` or in a place of the
    /// source's origin. It goes on by itself; if it was begun already, this tells how far it is.
    async fn snapshot(&self, context: &Context, path: &NsPath, name: &str, to: Option<&str>)
    -> Result<Snapshot, Fault>;

    /// How far the snapshot `name` is, that was begun since the start.
    async fn snapshot_state(&self, context: &Context, name: &str) -> Result<Snapshot, Fault>;

    /// Forgets what is known of `path`: attributes, absence and listing, and of a directory the names in it; with `recursive`,
    /// of all below it. Mounts of the node's process are told. An answer to a question that is asked after this is from after it.
    async fn refresh(&self, context: &Context, path: &NsPath, recursive: bool) -> Result<Refreshed, Fault>;

    /// Forgets what is outdated by what happened to objects of the origin of the source at `source`.
    async fn events(&self, context: &Context, source: &NsPath, events: Vec<ObjectEvent>) -> Result<Refreshed, Fault>;
}

/// The outcome of [`Service::read_now`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadNow {
    /// The buffer holds the bytes.
    Filled,
    /// Some byte is not here; the buffer's contents mean nothing.
    Absent,
}

/// A descriptor of a whole content, opened read-only, and the lease that keeps its bytes in place.
pub struct Handout {
    /// The file, whose first `size` bytes are the content.
    pub file: Arc<OwnedFd>,
    /// Ends the lease when dropped.
    pub lease: Box<dyn Any + Send + Sync>,
}

impl std::fmt::Debug for Handout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handout").field("file", &self.file).finish_non_exhaustive()
    }
}
