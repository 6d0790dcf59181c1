//! A mount, from its making to its end.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use forebay_client::Client;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::door::Door;
use crate::error::MountError;
use crate::invalidator::{Invalidator, Queue};
use crate::metrics::Metrics;
use crate::options::{Kind, MountOptions};
use crate::pruner::pruner;
use crate::session::{Broken, Session, SessionOptions};
use attach::Attachment;

mod attach;
mod connection;
mod fusermount;
mod table;

/// How often a stop looks whether requests are still under way.
const LOOK: Duration = Duration::from_millis(5);

/// For how long an ended connection may take to end the session's threads: they only have to wake up.
const THREADS_END: Duration = Duration::from_secs(1);

/// For how long requests that are told to fail may take to do so.
const ANSWERS_END: Duration = Duration::from_millis(500);

/// Whether the kernel reads files by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passthrough {
    /// It reads what lies whole on this machine.
    Active,
    /// Everything goes through its page cache and this process, for the reason given.
    Unavailable(String),
}

/// By which way requests come from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Queues of io_uring, one for each core.
    IoUring,
    /// Reads of `/dev/fuse`.
    Device,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Device => "/dev/fuse",
        })
    }
}

/// A mount. Dropped, it is taken away without waiting for anyone.
pub struct Mount {
    door: Door,
    attachment: Arc<Attachment>,
    transport: Transport,
    invalidator: Invalidator,
    metrics: Arc<Metrics>,
    ended: watch::Receiver<bool>,
    /// Closed when the session has ended.
    session_end: Mutex<Receiver<()>>,
}

impl Mount {
    /// Mounts. The mount is usable when this returns. What a killed process left mounted there is cleared away first.
    ///
    /// Blocks for as long as the kernel takes; needs no runtime to be entered.
    ///
    /// # Errors
    /// Why not, with what to do about it.
    pub fn start(options: &MountOptions, client: Client, runtime: tokio::runtime::Handle) -> Result<Self, MountError> {
        let mountpoint = attach::prepare(&options.mountpoint)?;
        let metrics = Arc::new(Metrics::new());
        let (invalidator, queue) = Invalidator::new(metrics.clone());
        let (bell, pruner) = pruner(options.inodes_max, metrics.clone());
        let door = Door::new(options, client, runtime, invalidator.clone(), bell, metrics.clone());

        let (device, attachment) = attach::attach(&mountpoint, options)?;
        let session_options = SessionOptions {
            threads: options.threads,
            allow_other: options.allow_other,
            passthrough: options.kind == Kind::Streams,
            io_uring: options.io_uring,
        };
        let (ended_sender, ended) = watch::channel(false);
        let (end, session_end) = sync_channel(0);
        // From here on dropping the mount takes it away.
        let mut mount = Self {
            door: door.clone(),
            attachment: Arc::new(attachment),
            transport: Transport::Device,
            invalidator,
            metrics,
            ended,
            session_end: Mutex::new(session_end),
        };

        let attachment = mount.attachment.clone();
        let broken: Broken = Arc::new(move || {
            // Once it is taken away its number may be another mount's.
            let Some(_anchor) = attachment.anchor() else { return };
            if let Err(error) = connection::abort(attachment.device_number()) {
                tracing::error!(%error, "the connection of the mount could not be aborted");
            }
        });
        let (session, negotiated) = Session::start(&door, device, session_options, &broken)
            .map_err(|source| MountError::System { what: "the handshake with the kernel", source })?;
        if negotiated.io_uring {
            mount.transport = Transport::IoUring;
        }
        if options.kind == Kind::Streams {
            door.passthrough().set(connection::passthrough(negotiated.passthrough));
        }
        queue.try_out(&session.notifier());
        spawn_notifier(&door, options, queue, session.notifier())?;
        let (nodes, notifier) = (Arc::downgrade(door.nodes()), session.notifier());
        spawn("forebay-prune", move || pruner.run(&nodes, &notifier))?;
        spawn("forebay-fuse", move || {
            let result = session.run();
            if let Err(error) = result {
                tracing::warn!(%error, "the mount's session ended with an error");
            }
            ended_sender.send_replace(true);
            drop(end);
        })?;

        // The first request: proves that the mount works.
        std::fs::symlink_metadata(&mountpoint)
            .map_err(|source| MountError::System { what: "the first look at the new mount", source })?;
        connection::raise_read_ahead(mount.attachment.device_number(), options.read_ahead);
        Ok(mount)
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        self.attachment.mountpoint()
    }

    /// Whether the kernel reads files by itself.
    pub fn passthrough(&self) -> Passthrough {
        self.door.passthrough().get()
    }

    /// By which way requests come from the kernel.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Tells the kernel of outdated names.
    pub fn invalidator(&self) -> Invalidator {
        self.invalidator.clone()
    }

    /// Shows what the mount counts in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Whether the mount has ended: somebody unmounted it and nothing in it is open any more, or the kernel broke it off.
    pub fn is_unmounted(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits until [`Self::is_unmounted`].
    pub async fn unmounted(&self) {
        // An error means that the session's thread is gone: the same.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Takes the mount away. Requests that are under way may end within `grace`; then they fail with EIO, and what is
    /// still open with ECONNABORTED from then on. Returns two seconds after `grace` at the latest, whatever the service does.
    ///
    /// Blocks: not for async tasks.
    ///
    /// # Errors
    /// If the kernel still shows the mount.
    pub fn stop(self, grace: Duration) -> Result<(), MountError> {
        // While something in it is open its number belongs to no other mount: only this one can be broken off by it.
        let anchor = self.attachment.anchor();
        let detached = self.attachment.detach();
        self.answers_end_within(grace);
        self.door.stop();
        self.answers_end_within(ANSWERS_END);
        if let Some(anchor) = anchor {
            if let Err(error) = connection::abort(self.attachment.device_number()) {
                tracing::debug!(%error, "the connection of the mount could not be aborted");
            }
            drop(anchor);
        }
        // Without the right to abort, the threads stay until the last program closes its files or this one ends.
        if !self.session_ends_within(THREADS_END) {
            tracing::warn!("programs still hold files of the mount open: it ends with this process");
        }
        detached.map_err(|source| MountError::System { what: "unmounting", source })
    }

    /// Waits until no request waits for the service, but not for long.
    fn answers_end_within(&self, time: Duration) {
        let end = Instant::now() + time;
        while self.door.waiting() != 0 && Instant::now() < end && !self.session_ends_within(LOOK) {}
    }

    fn session_ends_within(&self, time: Duration) -> bool {
        self.is_unmounted() || self.session_end.lock().recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.door.stop();
        if let Err(error) = self.attachment.detach() {
            tracing::warn!(mountpoint = %self.mountpoint().display(), %error, "the mount could not be taken away");
        }
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount").field("mountpoint", &self.mountpoint()).finish_non_exhaustive()
    }
}

fn spawn_notifier(
    door: &Door,
    options: &MountOptions,
    queue: Queue,
    notifier: crate::session::Notifier,
) -> Result<(), MountError> {
    let (root, nodes, directories) = (options.root.clone(), door.nodes().clone(), door.directories().clone());
    // Not joined: the kernel may hold it until the last lookup has ended.
    spawn("forebay-inval", move || queue.run(root, nodes, directories, notifier))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), MountError> {
    let system = |source: io::Error| MountError::System { what: "starting a thread", source };
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(system)
}

/// The path of a mountpoint, by its directory: the mountpoint itself may be a dead mount that cannot be looked at.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            let path = parent.canonicalize()?.join(name);
            // A link to a directory is the directory.
            match std::fs::read_link(&path) {
                Ok(_) => path.canonicalize(),
                Err(_) => Ok(path),
            }
        }
        _ => path.canonicalize(),
    }
}
