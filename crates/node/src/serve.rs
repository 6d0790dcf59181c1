//! Answers requests that come over the node's Unix socket.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use forebay_model::{Body, ByteSize, Fault, FaultKind, Principal, Reply, ReplyBody, Request};
use forebay_route::{Context, Service};
use forebay_wire::{Answer, Handler, PAYLOAD_MAX, serve_connection};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::node::Node;

/// Connections at once; the next is accepted when one ends.
const CONNECTIONS_MAX: usize = 256;
/// The longest deadline that a request may ask for.
const DEADLINE_MAX: Duration = Duration::from_secs(600);
/// Names in one part of a listing: with keys of 4 KiB it stays below a frame's limit.
const NAMES_MAX: u32 = 2_000;

/// Reads at once, over all connections, until their answers are written: at 8 MiB each 96 MiB.
const READS_MAX: usize = 12;

/// The Unix socket of a node. Its file goes when this is dropped.
#[derive(Debug)]
pub struct Listener {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens on `path` for requests to `node`. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// Another process listens there, or the file cannot be made.
    pub fn bind(path: &Path, node: Arc<Node>) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another Forebay listens on this socket"));
        }
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        // What the socket gives is what the daemon may read: for its own user alone.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let task = tokio::spawn(accept(listener, node));
        Ok(Self { path: path.to_owned(), task })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, node: Arc<Node>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let reads = Arc::new(Semaphore::new(READS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (node, reads) = (node.clone(), reads.clone());
                connections.spawn(async move {
                    if let Err(error) = serve(stream, node, reads).await {
                        tracing::debug!(%error, "a connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors: waits for some to come free rather than spin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: UnixStream, node: Arc<Node>, reads: Arc<Semaphore>) -> Result<(), forebay_wire::FrameError> {
    let credentials = stream.peer_cred()?;
    let principal = Principal::User { uid: credentials.uid(), gid: credentials.gid() };
    let (reader, writer) = stream.into_split();
    serve_connection(reader, writer, Arc::new(Peer { node, principal, reads })).await
}

/// One connection's requests, made in the name of the user that the kernel states, whatever they say.
struct Peer {
    node: Arc<Node>,
    principal: Principal,
    reads: Arc<Semaphore>,
}

impl Handler for Peer {
    async fn handle(&self, request: Request) -> Answer {
        let time = Duration::from_millis(u64::from(request.deadline_ms)).min(DEADLINE_MAX);
        let context = Context::new(self.principal, time);
        match tokio::time::timeout(time, self.answer(&context, request.body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(fault)) => Reply { result: Err(fault) }.into(),
            Err(_) => {
                let fault = Fault::new(FaultKind::TimedOut, "the request was not answered within its deadline");
                Reply { result: Err(fault) }.into()
            }
        }
    }
}

impl Peer {
    async fn answer(&self, context: &Context, body: Body) -> Result<Answer, Fault> {
        let node = &self.node;
        let plain = match body {
            Body::Lookup { path } => ReplyBody::Found(node.lookup(context, &path).await?),
            Body::List { path, after, limit } => {
                let limit = limit.clamp(1, NAMES_MAX);
                ReplyBody::Listed(node.list(context, &path, &after, limit).await?)
            }
            Body::Read { content, range } => {
                if range.end < range.start || range.len() > u64::from(PAYLOAD_MAX) {
                    let why = format!("a read of bytes {}..{}: at most {PAYLOAD_MAX} at once", range.start, range.end);
                    return Err(Fault::new(FaultKind::Invalid, why));
                }
                node.prove(&content)?;
                let closed = |_| Fault::new(FaultKind::Unavailable, "the node is closing");
                let place = self.reads.clone().acquire_owned().await.map_err(closed)?;
                let payload = node.read(context, &content, range).await?;
                let reply = Reply { result: Ok(ReplyBody::Bytes { content: content.id }) };
                return Ok(Answer { reply, payload, hold: Some(Box::new(place)) });
            }
            Body::Status => ReplyBody::Status(node.status(context).await?),
            Body::TraceStart { file, limit } => {
                ReplyBody::Trace(node.start_trace(context, &file, ByteSize(limit)).await?)
            }
            Body::TraceStop { file } => ReplyBody::Trace(node.stop_trace(context, file.as_deref()).await?),
            Body::Sources => ReplyBody::Sources(node.sources(context).await?),
            Body::SourceAdd(spec) => ReplyBody::Sources(vec![node.add_source(context, spec).await?]),
            Body::SourceSet { path, change } => {
                ReplyBody::Sources(vec![node.set_source(context, &path, change).await?])
            }
            Body::Snapshot { path, name, to } => {
                ReplyBody::Snapshot(node.snapshot(context, &path, &name, to.as_deref()).await?)
            }
            Body::SnapshotState { name } => ReplyBody::Snapshot(node.snapshot_state(context, &name).await?),
            Body::Refresh { path, recursive } => ReplyBody::Refreshed(node.refresh(context, &path, recursive).await?),
            Body::Events { source, events } => ReplyBody::Refreshed(node.events(context, &source, events).await?),
            Body::SourceRemove { path } => ReplyBody::Sources(vec![node.remove_source(context, &path).await?]),
        };
        Ok(Reply { result: Ok(plain) }.into())
    }
}
