//! FUSE's messages as they lie in memory that is shared with the kernel (`linux/fuse.h`, version 7.42 and later).

use std::time::Duration;

use forebay_model::TimestampNs;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::attributes::Attributes;
use crate::session::{NamedEntry, file_type_bits};

/// What stands before the payload of a ring's entry.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct EntryHeader {
    /// The request's header, or the reply's.
    pub(super) in_out: [u8; 128],
    /// The first argument of the request.
    pub(super) op_in: [u8; 128],
    pub(super) ring: RingHeader,
}

/// What the ring itself says of a message.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RingHeader {
    pub(super) flags: u64,
    /// Names the request when it is answered.
    pub(super) commit_id: u64,
    pub(super) payload_len: u32,
    pub(super) padding: u32,
    pub(super) reserved: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RequestHeader {
    pub(super) len: u32,
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) pid: u32,
    pub(super) extensions_len: u16,
    pub(super) padding: u16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct ReplyHeader {
    pub(super) len: u32,
    /// Zero, or a negative errno.
    pub(super) error: i32,
    pub(super) unique: u64,
}

/// The command of a submission: which queue, and which request is answered.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Command {
    pub(super) flags: u64,
    pub(super) commit_id: u64,
    pub(super) queue: u16,
    pub(super) padding: [u8; 62],
}

pub(super) const COMMAND_REGISTER: u32 = 1;
pub(super) const COMMAND_COMMIT_AND_FETCH: u32 = 2;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct OpenIn {
    pub(super) flags: u32,
    pub(super) open_flags: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct OpenOut {
    pub(super) handle: u64,
    pub(super) open_flags: u32,
    pub(super) backing_id: i32,
}

/// The kernel keeps what its page cache holds of the file.
pub(super) const OPEN_KEEP_CACHE: u32 = 1 << 1;
/// No FLUSH at the close.
pub(super) const OPEN_NO_FLUSH: u32 = 1 << 5;
/// The kernel reads the backing file.
pub(super) const OPEN_PASSTHROUGH: u32 = 1 << 7;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct ReleaseIn {
    pub(super) handle: u64,
    pub(super) flags: u32,
    pub(super) release_flags: u32,
    pub(super) lock_owner: u64,
}

/// Of reads of files and of directories.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct ReadIn {
    pub(super) handle: u64,
    pub(super) offset: u64,
    pub(super) size: u32,
    pub(super) read_flags: u32,
    pub(super) lock_owner: u64,
    pub(super) flags: u32,
    pub(super) padding: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Attr {
    ino: u64,
    size: u64,
    /// Of 512 bytes.
    blocks: u64,
    atime: u64,
    mtime: u64,
    ctime: u64,
    atime_ns: u32,
    mtime_ns: u32,
    ctime_ns: u32,
    mode: u32,
    links: u32,
    uid: u32,
    gid: u32,
    device: u32,
    block_size: u32,
    flags: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct EntryOut {
    node: u64,
    generation: u64,
    name_fresh: u64,
    attributes_fresh: u64,
    name_fresh_ns: u32,
    attributes_fresh_ns: u32,
    attr: Attr,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct AttrOut {
    fresh: u64,
    fresh_ns: u32,
    padding: u32,
    attr: Attr,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct StatfsOut {
    pub(super) blocks: u64,
    pub(super) blocks_free: u64,
    pub(super) blocks_available: u64,
    pub(super) files: u64,
    pub(super) files_free: u64,
    pub(super) block_size: u32,
    pub(super) name_max: u32,
    pub(super) fragment_size: u32,
    pub(super) padding: u32,
    pub(super) spare: [u32; 6],
}

/// One name of a listing; the name follows, filled up to a multiple of eight.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Dirent {
    pub(super) ino: u64,
    /// Where a listing that ends here goes on.
    pub(super) next: u64,
    pub(super) name_len: u32,
    pub(super) kind: u32,
}

const _: () = {
    assert!(size_of::<EntryHeader>() == 288);
    assert!(size_of::<RequestHeader>() == 40);
    assert!(size_of::<ReplyHeader>() == 16);
    assert!(size_of::<Command>() == 80);
    assert!(size_of::<OpenOut>() == 16);
    assert!(size_of::<ReleaseIn>() == 24);
    assert!(size_of::<ReadIn>() == 40);
    assert!(size_of::<Attr>() == 88);
    assert!(size_of::<EntryOut>() == 128);
    assert!(size_of::<AttrOut>() == 104);
    assert!(size_of::<StatfsOut>() == 80);
    assert!(size_of::<Dirent>() == 24);
};

/// The numbers of requests.
pub(super) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const ACCESS: u32 = 34;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const IOCTL: u32 = 39;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const LSEEK: u32 = 46;
    pub(crate) const COPY_FILE_RANGE: u32 = 47;
    pub(crate) const TMPFILE: u32 = 51;
}

impl Attr {
    pub(super) fn of(attributes: &Attributes) -> Self {
        let (seconds, ns) = time(attributes.mtime);
        Self {
            ino: attributes.node.0,
            size: attributes.size,
            blocks: attributes.size.div_ceil(512),
            atime: seconds,
            mtime: seconds,
            ctime: seconds,
            atime_ns: ns,
            mtime_ns: ns,
            ctime_ns: ns,
            mode: file_type_bits(attributes) | u32::from(attributes.mode),
            links: attributes.links,
            uid: attributes.uid,
            gid: attributes.gid,
            device: 0,
            block_size: crate::session::BLOCK_SIZE,
            flags: 0,
        }
    }
}

impl EntryOut {
    pub(super) fn of(entry: &NamedEntry) -> Self {
        Self {
            node: entry.attributes.node.0,
            generation: 0,
            name_fresh: entry.name_fresh.as_secs(),
            attributes_fresh: entry.attributes_fresh.as_secs(),
            name_fresh_ns: entry.name_fresh.subsec_nanos(),
            attributes_fresh_ns: entry.attributes_fresh.subsec_nanos(),
            attr: Attr::of(&entry.attributes),
        }
    }

    /// Node 0 is how FUSE states an absence that may be held.
    pub(super) fn absent(fresh: Duration) -> Self {
        let mut entry = Self::new_zeroed();
        (entry.name_fresh, entry.name_fresh_ns) = (fresh.as_secs(), fresh.subsec_nanos());
        entry
    }
}

impl AttrOut {
    pub(super) fn of(attributes: &Attributes, fresh: Duration) -> Self {
        Self { fresh: fresh.as_secs(), fresh_ns: fresh.subsec_nanos(), padding: 0, attr: Attr::of(attributes) }
    }
}

/// Seconds and nanoseconds since 1970; of a time before, the seconds are negative in two's complement.
fn time(at: TimestampNs) -> (u64, u32) {
    const SECOND: i64 = 1_000_000_000;
    (at.0.div_euclid(SECOND) as u64, at.0.rem_euclid(SECOND) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        assert_eq!(time(TimestampNs(1_500_000_000)), (1, 500_000_000));
        assert_eq!(time(TimestampNs(-1)), (-1i64 as u64, 999_999_999));
        assert_eq!(time(TimestampNs(0)), (0, 0));
    }
}
