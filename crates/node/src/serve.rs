//! Answers requests that come over the node's Unix socket.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use forebay_model::{Body, Fault, FaultKind, Principal, Reply, ReplyBody, Request};
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
/// Names in one part of a listing: with names of 255 bytes it stays below a frame's limit.
const NAMES_MAX: u32 = 10_000;

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
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
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
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let node = node.clone();
                connections.spawn(async move {
                    if let Err(error) = serve(stream, node).await {
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

async fn serve(stream: UnixStream, node: Arc<Node>) -> Result<(), forebay_wire::FrameError> {
    let credentials = stream.peer_cred()?;
    let principal = Principal::User { uid: credentials.uid(), gid: credentials.gid() };
    let (reader, writer) = stream.into_split();
    serve_connection(reader, writer, Arc::new(Peer { node, principal })).await
}

/// One connection's requests, made in the name of the user that the kernel states, whatever they say.
struct Peer {
    node: Arc<Node>,
    principal: Principal,
}

impl Handler for Peer {
    async fn handle(&self, request: Request) -> Answer {
        let time = Duration::from_millis(u64::from(request.deadline_ms)).min(DEADLINE_MAX);
        let context = Context::new(self.principal, time);
        match tokio::time::timeout(time, self.answer(&context, request.body)).await {
            Ok(Ok((body, payload))) => (Reply { result: Ok(body) }, payload),
            Ok(Err(fault)) => (Reply { result: Err(fault) }, Vec::new()),
            Err(_) => {
                let fault = Fault::new(FaultKind::TimedOut, "the request was not answered within its deadline");
                (Reply { result: Err(fault) }, Vec::new())
            }
        }
    }
}

impl Peer {
    async fn answer(&self, context: &Context, body: Body) -> Result<(ReplyBody, Vec<bytes::Bytes>), Fault> {
        let node = &self.node;
        Ok(match body {
            Body::Lookup { path } => (ReplyBody::Found(node.lookup(context, &path).await?), Vec::new()),
            Body::List { path, after, limit } => {
                let limit = limit.clamp(1, NAMES_MAX);
                (ReplyBody::Listed(node.list(context, &path, &after, limit).await?), Vec::new())
            }
            Body::Read { content, range } => {
                if range.end < range.start || range.len() > u64::from(PAYLOAD_MAX) {
                    let why = format!("a read of bytes {}..{}: at most {PAYLOAD_MAX} at once", range.start, range.end);
                    return Err(Fault::new(FaultKind::Invalid, why));
                }
                node.prove(&content)?;
                let payload = node.read(context, &content, range).await?;
                (ReplyBody::Bytes { content: content.id }, payload)
            }
            Body::Status => (ReplyBody::Status(node.status(context).await?), Vec::new()),
        })
    }
}
