//! The session over `/dev/fuse`, by the library `fuser`: the only file that names it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use forebay_client::ReadNow;
use forebay_model::TimestampNs;
use fuser::{
    BackingId, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    OpenAccMode, OpenFlags, Request,
};

use super::buffers::{REPLY_MAX, with_buffer};
use super::{
    Answer, AnswerAttributes, AnswerBytes, AnswerEntry, AnswerNames, AnswerOpen, AnswerOpenDirectory, BLOCK_SIZE,
    Backing, CAPACITY_BLOCKS, Caller, Handle, Handler, Listed, NamedEntry, guard,
};
use crate::attributes::Attributes;
use crate::errno::Errno;
use crate::nodeid::NodeId;

/// Reads ahead and the like that the kernel may have on the way at once: enough for several readers of 4 MiB windows.
const BACKGROUND_MAX: u16 = 256;

/// How deep backing files may be stacked: 2 admits a cache directory on an overlay.
const STACK_DEPTH: u32 = 2;

/// What a session is to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionOptions {
    pub(crate) threads: usize,
    pub(crate) allow_other: bool,
    /// Ask for passthrough of opens.
    pub(crate) passthrough: bool,
    /// Ask for queues of io_uring.
    pub(crate) io_uring: bool,
}

/// What the kernel agreed to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Negotiated {
    pub(crate) passthrough: bool,
    pub(crate) io_uring: bool,
}

/// A session that has shaken hands with the kernel and serves when it is run.
pub(super) struct DeviceSession<H: Handler> {
    session: fuser::Session<Adapter<H>>,
}

impl<H: Handler> DeviceSession<H> {
    /// Shakes hands over `device`, on which a mount has been made.
    pub(super) fn start(handler: H, device: OwnedFd, options: SessionOptions) -> io::Result<(Self, Negotiated)> {
        let negotiated = Arc::new(OnceLock::new());
        let adapter = Adapter { handler, options, negotiated: negotiated.clone() };
        let mut config = fuser::Config::default();
        config.n_threads = Some(options.threads.max(1));
        // Without the right to open the device again the threads share one descriptor.
        config.clone_fd = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
        let acl = if options.allow_other { fuser::SessionACL::All } else { fuser::SessionACL::Owner };
        let session = fuser::Session::from_fd(adapter, device, acl, config)?;
        Ok((Self { session }, negotiated.get().copied().unwrap_or_default()))
    }

    /// Serves until the kernel ends the session.
    pub(super) fn run(self) -> io::Result<()> {
        self.session.run()
    }
}

struct Adapter<H: Handler> {
    handler: H,
    options: SessionOptions,
    negotiated: Arc<OnceLock<Negotiated>>,
}

impl<H: Handler> Adapter<H> {
    fn guard(&self, call: impl FnOnce(&H)) {
        guard(&self.handler, call);
    }

    fn read_only(&self, op: &'static str) -> fuser::Errno {
        self.refuse(op, Errno::READ_ONLY)
    }

    fn refuse(&self, op: &'static str, errno: Errno) -> fuser::Errno {
        self.handler.refused(op, errno);
        errno.into()
    }
}

impl<H: Handler> Filesystem for Adapter<H> {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Whichever of them an older kernel lacks costs speed only.
        for wish in [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_MAX_PAGES,
            // A nodeid's bytes never change: nothing is dropped from the page cache on a guess.
            InitFlags::FUSE_EXPLICIT_INVAL_DATA,
        ] {
            let _ = config.add_capabilities(wish);
        }
        let _ = config.set_max_write(REPLY_MAX as u32);
        let most = config.set_max_readahead(u32::MAX).err().unwrap_or(u32::MAX);
        let _ = config.set_max_readahead(most);
        let _ = config.set_max_background(BACKGROUND_MAX);
        let passthrough = self.options.passthrough
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(STACK_DEPTH).is_ok();
        let io_uring = self.options.io_uring && config.add_capabilities(InitFlags::FUSE_OVER_IO_URING).is_ok();
        let _ = self.negotiated.set(Negotiated { passthrough, io_uring });
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEntry) {
        self.guard(|h| h.lookup(caller(request), NodeId(parent.0), name.as_bytes(), reply));
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        self.guard(|h| h.forget(NodeId(ino.0), count));
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: fuser::ReplyAttr) {
        self.guard(|h| h.attributes(NodeId(ino.0), reply));
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: fuser::ReplyOpen) {
        let to_write = flags.acc_mode() != OpenAccMode::O_RDONLY;
        self.guard(|h| h.open(caller(request), NodeId(ino.0), to_write, OpenReply(reply)));
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<fuser::LockOwner>,
        _flush: bool,
        reply: fuser::ReplyEmpty,
    ) {
        self.guard(|h| h.release(NodeId(ino.0)));
        reply.ok();
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<fuser::LockOwner>,
        reply: fuser::ReplyData,
    ) {
        self.guard(|h| h.read(caller(request), NodeId(ino.0), offset, size, reply));
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _flags: OpenFlags, reply: fuser::ReplyOpen) {
        self.guard(|h| h.open_directory(caller(request), NodeId(ino.0), OpenDirectoryReply(reply)));
    }

    fn releasedir(&self, _: &Request, _ino: INodeNo, fh: FileHandle, _: OpenFlags, reply: fuser::ReplyEmpty) {
        self.guard(|h| h.release_directory(Handle(fh.0)));
        reply.ok();
    }

    fn readdir(&self, request: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: fuser::ReplyDirectory) {
        self.guard(|h| h.list(caller(request), NodeId(ino.0), Handle(fh.0), offset, false, reply));
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: fuser::ReplyDirectoryPlus,
    ) {
        self.guard(|h| h.list(caller(request), NodeId(ino.0), Handle(fh.0), offset, true, reply));
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: fuser::ReplyStatfs) {
        const BLOCKS: u64 = CAPACITY_BLOCKS;
        let name_max = forebay_model::NAME_MAX as u32;
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCK_SIZE, name_max, BLOCK_SIZE);
    }

    // What the kernel asks once and then does without: permission bits are its own business (`default_permissions`), and
    // there are no extended attributes, nothing to flush, and no holes.

    fn access(&self, _: &Request, _: INodeNo, _: fuser::AccessFlags, reply: fuser::ReplyEmpty) {
        reply.error(self.refuse("access", Errno::NOT_HERE));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: fuser::LockOwner, reply: fuser::ReplyEmpty) {
        reply.error(self.refuse("flush", Errno::NOT_HERE));
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: fuser::ReplyEmpty) {
        reply.error(self.refuse("fsync", Errno::NOT_HERE));
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: fuser::ReplyEmpty) {
        reply.error(self.refuse("fsyncdir", Errno::NOT_HERE));
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: fuser::ReplyXattr) {
        reply.error(self.refuse("getxattr", Errno::NOT_HERE));
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: fuser::ReplyXattr) {
        reply.error(self.refuse("listxattr", Errno::NOT_HERE));
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: fuser::ReplyLseek) {
        reply.error(self.refuse("lseek", Errno::NOT_HERE));
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: fuser::IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: fuser::ReplyIoctl,
    ) {
        reply.error(self.refuse("ioctl", Errno::NO_TTY));
    }

    fn readlink(&self, _: &Request, _: INodeNo, reply: fuser::ReplyData) {
        reply.error(self.refuse("readlink", Errno::INVALID));
    }

    // Writes. The mount is read-only, so the kernel refuses them before they come here; these are for what slips through.

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<fuser::TimeOrNow>,
        _: Option<fuser::TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: fuser::ReplyAttr,
    ) {
        reply.error(self.read_only("setattr"));
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: fuser::ReplyEntry) {
        reply.error(self.read_only("mknod"));
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: fuser::ReplyEntry) {
        reply.error(self.read_only("mkdir"));
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: fuser::ReplyEmpty) {
        reply.error(self.read_only("unlink"));
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: fuser::ReplyEmpty) {
        reply.error(self.read_only("rmdir"));
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &std::path::Path, reply: fuser::ReplyEntry) {
        reply.error(self.read_only("symlink"));
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: fuser::RenameFlags,
        reply: fuser::ReplyEmpty,
    ) {
        reply.error(self.read_only("rename"));
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: fuser::ReplyEntry) {
        reply.error(self.read_only("link"));
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: fuser::ReplyCreate) {
        reply.error(self.read_only("create"));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: fuser::WriteFlags,
        _: OpenFlags,
        _: Option<fuser::LockOwner>,
        reply: fuser::ReplyWrite,
    ) {
        reply.error(self.read_only("write"));
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: fuser::ReplyEmpty) {
        reply.error(self.read_only("fallocate"));
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: fuser::CopyFileRangeFlags,
        reply: fuser::ReplyWrite,
    ) {
        reply.error(self.read_only("copy_file_range"));
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: fuser::ReplyEmpty) {
        reply.error(self.read_only("setxattr"));
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: fuser::ReplyEmpty) {
        reply.error(self.read_only("removexattr"));
    }
}

/// An open of a file; opens of directories answer by the same type of the library.
struct OpenReply(fuser::ReplyOpen);
struct OpenDirectoryReply(fuser::ReplyOpen);

macro_rules! answer_by_error {
    ($($reply:ty => |$this:ident| $inner:expr),+ $(,)?) => {$(
        impl Answer for $reply {
            fn fail(self, errno: Errno) {
                let $this = self;
                $inner.error(errno.into());
            }
        }
    )+};
}

answer_by_error! {
    fuser::ReplyEntry => |reply| reply,
    fuser::ReplyAttr => |reply| reply,
    fuser::ReplyData => |reply| reply,
    fuser::ReplyDirectory => |reply| reply,
    fuser::ReplyDirectoryPlus => |reply| reply,
    OpenReply => |reply| reply.0,
    OpenDirectoryReply => |reply| reply.0,
}

impl AnswerEntry for fuser::ReplyEntry {
    fn found(self, entry: &NamedEntry) {
        let attributes = file_attr(&entry.attributes);
        self.entry_with_ttls(&entry.attributes_fresh, &entry.name_fresh, &attributes, Generation(0));
    }

    fn absent(self, fresh: Duration) {
        // Node 0 is how FUSE states an absence that may be held.
        let nothing = Attributes {
            node: NodeId(0),
            is_directory: false,
            size: 0,
            mtime: TimestampNs(0),
            mode: 0,
            links: 0,
            uid: 0,
            gid: 0,
        };
        self.entry_with_ttls(&Duration::ZERO, &fresh, &file_attr(&nothing), Generation(0));
    }
}

impl AnswerAttributes for fuser::ReplyAttr {
    fn attributes(self, attributes: &Attributes, fresh: Duration) {
        self.attr(&fresh, &file_attr(attributes));
    }
}

impl AnswerBytes for fuser::ReplyData {
    fn fill(
        self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> ReadNow + Send + 'static,
        absent: impl FnOnce(Self) + Send + 'static,
    ) {
        let unanswered = with_buffer(len, |buffer| match fill(buffer) {
            ReadNow::Filled => {
                self.data(buffer);
                None
            }
            ReadNow::Absent => Some(self),
        });
        if let Some(answer) = unanswered {
            absent(answer);
        }
    }

    fn bytes(self, bytes: &[u8]) {
        self.data(bytes);
    }

    fn chunks(self, chunks: &[Bytes]) {
        match chunks {
            [] => self.data(&[]),
            [chunk] => self.data(chunk),
            many => with_buffer(many.iter().map(Bytes::len).sum(), |buffer| {
                let mut rest = &mut *buffer;
                for chunk in many {
                    let (place, after) = rest.split_at_mut(chunk.len());
                    place.copy_from_slice(chunk);
                    rest = after;
                }
                self.data(buffer);
            }),
        }
    }
}

impl AnswerOpen for OpenReply {
    fn register(&self, file: BorrowedFd<'_>) -> io::Result<Backing> {
        self.0.open_backing(file).map(|id| Backing(Box::new(id)))
    }

    fn opened_cached(self) {
        self.0.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
    }

    fn opened_passthrough(self, backing: &Backing) {
        match backing.0.downcast_ref::<BackingId>() {
            Some(id) => self.0.opened_passthrough(FileHandle(0), FopenFlags::FOPEN_NOFLUSH, id),
            None => self.0.error(Errno::IO.into()),
        }
    }
}

impl AnswerOpenDirectory for OpenDirectoryReply {
    fn opened(self, handle: Handle) {
        self.0.opened(FileHandle(handle.0), FopenFlags::empty());
    }
}

impl AnswerNames for fuser::ReplyDirectory {
    fn add(&mut self, listed: &Listed<'_>) -> bool {
        let kind = file_type(listed.attributes);
        !fuser::ReplyDirectory::add(self, INodeNo(listed.attributes.node.0), listed.next, kind, listed.name)
    }

    fn done(self) {
        self.ok();
    }
}

impl AnswerNames for fuser::ReplyDirectoryPlus {
    fn add(&mut self, listed: &Listed<'_>) -> bool {
        let attributes = file_attr(listed.attributes);
        let node = INodeNo(listed.attributes.node.0);
        let (next, fresh) = (listed.next, &listed.fresh);
        !fuser::ReplyDirectoryPlus::add(self, node, next, listed.name, fresh, &attributes, Generation(0))
    }

    fn done(self) {
        self.ok();
    }
}

impl From<Errno> for fuser::Errno {
    fn from(errno: Errno) -> Self {
        Self::from_i32(errno.number())
    }
}

fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

fn file_type(attributes: &Attributes) -> FileType {
    if attributes.is_directory { FileType::Directory } else { FileType::RegularFile }
}

fn file_attr(attributes: &Attributes) -> FileAttr {
    let time = time(attributes.mtime);
    FileAttr {
        ino: INodeNo(attributes.node.0),
        size: attributes.size,
        blocks: attributes.size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(attributes),
        perm: attributes.mode,
        nlink: attributes.links,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

fn time(at: TimestampNs) -> SystemTime {
    let distance = Duration::from_nanos(at.0.unsigned_abs());
    if at.0 < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}
