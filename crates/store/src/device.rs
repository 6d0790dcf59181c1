//! The calls that touch a directory's file system: the only file that does so, beside `lease`, `past_cache` and `writeback`.
//!
//! Every path is relative to the directory's descriptor, so a directory that is renamed goes on working and one that is
//! replaced is noticed.

#[cfg(test)]
pub(crate) mod journal;

use std::fs::DirBuilder;
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags, Timespec, Timestamps};
use rustix::io::{Errno, ReadWriteFlags};

use crate::read::Caching;

/// Mode of files: contents are private to the process's user; readers get descriptors.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// `RWF_DONTCACHE` of Linux 6.14: the page cache drops what this call brought into it.
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);
/// Slices given to one write call: the kernel's UIO_MAXIOV.
const MAX_SLICES: usize = 1024;
/// Some thousand times what it takes to ask whether a lock is held.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A directory of the store.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    path: PathBuf,
    dontcache: AtomicBool,
}

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    pub(crate) total: u64,
    pub(crate) available: u64,
}

impl Root {
    /// Opens `path`, and makes it if it does not exist.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Self::look(path)
    }

    /// Opens `path`, which exists, to look at what lies there.
    pub(crate) fn look(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Self { fd, path: path.to_owned(), dontcache: AtomicBool::new(true) })
    }

    /// The path that it was opened by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file that must not exist, for reading and writing.
    pub(crate) fn create(&self, name: &str) -> io::Result<OwnedFd> {
        let file = self.openat(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        #[cfg(test)]
        journal::created(&self.fd, name, &file, true);
        Ok(file)
    }

    /// Opens a file for reading and writing, and makes it if it does not exist.
    pub(crate) fn open_or_create(&self, name: &str) -> io::Result<OwnedFd> {
        let file = self.openat(name, OFlags::RDWR | OFlags::CREATE)?;
        #[cfg(test)]
        journal::created(&self.fd, name, &file, false);
        Ok(file)
    }

    /// Opens a file for reading and writing: the store's own descriptor.
    pub(crate) fn open_own(&self, name: &str) -> io::Result<OwnedFd> {
        self.openat(name, OFlags::RDWR)
    }

    /// Opens a file for reading only, as an open file description of its own: one to hand out, or to look at.
    pub(crate) fn open_to_read(&self, name: &str) -> io::Result<OwnedFd> {
        self.openat(name, OFlags::RDONLY)
    }

    /// Opens a file for reading past the page cache, by `O_DIRECT`.
    pub(crate) fn open_direct(&self, name: &str) -> io::Result<OwnedFd> {
        self.openat(name, OFlags::RDWR | OFlags::DIRECT)
    }

    /// NONBLOCK: a kernel lease on the file, whoever holds it, must fail the open and not hold its thread. NOATIME: nobody
    /// asks when a page was read last, and the kernel would look at the clock with every read; it is for the file's owner
    /// only.
    fn openat(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        match rustix::fs::openat(&self.fd, name, flags | OFlags::NOATIME, FILE_MODE) {
            Err(Errno::PERM) => Ok(rustix::fs::openat(&self.fd, name, flags, FILE_MODE)?),
            outcome => Ok(outcome?),
        }
    }

    /// Removes a file.
    pub(crate) fn unlink(&self, name: &str) -> io::Result<()> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?;
        #[cfg(test)]
        journal::in_directory(&self.fd, || journal::Step::Unlink { name: name.to_owned() });
        Ok(())
    }

    /// Renames a file; one that stands at the new name is replaced.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to)?;
        #[cfg(test)]
        journal::in_directory(&self.fd, || journal::Step::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    /// Makes a directory; one that exists is as good.
    pub(crate) fn make_directory(&self, name: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes the directory's own entries (a rename) to the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        rustix::fs::fsync(&self.fd)?;
        #[cfg(test)]
        journal::in_directory(&self.fd, || journal::Step::SyncNames);
        Ok(())
    }

    /// Whether the directory was removed.
    pub(crate) fn is_gone(&self) -> bool {
        is_unlinked(&self.fd)
    }

    /// Its device and inode: two directories never have the same at one time.
    pub(crate) fn place(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::fstat(&self.fd)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Calls `each` with the entries of a folder of it, not in any order, until that breaks off.
    pub(crate) fn list(&self, folder: &str, mut each: impl FnMut(&str) -> ControlFlow<()>) -> io::Result<()> {
        let fd = self.openat(folder, OFlags::RDONLY | OFlags::DIRECTORY)?;
        for entry in Dir::read_from(fd)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name != "." && name != ".." && each(name).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// When a file was last written, renamed or changed in any way, in seconds. None if it is no plain file.
    pub(crate) fn changed_s(&self, name: &str) -> Option<i64> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        is_file.then(|| (stat.st_ctime as i64).max(stat.st_mtime as i64))
    }

    /// When a file was last written, renamed or changed in any way, in nanoseconds.
    pub(crate) fn changed_ns(&self, name: &str) -> Option<i128> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec))
    }

    /// Bytes that a file takes on the disk.
    pub(crate) fn room_of(&self, name: &str) -> Option<u64> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(stat.st_blocks as u64 * 512)
    }

    /// When a file's bytes were last written, in nanoseconds, as it says.
    pub(crate) fn written_ns(&self, name: &str) -> Option<i128> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec))
    }

    /// Whether its file system is in memory.
    pub(crate) fn is_in_memory(&self) -> bool {
        const TMPFS: i64 = 0x0102_1994;
        const RAMFS: i64 = 0x8584_58f6;
        rustix::fs::fstatfs(&self.fd).is_ok_and(|fs| [TMPFS, RAMFS].contains(&fs.f_type))
    }

    /// Length of a plain file, if there is one of that name.
    pub(crate) fn file_len(&self, name: &str) -> Option<u64> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some(stat.st_size as u64)
    }

    /// Whether it has a folder of that name.
    pub(crate) fn has_folder(&self, name: &str) -> bool {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// Room on its file system.
    pub(crate) fn space(&self) -> io::Result<Space> {
        let fs = rustix::fs::fstatvfs(&self.fd)?;
        Ok(Space { total: fs.f_blocks * fs.f_frsize, available: fs.f_bavail * fs.f_frsize })
    }

    /// Fills `buffer` from `offset`. False: the file ends before that. `Caching::Drop` asks the kernel not to
    /// keep the bytes; a file system that cannot is remembered.
    pub(crate) fn read_at(&self, file: &OwnedFd, buffer: &mut [u8], offset: u64, caching: Caching) -> io::Result<bool> {
        let mut done = 0;
        while done < buffer.len() {
            let rest = &mut buffer[done..];
            let at = offset + done as u64;
            let outcome = if caching == Caching::Drop && self.dontcache.load(Ordering::Relaxed) {
                match rustix::io::preadv2(file, &mut [IoSliceMut::new(rest)], at, DONTCACHE) {
                    Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                        self.dontcache.store(false, Ordering::Relaxed);
                        continue;
                    }
                    outcome => outcome,
                }
            } else {
                rustix::io::pread(file, rest, at)
            };
            match outcome {
                Ok(0) => return Ok(false),
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }
}

/// Fills `buffer` from `offset` by what lies in the page cache, and waits for nothing. False: not all of it does, or this
/// kernel or file system cannot tell.
pub(crate) fn read_cached(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> bool {
    let mut done = 0;
    while done < buffer.len() {
        let rest = &mut [IoSliceMut::new(&mut buffer[done..])];
        match rustix::io::preadv2(file, rest, offset + done as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) => return false,
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            // Most often AGAIN. Whatever else it is, the read that may wait will meet it too.
            Err(_) => return false,
        }
    }
    true
}

/// Takes the directory's lock without waiting for a store that has it. False: another process, or another store of this
/// one, holds it. Whoever asks [`is_locked`] has it for a moment: hence a second try.
pub(crate) fn lock(file: &OwnedFd) -> io::Result<bool> {
    if try_lock(file, FlockOperation::NonBlockingLockExclusive)? {
        return Ok(true);
    }
    thread::sleep(LOCK_PAUSE);
    try_lock(file, FlockOperation::NonBlockingLockExclusive)
}

/// Whether a store holds the directory's lock.
pub(crate) fn is_locked(file: &OwnedFd) -> io::Result<bool> {
    let is_free = try_lock(file, FlockOperation::NonBlockingLockShared)?;
    if is_free {
        unlock(file);
    }
    Ok(!is_free)
}

fn try_lock(file: &OwnedFd, how: FlockOperation) -> io::Result<bool> {
    match rustix::fs::flock(file, how) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Gives the lock back.
pub(crate) fn unlock(file: &OwnedFd) {
    // Fails for no descriptor that holds a lock; and the close of the file gives it back as well.
    let _ = rustix::fs::flock(file, FlockOperation::Unlock);
}

/// Writes all of `parts`, one after the other, from `offset`.
pub(crate) fn write_all_at<'a>(
    file: &OwnedFd,
    parts: impl IntoIterator<Item = &'a [u8]>,
    mut offset: u64,
) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.into_iter().filter(|part| !part.is_empty()).map(IoSlice::new).collect();
    #[cfg(test)]
    {
        let parts: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
        journal::on_file(file, |file| journal::written(file, offset, &parts));
    }
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let now = rest.len().min(MAX_SLICES);
        match rustix::io::pwritev(file, &rest[..now], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Gives the room of a range back; it reads as zeros from then on. For large contents only `evict` calls it, under a kernel
/// lease; for packs only `writer/holes`, when nobody reads there.
pub(crate) fn punch(file: &OwnedFd, offset: u64, len: u64) -> io::Result<()> {
    rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)?;
    #[cfg(test)]
    journal::on_file(file, |file| journal::Step::Punch { file, offset, len });
    Ok(())
}

/// Cuts a file.
pub(crate) fn truncate(file: &OwnedFd, len: u64) -> io::Result<()> {
    rustix::fs::ftruncate(file, len)?;
    #[cfg(test)]
    journal::on_file(file, |file| journal::Step::Truncate { file, len });
    Ok(())
}

/// Lets a file say that it was written this moment. The kernel's own times are of its last tick.
pub(crate) fn touch(file: &OwnedFd) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let now = Timespec { tv_sec: now.as_secs() as i64, tv_nsec: now.subsec_nanos().into() };
    let times = Timestamps { last_access: now, last_modification: now };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// Writes a file's bytes to the disk.
pub(crate) fn sync_data(file: &OwnedFd) -> io::Result<()> {
    rustix::fs::fdatasync(file)?;
    #[cfg(test)]
    journal::on_file(file, |file| journal::Step::Sync { file });
    Ok(())
}

/// Whether no name is left for an open file or directory.
pub(crate) fn is_unlinked(file: impl AsFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink == 0)
}

/// Whether an error says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StorageFull
        || matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}
