//! What the benches ask of the kernel: files on the disk, caches dropped, figures of this process.

use std::fs::File;
use std::io::{Error, Result};
use std::path::Path;

/// Waits until all that was written to the file system of `directory` is on its disk.
pub(crate) fn sync(directory: &Path) -> Result<()> {
    rustix::fs::syncfs(File::open(directory)?).map_err(Error::from)
}

/// Drops the page cache, dentries and inodes, after all was written. Needs root.
pub(crate) fn drop_caches(directory: &Path) -> Result<()> {
    sync(directory)?;
    std::fs::write("/proc/sys/vm/drop_caches", "3")
        .map_err(|error| Error::new(error.kind(), format!("cannot drop the caches (it takes root): {error}")))
}

/// An empty directory, whatever was there; what that left to be written is written.
pub(crate) fn empty(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    std::fs::create_dir_all(directory)?;
    sync(directory)
}

/// Has the allocator keep what it once had: each value of the rival is a new one, and glibc would else return its pages to the
/// kernel and ask for new ones, for some sizes and at some moments.
#[expect(unsafe_code, reason = "no crate wraps mallopt")]
pub(crate) fn keep_memory() {
    /// The most that glibc allows.
    const MMAP_THRESHOLD: i32 = 32 << 20;
    // SAFETY: the calls take integers, and change where later allocations come from.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Anonymous memory of this process in bytes, after the allocator gave back what it can.
#[expect(unsafe_code, reason = "no crate wraps malloc_trim")]
pub(crate) fn anonymous_memory() -> Result<u64> {
    // SAFETY: the call takes an integer and changes nothing that this process can see.
    unsafe { libc::malloc_trim(0) };
    let text = std::fs::read_to_string("/proc/self/status")?;
    let field = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    kibibytes(field).map(|kib| kib * 1024).ok_or_else(|| Error::other("/proc/self/status has no RssAnon"))
}

/// Bytes that this process has had written to disks so far, less those that were given up before.
pub(crate) fn written() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse::<u64>().ok());
        value.ok_or_else(|| Error::other(format!("/proc/self/io has no {name}")))
    };
    Ok(field("write_bytes")?.saturating_sub(field("cancelled_write_bytes")?))
}

fn kibibytes(field: Option<&str>) -> Option<u64> {
    field?.trim().strip_suffix("kB")?.trim().parse().ok()
}
