//! The kernel's judgement on whether a hole may be punched.
//!
//! A write lease (`fcntl(F_SETLEASE, F_WRLCK)`) is granted only while no other open file description of the inode exists
//! in any process: no descriptor, no mmap, no passthrough open. The store has exactly one description of each of its files
//! (see `files`), and what it hands out are descriptions of their own, so a grant means that nobody else can see the hole.
//! A duplicate of the store's own descriptor would not be seen: so that one never leaves the process.
//!
//! Not every file system keeps to that: on overlayfs a map holds the layer's file only, and a lease is granted beside it.
//! So each directory's kernel is put to the test when the directory opens; where it judges wrongly nothing is punched.
//!
//! Not here: what to do when it is refused (`evict` unlinks).
#![expect(unsafe_code, reason = "no crate wraps F_SETLEASE and F_SETSIG; a map is made to test them")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use libc::c_int;
use rustix::mm::{MapFlags, ProtFlags};

use crate::device::{self, Root};

/// `F_SETSIG` of Linux, the same on x86-64 and aarch64.
const F_SETSIG: c_int = 10;
/// The file that the kernel's judgement is tested on.
const PROBE: &str = "lease.probe";
/// Length of its map.
const PROBE_LEN: usize = 4096;

/// A write lease; given back when dropped.
#[derive(Debug)]
pub(crate) struct WriteLease<'a> {
    file: &'a OwnedFd,
}

impl<'a> WriteLease<'a> {
    /// The lease on `file`, or none if anybody else has it open, or the file system knows no leases.
    pub(crate) fn take(file: &'a OwnedFd) -> Option<Self> {
        // Whoever opens the file while the lease stands makes the kernel signal this process. The default, SIGIO, would
        // end it; SIGURG is ignored unless somebody asks for it.
        if !set(file, F_SETSIG, libc::SIGURG) {
            return None;
        }
        set(file, libc::F_SETLEASE, libc::F_WRLCK).then_some(Self { file })
    }
}

impl Drop for WriteLease<'_> {
    fn drop(&mut self) {
        // Cannot fail for a lease that is held; one that the kernel broke is gone already.
        set(self.file, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

/// Whether the kernel judges rightly in this directory: no lease beside a map whose descriptor is closed, one after it.
pub(crate) fn is_judge_true(root: &Root) -> bool {
    // One may be left by a process that was killed here.
    let _ = root.unlink(PROBE);
    // A disk that is full or fails cannot be tested: then nothing is punched.
    let verdict = probe(root).unwrap_or(false);
    let _ = root.unlink(PROBE);
    verdict
}

/// Whether the file system of this directory makes holes in files.
pub(crate) fn can_punch(root: &Root) -> bool {
    let _ = root.unlink(PROBE);
    let verdict = root.create(PROBE).and_then(|file| {
        device::write_all_at(&file, [&[1; PROBE_LEN][..]], 0)?;
        device::punch(&file, 0, PROBE_LEN as u64)
    });
    let _ = root.unlink(PROBE);
    verdict.is_ok()
}

fn probe(root: &Root) -> io::Result<bool> {
    let own = root.create(PROBE)?;
    device::write_all_at(&own, [&[1; PROBE_LEN][..]], 0)?;
    let other = root.open_to_read(PROBE)?;
    if WriteLease::take(&own).is_some() {
        return Ok(false);
    }
    // SAFETY: a new map at an address of the kernel's choice overlaps nothing.
    let map = unsafe { rustix::mm::mmap(ptr::null_mut(), PROBE_LEN, ProtFlags::READ, MapFlags::SHARED, &other, 0)? };
    drop(other);
    let beside_a_map = WriteLease::take(&own).is_some();
    // SAFETY: this very map, which nobody else knows and nobody looks into.
    unsafe { rustix::mm::munmap(map, PROBE_LEN)? };
    Ok(!beside_a_map && WriteLease::take(&own).is_some())
}

fn set(file: &OwnedFd, command: c_int, value: c_int) -> bool {
    // SAFETY: both commands take an integer and touch no memory of this process; the descriptor is open, for `file` owns
    // it.
    unsafe { libc::fcntl(file.as_raw_fd(), command, value) == 0 }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn is_granted_only_to_the_only_description() {
        for directory in [tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap()] {
            let path = directory.path().join("f");
            let own = OwnedFd::from(File::options().read(true).write(true).create_new(true).open(&path).unwrap());
            assert!(WriteLease::take(&own).is_some(), "alone");
            let other = File::open(&path).unwrap();
            assert!(WriteLease::take(&own).is_none(), "another description");
            drop(other);
            assert!(WriteLease::take(&own).is_some(), "alone again");
            assert!(is_judge_true(&Root::open(directory.path()).unwrap()), "a map is seen");
        }
    }
}
