//! `residency` under loom: every order of the steps of a writer, readers and an evictor, and every order in which memory may show
//! them to another core. The file is compiled a second time here, of loom's parts.
//!
//! A page's bytes are a cell that loom watches: reading it while another thread changes it, or without having seen that it
//! was written, is an error by itself; a hole that is read is found by its value.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use residency::{Pages, Residency};

#[allow(dead_code, clippy::duplicate_mod, reason = "the same file of other parts; the model has no use for recovery")]
#[path = "residency.rs"]
mod residency;

/// `crate::sync`, as far as `residency` uses it.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    pub(super) type Reading<'a> = loom::sync::RwLockReadGuard<'a, ()>;

    #[derive(Debug)]
    pub(super) struct Gate(loom::sync::RwLock<()>);

    #[expect(clippy::unwrap_used, reason = "a model fails by panicking")]
    impl Gate {
        pub(super) fn new() -> Self {
            Self(loom::sync::RwLock::new(()))
        }

        pub(super) fn read(&self) -> Reading<'_> {
            self.0.read().unwrap()
        }

        pub(super) fn try_read(&self) -> Option<Reading<'_>> {
            self.0.try_read().ok()
        }

        pub(super) fn pass(&self) {
            drop(self.0.write().unwrap());
        }
    }
}

const PAGE: u64 = 1 << 3;
const OTHER: u64 = 1 << 5;
/// What a page holds; a hole holds nothing.
const BYTES: u64 = 7;

/// A content of one extent, and the bytes of its page.
struct World {
    pages: Pages,
    extent: Residency,
    bytes: UnsafeCell<u64>,
}

// SAFETY: the cell is used by `get` and `set` alone, and loom stops the model if two threads do so at once.
#[expect(unsafe_code, reason = "loom's cell is to be shared: it watches that")]
unsafe impl Sync for World {}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self { pages: Pages::new(), extent: Residency::new(), bytes: UnsafeCell::new(0) })
    }

    /// As the writer of a directory fills a page.
    fn write(&self) {
        self.extent.begin(PAGE);
        self.set(BYTES);
        self.pages.publish(&self.extent, PAGE);
    }

    /// As a page is read; none if it is not here.
    fn read(&self) -> Option<u64> {
        let _reading = self.pages.reading();
        (self.extent.resident() & PAGE != 0).then(|| self.get())
    }

    /// As an extent is evicted.
    fn punch(&self) {
        self.pages.withdraw_all(&self.extent);
        self.pages.pass();
        self.set(0);
    }

    #[expect(unsafe_code, reason = "loom's cell is reached by pointers, and watched")]
    fn get(&self) -> u64 {
        // SAFETY: loom stops the model if anybody changes it meanwhile.
        self.bytes.with(|bytes| unsafe { *bytes })
    }

    #[expect(unsafe_code, reason = "loom's cell is reached by pointers, and watched")]
    fn set(&self, value: u64) {
        // SAFETY: loom stops the model if anybody uses it meanwhile.
        self.bytes.with_mut(|bytes| unsafe { *bytes = value });
    }
}

#[expect(clippy::unwrap_used, reason = "a model fails by panicking")]
fn at_once(steps: impl IntoIterator<Item = Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = steps.into_iter().map(|step| thread::spawn(step)).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn step(world: &Arc<World>, step: impl FnOnce(&World) + Send + 'static) -> Box<dyn FnOnce() + Send> {
    let world = world.clone();
    Box::new(move || step(&world))
}

/// Tries all orders in which threads are interrupted up to three times, which finds nearly all there is to find; `LOOM_MAX_PREEMPTIONS` is
/// another bound.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(model);
}

#[test]
fn nobody_reads_a_hole() {
    check(|| {
        let world = World::new();
        world.write();
        let read = |world: &World| assert_ne!(world.read(), Some(0), "a hole was read");
        at_once([step(&world, read), step(&world, read), step(&world, World::punch)]);
        assert_eq!((world.extent.resident(), world.pages.resident()), (0, 0));
    });
}

#[test]
fn who_sees_a_page_sees_its_bytes() {
    check(|| {
        let world = World::new();
        let read =
            |world: &World| assert!(world.read().is_none_or(|bytes| bytes == BYTES), "bytes that were not written");
        // Written, evicted and read at once; the writer evicts, as there is one for a directory.
        let write = |world: &World| {
            world.write();
            world.punch();
        };
        at_once([step(&world, read), step(&world, write)]);
    });
}

#[test]
fn what_is_counted_is_what_is_there() {
    check(|| {
        let world = World::new();
        world.pages.publish(&world.extent, PAGE);
        world.pages.publish(&world.extent, OTHER);
        // Two readers find the same page damaged while its extent is evicted.
        let damaged = |world: &World| {
            world.pages.withdraw(&world.extent, PAGE);
        };
        at_once([
            step(&world, damaged),
            step(&world, damaged),
            step(&world, |world| world.pages.withdraw_all(&world.extent)),
        ]);
        assert_eq!((world.extent.resident(), world.pages.resident()), (0, 0));
    });
}

#[test]
fn a_page_that_is_here_is_verified() {
    check(|| {
        let world = World::new();
        let look = |world: &World| {
            let resident = world.extent.resident();
            assert_eq!(resident & !world.extent.verified(), 0, "a page is here that was never compared");
        };
        at_once([step(&world, look), step(&world, World::write)]);
    });
}

/// The model finds what it is there for: an evictor that does not pass the gate.
#[test]
#[should_panic(expected = "Causality violation")]
fn an_evictor_that_does_not_wait_is_found() {
    check(|| {
        let world = World::new();
        world.write();
        let hasty = |world: &World| {
            world.pages.withdraw_all(&world.extent);
            world.set(0);
        };
        let read = |world: &World| {
            world.read();
        };
        at_once([step(&world, read), step(&world, hasty)]);
    });
}
