//! A node behind a connection.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use forebay_model::{
    Body, ByteRange, ByteSize, Content, Fault, FaultKind, Found, ListedPage, NsPath, ObjectEvent, Refreshed, ReplyBody,
    Request, Snapshot, SourceChange, SourceInfo, SourceSpec, Trace,
};
use forebay_wire::{Connection, PAYLOAD_MAX, WireError};
use tokio::net::UnixStream;

use crate::{Context, Handout, ReadNow, Service};

/// A Unix socket answers a connection at once or never.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// A node reached over the wire.
#[derive(Debug)]
pub struct RemoteNode {
    connection: Connection,
}

impl RemoteNode {
    /// Connects to the node that listens on the Unix socket `path`.
    ///
    /// # Errors
    /// Nothing listens there.
    pub async fn connect(path: &Path) -> Result<Self, Fault> {
        let refused = |why: String| {
            Fault::new(FaultKind::Unavailable, format!("no Forebay answers on the socket {}: {why}", path.display()))
        };
        let stream = tokio::time::timeout(CONNECT_LIMIT, UnixStream::connect(path))
            .await
            .map_err(|_| refused("it does not accept connections".to_owned()))?
            .map_err(|error| refused(error.to_string()))?;
        let (reader, writer) = stream.into_split();
        Ok(Self { connection: Connection::new(reader, writer) })
    }

    async fn ask(&self, context: &Context, body: Body) -> Result<(ReplyBody, Bytes), Fault> {
        let deadline_ms = u32::try_from(context.left().as_millis()).unwrap_or(u32::MAX);
        let request = Request { principal: context.principal, deadline_ms, body };
        let (reply, payload) = self.connection.call(&request).await.map_err(|error| {
            let kind = match &error {
                WireError::TimedOut(_) => FaultKind::TimedOut,
                WireError::Closed | WireError::Frame(_) => FaultKind::Unavailable,
            };
            Fault::new(kind, error.to_string())
        })?;
        Ok((reply.result?, payload))
    }

    async fn ask_snapshot(&self, context: &Context, body: Body) -> Result<Snapshot, Fault> {
        match self.ask(context, body).await? {
            (ReplyBody::Snapshot(snapshot), _) => Ok(snapshot),
            _ => Err(mismatch("question about a snapshot")),
        }
    }

    async fn ask_sources(&self, context: &Context, body: Body) -> Result<Vec<SourceInfo>, Fault> {
        match self.ask(context, body).await? {
            (ReplyBody::Sources(sources), _) => Ok(sources),
            _ => Err(mismatch("question about sources")),
        }
    }
}

fn one(sources: Vec<SourceInfo>) -> Result<SourceInfo, Fault> {
    sources.into_iter().next().ok_or_else(|| mismatch("question about a source"))
}

fn mismatch(asked: &str) -> Fault {
    Fault::new(FaultKind::Bug, format!("the node answered a {asked} with something else"))
}

#[async_trait]
impl Service for RemoteNode {
    fn lookup_now(&self, _: &Context, _: &NsPath) -> Option<Result<Found, Fault>> {
        None
    }

    async fn lookup(&self, context: &Context, path: &NsPath) -> Result<Found, Fault> {
        match self.ask(context, Body::Lookup { path: path.clone() }).await? {
            (ReplyBody::Found(found), _) => Ok(found),
            _ => Err(mismatch("lookup")),
        }
    }

    fn list_now(&self, _: &Context, _: &NsPath, _: &str, _: u32) -> Option<Result<ListedPage, Fault>> {
        None
    }

    async fn list(&self, context: &Context, path: &NsPath, after: &str, limit: u32) -> Result<ListedPage, Fault> {
        let body = Body::List { path: path.clone(), after: after.to_owned(), limit };
        match self.ask(context, body).await? {
            (ReplyBody::Listed(page), _) => Ok(page),
            _ => Err(mismatch("listing")),
        }
    }

    fn read_now(&self, _: &Context, _: &Content, _: ByteRange, _: &mut [u8]) -> ReadNow {
        ReadNow::Absent
    }

    async fn read(&self, context: &Context, content: &Content, range: ByteRange) -> Result<Vec<Bytes>, Fault> {
        let range = range.intersect(ByteRange::new(0, content.size));
        let mut chunks = Vec::new();
        let mut start = range.start;
        while start < range.end {
            let part = ByteRange::at(start, u64::from(PAYLOAD_MAX), range.end);
            match self.ask(context, Body::Read { content: content.clone(), range: part }).await? {
                (ReplyBody::Bytes { content: id }, payload) if id == content.id => {
                    if payload.len() as u64 != part.len() {
                        let message = format!("the node sent {} bytes where {} were asked", payload.len(), part.len());
                        return Err(Fault::new(FaultKind::Bug, message));
                    }
                    chunks.push(payload);
                }
                _ => return Err(mismatch("read")),
            }
            start = part.end;
        }
        Ok(chunks)
    }

    fn descriptor(&self, _: &Context, _: &Content) -> Option<Handout> {
        // Descriptors pass over the Unix socket with the next version of the wire.
        None
    }

    async fn status(&self, context: &Context) -> Result<String, Fault> {
        match self.ask(context, Body::Status).await? {
            (ReplyBody::Status(document), _) => Ok(document),
            _ => Err(mismatch("status")),
        }
    }

    async fn start_trace(&self, context: &Context, file: &str, limit: ByteSize) -> Result<Trace, Fault> {
        match self.ask(context, Body::TraceStart { file: file.to_owned(), limit: limit.0 }).await? {
            (ReplyBody::Trace(trace), _) => Ok(trace),
            _ => Err(mismatch("start of a trace")),
        }
    }

    async fn stop_trace(&self, context: &Context, file: Option<&str>) -> Result<Trace, Fault> {
        match self.ask(context, Body::TraceStop { file: file.map(str::to_owned) }).await? {
            (ReplyBody::Trace(trace), _) => Ok(trace),
            _ => Err(mismatch("end of a trace")),
        }
    }

    async fn sources(&self, context: &Context) -> Result<Vec<SourceInfo>, Fault> {
        self.ask_sources(context, Body::Sources).await
    }

    async fn add_source(&self, context: &Context, spec: SourceSpec) -> Result<SourceInfo, Fault> {
        one(self.ask_sources(context, Body::SourceAdd(spec)).await?)
    }

    async fn set_source(&self, context: &Context, path: &NsPath, change: SourceChange) -> Result<SourceInfo, Fault> {
        one(self.ask_sources(context, Body::SourceSet { path: path.clone(), change }).await?)
    }

    async fn remove_source(&self, context: &Context, path: &NsPath) -> Result<SourceInfo, Fault> {
        one(self.ask_sources(context, Body::SourceRemove { path: path.clone() }).await?)
    }

    async fn snapshot(
        &self,
        context: &Context,
        path: &NsPath,
        name: &str,
        to: Option<&str>,
    ) -> Result<Snapshot, Fault> {
        let body = Body::Snapshot { path: path.clone(), name: name.to_owned(), to: to.map(str::to_owned) };
        self.ask_snapshot(context, body).await
    }

    async fn snapshot_state(&self, context: &Context, name: &str) -> Result<Snapshot, Fault> {
        self.ask_snapshot(context, Body::SnapshotState { name: name.to_owned() }).await
    }

    async fn refresh(&self, context: &Context, path: &NsPath, recursive: bool) -> Result<Refreshed, Fault> {
        match self.ask(context, Body::Refresh { path: path.clone(), recursive }).await? {
            (ReplyBody::Refreshed(refreshed), _) => Ok(refreshed),
            _ => Err(mismatch("refresh")),
        }
    }

    async fn events(&self, context: &Context, source: &NsPath, events: Vec<ObjectEvent>) -> Result<Refreshed, Fault> {
        match self.ask(context, Body::Events { source: source.clone(), events }).await? {
            (ReplyBody::Refreshed(refreshed), _) => Ok(refreshed),
            _ => Err(mismatch("word of events")),
        }
    }
}
