//! Whether what was written has reached the disk: a failed write-back is told to whoever asks, once, and to nobody else.
//! The kernel then drops the bytes that were read and verified from its memory, and the disk has others.
//!
//! Always true: of what was written in windows of [`WINDOW`], write-back is begun when the window is full, and waited for
//! when [`LAG`] more was written since: on a disk that keeps up nothing waits. What is left is waited for at the end.
#![expect(unsafe_code, reason = "no crate wraps sync_file_range")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use libc::c_uint;

use crate::large::Large;
use crate::pack::Pack;

/// Bytes of one file written before their write-back is begun.
const WINDOW: u64 = 8 << 20;
/// Bytes whose write-back was begun and is not waited for.
const LAG: u64 = 128 << 20;
/// Windows that are being filled or under way: each holds its file open.
const MAX_WINDOWS: usize = 16;

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
#[derive(Debug, Default)]
pub(crate) struct Writeback {
    filling: Vec<Window>,
    begun: VecDeque<Window>,
    begun_bytes: u64,
}

/// A write-back that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) target: Target,
    pub(crate) error: io::Error,
}

impl Writeback {
    /// Bytes were written.
    pub(crate) fn wrote(&mut self, target: &Target, file: &Arc<OwnedFd>, start: u64, len: u64) -> Result<(), Failed> {
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
                    self.begin(0)?;
                }
                let (target, file) = (target.clone(), Arc::clone(file));
                self.filling.push(Window { target, file, start, end, bytes: len });
                self.filling.len() - 1
            }
        };
        if self.filling[at].bytes >= WINDOW {
            self.begin(at)?;
        }
        while self.begun_bytes > LAG || self.begun.len() > MAX_WINDOWS {
            self.settle_oldest()?;
        }
        Ok(())
    }

    /// Waits for all, until `until` comes.
    pub(crate) fn settle(&mut self, until: Instant) -> Result<(), Failed> {
        while !self.filling.is_empty() {
            self.begin(0)?;
        }
        while !self.begun.is_empty() && Instant::now() < until {
            self.settle_oldest()?;
        }
        Ok(())
    }

    /// Nothing is of interest any more.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn begin(&mut self, at: usize) -> Result<(), Failed> {
        let window = self.filling.remove(at);
        if let Err(error) = window.sync(libc::SYNC_FILE_RANGE_WRITE) {
            return Err(Failed { target: window.target, error });
        }
        self.begun_bytes += window.bytes;
        self.begun.push_back(window);
        Ok(())
    }

    fn settle_oldest(&mut self) -> Result<(), Failed> {
        let Some(window) = self.begun.pop_front() else { return Ok(()) };
        self.begun_bytes -= window.bytes;
        // Its bytes may be gone meanwhile: then there is nothing to wait for.
        let outcome = if window.target.is_gone() { Ok(()) } else { window.sync(libc::SYNC_FILE_RANGE_WAIT_BEFORE) };
        outcome.map_err(|error| Failed { target: window.target, error })
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

    fn target() -> Target {
        Target::Large(Arc::new(Large::new((ContentId::from_u128(1), WINDOW, 0), 0, 0, Arc::default())))
    }

    #[test]
    fn a_failure_is_told_with_whose_bytes_they_were() {
        // The call fails for a pipe.
        let (_read, write) = std::io::pipe().unwrap();
        let (file, target) = (Arc::new(OwnedFd::from(write)), target());
        let mut writeback = Writeback::default();
        writeback.wrote(&target, &file, 0, WINDOW / 2).unwrap();
        let failed = writeback.wrote(&target, &file, WINDOW / 2, WINDOW / 2).unwrap_err();
        assert_eq!(failed.error.raw_os_error(), Some(libc::ESPIPE));
        let (Target::Large(of), Target::Large(is)) = (&failed.target, &target) else { panic!("a large content") };
        assert!(Arc::ptr_eq(of, is));
    }

    #[test]
    fn windows_are_bounded_and_end() {
        let mut writeback = Writeback::default();
        let target = target();
        for _ in 0..3 * MAX_WINDOWS {
            let file = Arc::new(OwnedFd::from(tempfile::tempfile().unwrap()));
            crate::device::write_all_at(&file, [&[1; 4096][..]], 0).unwrap();
            writeback.wrote(&target, &file, 0, 4096).unwrap();
            assert!(writeback.filling.len() <= MAX_WINDOWS && writeback.begun.len() <= MAX_WINDOWS);
        }
        writeback.settle(Instant::now() + Duration::from_secs(60)).unwrap();
        assert!(writeback.filling.is_empty() && writeback.begun.is_empty() && writeback.begun_bytes == 0);
    }
}
