//! What a mount is to be like. Passed in code; `cli` makes it of settings.

use std::path::PathBuf;
use std::time::Duration;

use forebay_model::{ByteSize, NsPath};

/// Which of the two kinds a mount is. They exclude each other for the whole life of a mount: after one refused OPEN the
/// kernel never sends OPEN again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No open calls, reads through the kernel's page cache: the fastest for many files.
    Files,
    /// Open calls, and passthrough of contents that lie whole on this machine: the fastest for large objects.
    Streams,
}

/// What a mount is to be like.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// An existing directory.
    pub mountpoint: PathBuf,
    /// The path of the namespace that is shown as the mount's root.
    pub root: NsPath,
    /// Which of the two kinds.
    pub kind: Kind,
    /// Whether other users than the process's own may enter.
    pub allow_other: bool,
    /// Owner of everything shown.
    pub uid: u32,
    /// Group of everything shown.
    pub gid: u32,
    /// Permission bits of files.
    pub file_mode: u16,
    /// Permission bits of directories.
    pub dir_mode: u16,
    /// Threads that take requests from the kernel; also how many reads of local disks go on at once.
    pub threads: usize,
    /// Whether requests are taken over io_uring where the kernel offers it.
    pub io_uring: bool,
    /// How far the kernel reads ahead in a file.
    pub read_ahead: ByteSize,
    /// The origin's URL, shown in the mount table.
    pub fs_name: String,
    /// Programs, by the name in `/proc/PID/comm`, that may not open directories: they would list the whole origin.
    pub refuse_programs: Vec<String>,
    /// How many requests for bytes may wait for the service at once; more of them queue. Bounds the memory of replies to
    /// this many MiB.
    pub reads_in_flight: usize,
    /// Inodes that the kernel may know before it is asked to forget some, which takes Linux 6.18: at most 256 bytes each.
    pub inodes_max: usize,
    /// A request that the service has not answered by then fails. A safety net above the client's own deadline.
    pub request_limit: Duration,
}

impl MountOptions {
    /// Options for a mount of `root` on `mountpoint`, everything else as is best for many small files read by all users
    /// if this process is root's, else by its own.
    pub fn new(mountpoint: impl Into<PathBuf>, root: NsPath) -> Self {
        let uid = rustix::process::geteuid();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            mountpoint: mountpoint.into(),
            root,
            kind: Kind::Files,
            allow_other: uid.is_root(),
            uid: uid.as_raw(),
            gid: rustix::process::getegid().as_raw(),
            file_mode: 0o444,
            dir_mode: 0o555,
            // Some wait for a disk while others answer from memory: a disk gives its best at a queue of several reads.
            threads: (4 * cores).clamp(8, 32),
            io_uring: true,
            read_ahead: ByteSize(4 << 20),
            fs_name: "forebay".to_owned(),
            refuse_programs: ["updatedb", "mlocate", "plocate", "updatedb.mlocat", "updatedb.plocat"]
                .map(str::to_owned)
                .to_vec(),
            reads_in_flight: 128,
            inodes_max: 1 << 20,
            request_limit: Duration::from_secs(60),
        }
    }
}
