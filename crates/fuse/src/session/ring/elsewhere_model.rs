//! `elsewhere` under loom: a thread that sleeps while others answer. The file is compiled a second time here, of loom's parts.
//! A wake-up that is lost leaves the thread asleep for ever, which loom notices as a deadlock.

use loom::sync::{Arc, Condvar};
use loom::thread;

use elsewhere::Elsewhere;

#[allow(clippy::duplicate_mod, reason = "the same file of other parts")]
#[path = "elsewhere.rs"]
mod elsewhere;

/// `super::sync`, as far as `elsewhere` uses it.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};

    #[derive(Debug)]
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    #[expect(clippy::unwrap_used, reason = "a model fails by panicking")]
    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}

/// A queue, with an event of the kernel's to wait for.
struct World {
    elsewhere: Elsewhere<u8>,
    event: loom::sync::Mutex<bool>,
    happened: Condvar,
}

#[expect(clippy::unwrap_used, reason = "a model fails by panicking")]
impl World {
    fn new() -> Arc<Self> {
        let (event, happened) = (loom::sync::Mutex::new(false), Condvar::new());
        Arc::new(Self { elsewhere: Elsewhere::new(2), event, happened })
    }

    fn answer(&self, answer: u8) {
        if self.elsewhere.put(answer) {
            *self.event.lock().unwrap() = true;
            self.happened.notify_one();
        }
    }

    /// As the queue's thread goes on until it has so many answers; `falls_asleep` is how it says that it will sleep.
    fn take(&self, wanted: usize, falls_asleep: impl Fn(&Self)) -> Vec<u8> {
        let mut taken = Vec::new();
        loop {
            taken.extend(self.elsewhere.take());
            if taken.len() == wanted {
                return taken;
            }
            falls_asleep(self);
            let last = self.elsewhere.take();
            if last.is_empty() {
                let mut event = self.event.lock().unwrap();
                while !*event {
                    event = self.happened.wait(event).unwrap();
                }
                *event = false;
            }
            taken.extend(last);
            self.elsewhere.wakes_up();
        }
    }

    /// Two others answer while the queue's thread takes.
    fn run(falls_asleep: impl Fn(&Self)) {
        let world = Self::new();
        let answers = [1, 2].map(|answer| {
            let world = world.clone();
            thread::spawn(move || world.answer(answer))
        });
        let mut taken = world.take(2, falls_asleep);
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
        answers.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Tries all orders in which threads are interrupted up to three times, which finds nearly all there is to find; `LOOM_MAX_PREEMPTIONS` is
/// another bound.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(model);
}

#[test]
fn no_answer_is_slept_over() {
    check(|| World::run(|world| world.elsewhere.falls_asleep()));
}

/// The model finds what it is there for: a thread that does not say that it sleeps.
#[test]
#[should_panic(expected = "deadlock")]
fn a_thread_that_is_not_woken_is_found() {
    check(|| World::run(|_| {}));
}
