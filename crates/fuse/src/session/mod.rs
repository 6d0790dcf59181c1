//! The seam between the door and what carries FUSE's messages.
//!
//! A session takes requests from the kernel and calls a [`Handler`] for each, on a thread of its own. The handler answers
//! through the answer that it is given: there and then, or later from any thread. An answer that is dropped fails with
//! EIO. Buffers of replies belong to the session, so that one that shares memory with the kernel can take the other's
//! place. No type of a FUSE library or of a runtime crosses.

use std::any::Any;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use forebay_client::ReadNow;

use crate::attributes::Attributes;
use crate::errno::Errno;
use crate::nodeid::NodeId;

mod buffers;
mod device;
mod notices;
mod ring;

pub(crate) use device::{Negotiated, SessionOptions};
pub(crate) use notices::Notifier;
pub(crate) use ring::Broken;

use device::DeviceSession;
use ring::Rings;

/// What files say about the size of their blocks, as local file systems do: programs size their buffers by it, and random
/// readers should not read a MiB.
const BLOCK_SIZE: u32 = 4096;

/// An origin states no capacity: 4 EiB, all free, so that no program refuses for lack of room.
const CAPACITY_BLOCKS: u64 = 1 << 50;

/// A session that has shaken hands with the kernel and serves when it is run.
pub(crate) struct Session<H: Handler> {
    device: DeviceSession<H>,
    notifier: Notifier,
    rings: Vec<JoinHandle<()>>,
}

impl<H: Handler + Clone> Session<H> {
    /// Shakes hands over `device`, on which a mount has been made, and opens the queues of io_uring where they are wanted.
    /// `broken` ends the connection.
    pub(crate) fn start(
        handler: &H,
        device: OwnedFd,
        options: SessionOptions,
        broken: &Broken,
    ) -> io::Result<(Self, Negotiated)> {
        let rings = if options.io_uring && ring::is_enabled() { prepare_rings(options.threads) } else { None };
        let shared = device.try_clone()?;
        let notifier = Notifier::new(device.try_clone()?);
        let options = SessionOptions { io_uring: rings.is_some(), ..options };
        let (device, negotiated) = DeviceSession::start(handler.clone(), device, options)?;
        let rings = match rings {
            // The kernel holds back every request until it has a queue for each core.
            Some(rings) if negotiated.io_uring => {
                rings.start(handler, shared, broken).map_err(|error| refused_queues(&error))?
            }
            _ => Vec::new(),
        };
        Ok((Self { device, notifier, rings }, negotiated))
    }

    pub(crate) fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// Serves until the kernel ends the session.
    pub(crate) fn run(self) -> io::Result<()> {
        let result = self.device.run();
        for ring in self.rings {
            if ring.join().is_err() {
                tracing::error!("the thread of a queue has panicked");
            }
        }
        result
    }
}

fn prepare_rings<H: Handler + Clone>(disk_readers: usize) -> Option<Rings<H>> {
    Rings::prepare(disk_readers)
        .inspect_err(|error| tracing::warn!(%error, "no FUSE over io_uring: requests go through /dev/fuse"))
        .ok()
}

fn refused_queues(error: &io::Error) -> io::Error {
    let advice = "set mount.io_uring = \"no\" to do without";
    io::Error::new(error.kind(), format!("the kernel refused a queue of FUSE over io_uring: {error}; {advice}"))
}

/// Does `work`, which may wait for a disk: on this thread, or beside it if other requests would wait for it.
pub(crate) fn do_waiting(work: impl FnOnce() + Send + 'static) {
    ring::do_waiting(work);
}

/// Calls the handler; a panic ends one request, not the thread that serves all.
fn guard<H: Handler>(handler: &H, call: impl FnOnce(&H)) {
    if catch_unwind(AssertUnwindSafe(|| call(handler))).is_err() {
        handler.panicked();
    }
}

/// The type's bits of the mode.
fn file_type_bits(attributes: &Attributes) -> u32 {
    if attributes.is_directory { libc::S_IFDIR } else { libc::S_IFREG }
}

/// Who asks, as the kernel states it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Zero if the process cannot be seen from here.
    pub(crate) pid: u32,
}

/// The number of an open directory; what it means is the handler's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Handle(pub(crate) u64);

/// What the kernel is told about a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamedEntry {
    pub(crate) attributes: Attributes,
    /// For how long it may hold the attributes.
    pub(crate) attributes_fresh: Duration,
    /// For how long it may hold that the name stands for them.
    pub(crate) name_fresh: Duration,
}

/// One name of a listing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed<'a> {
    pub(crate) name: &'a str,
    /// What the kernel gives back to go on after this name.
    pub(crate) next: u64,
    pub(crate) attributes: &'a Attributes,
    /// For how long it may hold name and attributes, where they are sent.
    pub(crate) fresh: Duration,
}

/// A file that the kernel reads by itself for as long as this lives.
pub(crate) struct Backing(Box<dyn Any + Send + Sync>);

/// Answers requests. Never waits for an origin: what is not at hand is answered later.
pub(crate) trait Handler: Send + Sync + 'static {
    fn lookup(&self, caller: Caller, parent: NodeId, name: &[u8], answer: impl AnswerEntry);
    fn forget(&self, node: NodeId, count: u64);
    fn attributes(&self, node: NodeId, answer: impl AnswerAttributes);
    fn open(&self, caller: Caller, node: NodeId, to_write: bool, answer: impl AnswerOpen);
    fn release(&self, node: NodeId);
    fn read(&self, caller: Caller, node: NodeId, offset: u64, len: u32, answer: impl AnswerBytes);
    fn open_directory(&self, caller: Caller, node: NodeId, answer: impl AnswerOpenDirectory);
    fn release_directory(&self, handle: Handle);
    /// `remember`: each name that is added counts as a lookup, except `.` and `..`.
    fn list(&self, caller: Caller, node: NodeId, handle: Handle, offset: u64, remember: bool, answer: impl AnswerNames);
    /// A request that is refused without looking at it was answered so.
    fn refused(&self, op: &'static str, errno: Errno);
    /// A call of this handler panicked; its request has been answered with EIO.
    fn panicked(&self);
}

/// An answer that is still owed. Dropped, it fails with EIO.
pub(crate) trait Answer: Send + Sized + 'static {
    fn fail(self, errno: Errno);
}

/// To a lookup.
pub(crate) trait AnswerEntry: Answer {
    fn found(self, entry: &NamedEntry);
    /// The name does not exist, and the kernel may hold that for `fresh`.
    fn absent(self, fresh: Duration);
}

/// To a stat.
pub(crate) trait AnswerAttributes: Answer {
    fn attributes(self, attributes: &Attributes, fresh: Duration);
}

/// To a read.
pub(crate) trait AnswerBytes: Answer {
    /// Lends a buffer of `len` bytes to `fill`, which may wait for a disk, and sends it if that filled it; else gives the
    /// answer to `absent`.
    fn fill(
        self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> ReadNow + Send + 'static,
        absent: impl FnOnce(Self) + Send + 'static,
    );
    /// Sends `bytes`.
    fn bytes(self, bytes: &[u8]);
    /// Sends `chunks` in order.
    fn chunks(self, chunks: &[Bytes]);
}

/// To an open of a file.
pub(crate) trait AnswerOpen: Answer {
    /// Lets the kernel read `file` by itself.
    fn register(&self, file: BorrowedFd<'_>) -> io::Result<Backing>;
    /// Opened; the kernel keeps what its page cache holds of the file.
    fn opened_cached(self);
    /// Opened; the kernel reads `backing`, which lives until the release.
    fn opened_passthrough(self, backing: &Backing);
}

/// To an open of a directory.
pub(crate) trait AnswerOpenDirectory: Answer {
    fn opened(self, handle: Handle);
}

/// To a listing.
pub(crate) trait AnswerNames: Answer {
    /// Whether `listed` had room. If not it was not added.
    fn add(&mut self, listed: &Listed<'_>) -> bool;
    fn done(self);
}
