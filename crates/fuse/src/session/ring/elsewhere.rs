//! Answers that other threads have given, for a queue's thread that may be asleep.
//!
//! Always true: an answer that is put in is taken out by the thread before it sleeps, or whoever put it in is told to wake
//! the thread. `elsewhere_model` tries every order of steps, and every order in which memory may show them to another core.

use super::sync::{AtomicBool, Mutex, Ordering};

/// Answers that wait for the queue's thread. Each of a queue's entries has one at most.
#[derive(Debug)]
pub(super) struct Elsewhere<T> {
    answers: Mutex<Vec<T>>,
    /// Whether the thread sleeps, or is about to, without a look at `answers` after this.
    is_asleep: AtomicBool,
}

impl<T> Elsewhere<T> {
    /// Room for `entries` answers.
    pub(super) fn new(entries: u16) -> Self {
        Self { answers: Mutex::new(Vec::with_capacity(usize::from(entries))), is_asleep: AtomicBool::new(false) }
    }

    /// Puts an answer in. True: the thread is to be woken, and nobody else does.
    #[must_use]
    pub(super) fn put(&self, answer: T) -> bool {
        self.answers.lock().push(answer);
        // The thread says that it sleeps before it looks for the last time.
        self.is_asleep.swap(false, Ordering::SeqCst)
    }

    /// The answers so far. By the thread.
    pub(super) fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.answers.lock())
    }

    /// The thread sleeps after one more look: it is woken for what comes from now on.
    pub(super) fn falls_asleep(&self) {
        // Exchanged where a store would do, for the same price: loom does not know that nothing comes between the two halves of
        // an exchange by another thread, and takes this for older than it.
        self.is_asleep.swap(true, Ordering::SeqCst);
    }

    /// The thread looks by itself again.
    pub(super) fn wakes_up(&self) {
        self.is_asleep.swap(false, Ordering::SeqCst);
    }
}
