//! Files that the kernel reads by itself.

#![expect(unsafe_code, reason = "no crate wraps these ioctls of /dev/fuse")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// `_IOW(229, 1, struct fuse_backing_map)` and `_IOW(229, 2, u32)`.
const BACKING_OPEN: libc::c_ulong = 0x4010_e501;
const BACKING_CLOSE: libc::c_ulong = 0x4004_e502;

/// A file that is registered with a connection until this is dropped.
pub(super) struct RegisteredFile {
    device: Arc<OwnedFd>,
    id: i32,
}

#[repr(C)]
struct BackingMap {
    file: i32,
    flags: u32,
    padding: u64,
}

impl RegisteredFile {
    pub(super) fn new(device: Arc<OwnedFd>, file: RawFd) -> io::Result<Self> {
        let map = BackingMap { file, flags: 0, padding: 0 };
        // SAFETY: the kernel reads a map of this shape, which lives until the call returns.
        let id = unsafe { libc::ioctl(device.as_raw_fd(), BACKING_OPEN, &raw const map) };
        if id < 0 { Err(io::Error::last_os_error()) } else { Ok(Self { device, id }) }
    }

    pub(super) fn id(&self) -> i32 {
        self.id
    }
}

impl Drop for RegisteredFile {
    fn drop(&mut self) {
        // SAFETY: the kernel reads one number, which lives until the call returns.
        if unsafe { libc::ioctl(self.device.as_raw_fd(), BACKING_CLOSE, &raw const self.id) } < 0 {
            let error = io::Error::last_os_error();
            tracing::debug!(%error, "a backing file could not be given up");
        }
    }
}
