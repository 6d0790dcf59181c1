//! The thread that waits for the disk, one for a directory.
//!
//! Always true: windows are begun and waited for in the order in which they came, [`DEPTH`] at once, so that the disk always has work. Of
//! failures the first is kept until it is asked for. The thread begins with the first window; it ends, after the call to the
//! kernel that it is in, when its [`Flusher`] is told to or goes, which waits for that: no file is open then, but on a disk that hangs.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Failed, Window};
use crate::read::Caching;

/// Windows whose write-back was begun before the oldest of them is waited for.
const DEPTH: usize = 4;
/// For how long the thread's end is waited for.
const END_TIME: Duration = Duration::from_secs(3);

/// The writer's end.
#[derive(Debug)]
pub(super) struct Flusher {
    shared: Arc<Shared>,
    has_thread: bool,
}

struct Shared {
    state: Mutex<State>,
    /// A window came, or there will be none.
    work: Condvar,
    /// A window is done with, or the thread has ended.
    done: Condvar,
    caching: Caching,
    tell: Box<dyn Fn() + Send + Sync>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Window>,
    /// Of those that came and are not done with.
    windows: usize,
    bytes: u64,
    failed: Option<Failed>,
    is_over: bool,
    has_ended: bool,
}

impl Flusher {
    pub(super) fn new(caching: Caching, tell: Box<dyn Fn() + Send + Sync>) -> Self {
        let (state, work, done) = (Mutex::default(), Condvar::new(), Condvar::new());
        Self { shared: Arc::new(Shared { state, work, done, caching, tell }), has_thread: false }
    }

    pub(super) fn push(&mut self, window: Window) {
        let mut state = self.shared.state.lock();
        state.windows += 1;
        state.bytes += window.bytes;
        state.waiting.push_back(window);
        drop(state);
        if !self.has_thread {
            let shared = Arc::clone(&self.shared);
            let started = thread::Builder::new().name("fb-store-flush".to_owned()).spawn(move || {
                shared.run();
                shared.state.lock().has_ended = true;
                shared.done.notify_all();
            });
            match started {
                Ok(_) => self.has_thread = true,
                Err(error) => {
                    tracing::debug!(%error, "no thread to wait for the disk: the writer waits itself");
                    self.shared.work_off();
                }
            }
        }
        self.shared.work.notify_one();
    }

    /// Waits until no more than so many windows and bytes are on their way, one failed, or `until` comes.
    pub(super) fn wait(&self, bytes: u64, windows: usize, until: Option<Instant>) {
        let mut state = self.shared.state.lock();
        while (state.bytes > bytes || state.windows > windows) && state.failed.is_none() {
            match until {
                None => self.shared.done.wait(&mut state),
                Some(until) if self.shared.done.wait_until(&mut state, until).timed_out() => return,
                Some(_) => {}
            }
        }
    }

    pub(super) fn failed(&self) -> Option<Failed> {
        self.shared.state.lock().failed.take()
    }

    /// What has not been begun is not.
    pub(super) fn clear(&self) {
        let mut state = self.shared.state.lock();
        for window in std::mem::take(&mut state.waiting) {
            state.windows -= 1;
            state.bytes -= window.bytes;
        }
        state.failed = None;
    }

    /// Ends the thread: nothing is begun any more. Waits for it, [`END_TIME`] at most.
    pub(super) fn end(&mut self) {
        self.clear();
        let mut state = self.shared.state.lock();
        state.is_over = true;
        self.shared.work.notify_one();
        let until = Instant::now() + END_TIME;
        // Once: on a disk that hangs the second would be in vain too.
        while std::mem::take(&mut self.has_thread) && !state.has_ended {
            self.has_thread = !self.shared.done.wait_until(&mut state, until).timed_out();
        }
    }

    /// Windows and bytes that came and are not done with.
    #[cfg(test)]
    pub(super) fn on_their_way(&self) -> (usize, u64) {
        let state = self.shared.state.lock();
        (state.windows, state.bytes)
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    /// The thread.
    fn run(&self) {
        let mut begun = VecDeque::new();
        loop {
            let next = {
                let mut state = self.state.lock();
                while state.waiting.is_empty() && begun.is_empty() && !state.is_over {
                    self.work.wait(&mut state);
                }
                if state.is_over {
                    return;
                }
                state.waiting.pop_front()
            };
            self.step(&mut begun, next);
        }
    }

    /// The same in the caller's thread, for what waits now.
    fn work_off(&self) {
        let mut begun = VecDeque::new();
        loop {
            let next = self.state.lock().waiting.pop_front();
            if next.is_none() && begun.is_empty() {
                return;
            }
            self.step(&mut begun, next);
        }
    }

    /// Begins a window; waits for the oldest one if there is none to begin, or enough are begun.
    fn step(&self, begun: &mut VecDeque<Window>, next: Option<Window>) {
        let is_next = next.is_some();
        if let Some(window) = next {
            match window.sync(libc::SYNC_FILE_RANGE_WRITE) {
                Ok(()) => begun.push_back(window),
                Err(error) => self.end(window, Err(error)),
            }
        }
        if (!is_next || begun.len() > DEPTH)
            && let Some(window) = begun.pop_front()
        {
            // Its bytes may be gone meanwhile: then there is nothing to wait for.
            let reached = if window.target.is_gone() { Ok(()) } else { window.sync(libc::SYNC_FILE_RANGE_WAIT_BEFORE) };
            if reached.is_ok() && self.caching == Caching::Drop {
                window.drop_pages();
            }
            self.end(window, reached);
        }
    }

    fn end(&self, window: Window, reached: io::Result<()>) {
        let (bytes, has_failed) = (window.bytes, reached.is_err());
        // The file is let go of before anybody is told that nothing more is on its way.
        let failed = reached.err().map(|error| Failed { target: window.target.clone(), error });
        drop(window);
        let mut state = self.state.lock();
        state.windows -= 1;
        state.bytes -= bytes;
        if state.failed.is_none() {
            state.failed = failed;
        }
        drop(state);
        self.done.notify_all();
        if has_failed {
            (self.tell)();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}
