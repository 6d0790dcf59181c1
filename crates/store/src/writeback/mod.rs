//! Whether what was written has reached the disk: a failed write-back is told to whoever asks, once, and to nobody else.
//! The kernel then drops the bytes that were read and verified from its memory, and the disk has others.
//!
//! Always true: what was written in windows of [`WINDOW`] is given to a thread when the window is full, or when nothing more is
//! written for a while. The thread begins its write-back and waits for it, so that a failure is known as soon as the disk tells; the writer
//! waits only while [`LAG`] is on its way, or one failed. Where fills are not to stay in the page cache ([`Caching::Drop`]) a window's pages
//! are dropped then.
#![expect(unsafe_code, reason = "no crate wraps sync_file_range")]

mod flusher;

use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use libc::c_uint;
use rustix::fs::Advice;

use crate::large::Large;
use crate::pack::Pack;
use crate::past_cache::ALIGN;
use crate::read::Caching;

use flusher::Flusher;

/// Bytes of one file written before their write-back is begun.
const WINDOW: u64 = 8 << 20;
/// Bytes that are on their way to the disk, at most.
const LAG: u64 = 256 << 20;
/// Windows that are being filled, and windows on their way: each holds its file open.
const MAX_WINDOWS: usize = 32;

/// What a window's bytes belong to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Pack(Arc<Pack>),
    Large(Arc<Large>),
}

/// Bytes of one file.
#[derive(Debug)]
struct Window {
    target: Target,
    file: Arc<OwnedFd>,
    start: u64,
    end: u64,
    bytes: u64,
}

/// The windows of one directory.
#[derive(Debug)]
pub(crate) struct Writeback {
    filling: Vec<Window>,
    flusher: Flusher,
}

/// A write-back that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) target: Target,
    pub(crate) error: io::Error,
}

impl Writeback {
    /// `caching` is what the page cache is to do with what has reached the disk. `tell` is called for a failure that
    /// [`Self::failed`] gives.
    pub(crate) fn new(caching: Caching, tell: impl Fn() + Send + Sync + 'static) -> Self {
        Self { filling: Vec::new(), flusher: Flusher::new(caching, Box::new(tell)) }
    }

    /// Bytes were written. Waits while too many are on their way to the disk.
    pub(crate) fn wrote(&mut self, target: &Target, file: &Arc<OwnedFd>, start: u64, len: u64) {
        let end = start + len;
        let at = match self.filling.iter().position(|window| Arc::ptr_eq(&window.file, file)) {
            Some(at) => {
                let window = &mut self.filling[at];
                (window.start, window.end) = (window.start.min(start), window.end.max(end));
                window.bytes += len;
                at
            }
            None => {
                if self.filling.len() >= MAX_WINDOWS {
                    self.begin(0);
                }
                let (target, file) = (target.clone(), Arc::clone(file));
                self.filling.push(Window { target, file, start, end, bytes: len });
                self.filling.len() - 1
            }
        };
        if self.filling[at].bytes >= WINDOW {
            self.begin(at);
        }
    }

    /// Sends everything on its way to the disk.
    pub(crate) fn begin_all(&mut self) {
        while !self.filling.is_empty() {
            self.begin(0);
        }
    }

    /// The first failure that nobody has asked for yet.
    pub(crate) fn failed(&mut self) -> Option<Failed> {
        self.flusher.failed()
    }

    /// Waits until all has reached the disk, one failed, or `until` comes.
    pub(crate) fn settle(&mut self, until: Instant) -> Result<(), Failed> {
        self.begin_all();
        self.flusher.wait(0, 0, Some(until));
        self.failed().map_or(Ok(()), Err)
    }

    /// Nothing is written any more: lets go of all files.
    pub(crate) fn end(&mut self) {
        self.filling.clear();
        self.flusher.end();
    }

    /// Nothing is of interest any more.
    pub(crate) fn clear(&mut self) {
        self.filling.clear();
        self.flusher.clear();
    }

    fn begin(&mut self, at: usize) {
        let window = self.filling.remove(at);
        self.flusher.push(window);
        self.flusher.wait(LAG, MAX_WINDOWS, None);
    }
}

impl Target {
    fn is_gone(&self) -> bool {
        use std::sync::atomic::Ordering::Acquire;
        match self {
            Self::Pack(pack) => pack.gone.load(Acquire),
            Self::Large(large) => large.gone.load(Acquire),
        }
    }
}

impl Window {
    /// Lets the page cache go of what it holds of the window. It is advice: where it is not taken the pages go when others need
    /// the room.
    fn drop_pages(&self) {
        let start = self.start - self.start % ALIGN as u64;
        let len = NonZeroU64::new(self.end - start);
        let _ = rustix::fs::fadvise(&self.file, start, len, Advice::DontNeed);
    }

    fn sync(&self, flags: c_uint) -> io::Result<()> {
        let (start, len) = (self.start as i64, (self.end - self.start) as i64);
        // SAFETY: the call takes integers and touches no memory of this process; the descriptor is open, for the window
        // owns it.
        match unsafe { libc::sync_file_range(self.file.as_raw_fd(), start, len, flags) } {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                // A file system that cannot tell.
                error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL)) => Ok(()),
                error => Err(error),
            },
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use forebay_model::ContentId;

    use super::*;
    use crate::past_cache::cached_pages;

    fn target() -> Target {
        Target::Large(Arc::new(Large::new((ContentId::from_u128(1), WINDOW, 0), 0, 0, Arc::default())))
    }

    #[test]
    fn a_failure_is_told_with_whose_bytes_they_were() {
        // The call fails for a pipe.
        let (_read, write) = std::io::pipe().unwrap();
        let (file, target) = (Arc::new(OwnedFd::from(write)), target());
        let (tell, told) = std::sync::mpsc::channel();
        let mut writeback = Writeback::new(Caching::Keep, move || {
            let _ = tell.send(());
        });
        writeback.wrote(&target, &file, 0, WINDOW / 2);
        assert!(told.try_recv().is_err() && writeback.failed().is_none());
        writeback.wrote(&target, &file, WINDOW / 2, WINDOW / 2);
        // Told without anybody's asking.
        told.recv_timeout(Duration::from_secs(60)).unwrap();
        let failed = writeback.failed().unwrap();
        assert!(writeback.failed().is_none());
        assert_eq!(failed.error.raw_os_error(), Some(libc::ESPIPE));
        let (Target::Large(of), Target::Large(is)) = (&failed.target, &target) else { panic!("a large content") };
        assert!(Arc::ptr_eq(of, is));
    }

    #[test]
    fn what_has_reached_the_disk_leaves_the_page_cache_if_it_is_not_to_stay() {
        for (caching, left) in [(Caching::Keep, 256), (Caching::Drop, 0)] {
            let file = Arc::new(OwnedFd::from(tempfile::tempfile().unwrap()));
            let mut writeback = Writeback::new(caching, || ());
            // Parts that begin and end within a page of the page cache.
            for start in (0..1 << 20).step_by(100_000) {
                let len = 100_000.min((1 << 20) - start);
                crate::device::write_all_at(&file, [&vec![1; len as usize][..]], start).unwrap();
                writeback.wrote(&target(), &file, start, len);
            }
            assert_eq!(cached_pages(&file, 0, 1 << 20).unwrap(), 256);
            writeback.settle(Instant::now() + Duration::from_secs(60)).unwrap();
            assert_eq!(cached_pages(&file, 0, 1 << 20).unwrap(), left, "{caching:?}");
        }
    }

    #[test]
    fn no_file_is_open_when_all_has_reached_the_disk_or_nothing_more_is_to() {
        let target = target();
        for round in 0..200 {
            let file = Arc::new(OwnedFd::from(tempfile::tempfile().unwrap()));
            crate::device::write_all_at(&file, [&[1; 4096][..]], 0).unwrap();
            let mut writeback = Writeback::new(Caching::Keep, || ());
            writeback.wrote(&target, &file, 0, 4096);
            if round % 2 == 0 {
                writeback.settle(Instant::now() + Duration::from_secs(60)).unwrap();
                assert_eq!(Arc::strong_count(&file), 1, "round {round}");
            } else {
                writeback.begin_all();
                drop(writeback);
                assert_eq!(Arc::strong_count(&file), 1, "round {round}");
            }
        }
    }

    #[test]
    fn windows_are_bounded_and_end() {
        let mut writeback = Writeback::new(Caching::Keep, || ());
        let target = target();
        for _ in 0..3 * MAX_WINDOWS {
            let file = Arc::new(OwnedFd::from(tempfile::tempfile().unwrap()));
            crate::device::write_all_at(&file, [&[1; 4096][..]], 0).unwrap();
            writeback.wrote(&target, &file, 0, 4096);
            assert!(writeback.filling.len() <= MAX_WINDOWS && writeback.flusher.on_their_way().0 <= MAX_WINDOWS);
        }
        writeback.settle(Instant::now() + Duration::from_secs(60)).unwrap();
        assert!(writeback.filling.is_empty() && writeback.flusher.on_their_way() == (0, 0));
    }
}
