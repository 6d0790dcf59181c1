//! Open files, bounded in number.
//!
//! Always true: this process has at most one open file description of each file of the store in each slot of it, beside
//! those that it handed out. The kernel's write lease depends on it: of a large content's two slots one is barred while the
//! lease is asked for. A slot therefore remembers its file weakly even when the cache has let go of it, and takes it up
//! again while a reader still holds it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

/// The place of one file's descriptor.
#[derive(Debug, Default)]
pub(crate) struct FileSlot {
    state: RwLock<SlotState>,
    used: AtomicBool,
}

#[derive(Debug, Default)]
struct SlotState {
    strong: Option<Arc<OwnedFd>>,
    weak: Weak<OwnedFd>,
    barred: bool,
}

/// Keeps a slot closed for new readers.
#[derive(Debug)]
pub(crate) struct Barred<'a>(&'a FileSlot);

impl Drop for Barred<'_> {
    fn drop(&mut self) {
        self.0.state.write().barred = false;
    }
}

/// Bounds how many slots hold their file open. Evicts by second chance.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    ring: Mutex<VecDeque<Weak<FileSlot>>>,
    max: usize,
}

impl FileSlot {
    /// A slot that holds `file`, which the caller has just made.
    pub(crate) fn holding(file: OwnedFd, files: &OpenFiles) -> Arc<Self> {
        let slot = Arc::new(Self::default());
        slot.state.write().set(Arc::new(file));
        files.admit(&slot);
        slot
    }

    /// The file, opened by `open` if this process does not have it open.
    pub(crate) fn get(
        self: &Arc<Self>,
        files: &OpenFiles,
        open: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> io::Result<Arc<OwnedFd>> {
        // Only a slot that is used by the other call is ever barred.
        self.get_unless_barred(files, open)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// The file, if it is open and nobody is about to change that.
    pub(crate) fn opened(&self) -> Option<Arc<OwnedFd>> {
        let file = self.state.try_read()?.strong.clone();
        self.mark_used();
        file
    }

    /// The file, opened by `open` if this process does not have it open; none while the slot is barred.
    pub(crate) fn get_unless_barred(
        self: &Arc<Self>,
        files: &OpenFiles,
        open: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> io::Result<Option<Arc<OwnedFd>>> {
        if let Some(file) = &self.state.read().strong {
            self.mark_used();
            return Ok(Some(Arc::clone(file)));
        }
        let file = {
            let mut state = self.state.write();
            if state.barred {
                return Ok(None);
            }
            if let Some(file) = &state.strong {
                return Ok(Some(Arc::clone(file)));
            }
            let file = match state.weak.upgrade() {
                Some(file) => file,
                None => Arc::new(open()?),
            };
            state.set(Arc::clone(&file));
            file
        };
        files.admit(self);
        Ok(Some(file))
    }

    /// Closes it for new readers; it is closed to the kernel when the last reader has finished.
    pub(crate) fn bar(&self) -> Barred<'_> {
        let mut state = self.state.write();
        state.strong = None;
        state.barred = true;
        Barred(self)
    }

    /// Lets go of the file; it is closed when the last reader has finished.
    pub(crate) fn close(&self) {
        self.state.write().strong = None;
    }

    /// Puts another file in its place, for tests.
    #[cfg(test)]
    pub(crate) fn replace(&self, file: Arc<OwnedFd>) -> Option<Arc<OwnedFd>> {
        let mut state = self.state.write();
        let old = state.strong.take();
        state.set(file);
        old
    }

    fn mark_used(&self) {
        // Read first: a store to a shared line on every read would not scale.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

impl SlotState {
    fn set(&mut self, file: Arc<OwnedFd>) {
        self.weak = Arc::downgrade(&file);
        self.strong = Some(file);
    }
}

impl OpenFiles {
    pub(crate) fn new(max: usize) -> Self {
        Self { ring: Mutex::new(VecDeque::new()), max: max.max(1) }
    }

    /// Counts a slot that has just been filled, and closes others above the limit.
    fn admit(&self, slot: &Arc<FileSlot>) {
        let mut ring = self.ring.lock();
        ring.push_back(Arc::downgrade(slot));
        // Twice around at most: the first round takes away every second chance.
        let mut chances = 2 * ring.len();
        while ring.len() > self.max && chances > 0 {
            chances -= 1;
            let Some(oldest) = ring.pop_front() else { break };
            let Some(candidate) = oldest.upgrade() else { continue };
            if candidate.used.swap(false, Ordering::Relaxed) {
                ring.push_back(oldest);
                continue;
            }
            // Somebody is opening it at this moment: it is in use.
            match candidate.state.try_write() {
                Some(mut state) => state.strong = None,
                None => ring.push_back(oldest),
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs::File;

    use super::*;

    fn open() -> io::Result<OwnedFd> {
        File::open("/dev/null").map(OwnedFd::from)
    }

    #[test]
    fn holds_no_more_than_its_limit_and_never_opens_twice() {
        let files = OpenFiles::new(2);
        let slots: Vec<_> = (0..5).map(|_| Arc::new(FileSlot::default())).collect();
        let first = slots[0].get(&files, open).unwrap();
        for slot in &slots[1..] {
            slot.get(&files, open).unwrap();
        }
        assert!(slots.iter().filter(|slot| slot.state.read().strong.is_some()).count() <= 2);
        let again = slots[0].get(&files, || panic!("a reader still holds it")).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
    }

    #[test]
    fn a_barred_slot_stays_closed() {
        let files = OpenFiles::new(2);
        let slot = Arc::new(FileSlot::default());
        let file = Arc::downgrade(&slot.get(&files, open).unwrap());
        let barred = slot.bar();
        assert!(file.upgrade().is_none(), "closed");
        assert!(slot.get_unless_barred(&files, || panic!("it is barred")).unwrap().is_none());
        drop(barred);
        assert!(slot.get_unless_barred(&files, open).unwrap().is_some());
    }
}
