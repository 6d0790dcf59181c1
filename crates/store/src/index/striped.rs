//! Locks whose readers on different cores write no memory in common.
//!
//! Each value has a lock in every stripe. A reader takes the one in its thread's stripe; a writer takes all. So reading
//! costs what an ordinary lock costs on one core, and the same on many; writing costs so many times more as there are
//! stripes. Locks of one stripe stand side by side, away from those of the others.
#![expect(unsafe_code, reason = "a value is guarded by several locks, which no safe type says")]

use std::cell::{Cell, UnsafeCell};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// How many threads can read without sharing memory at best.
pub(super) const STRIPES: usize = 4;

/// Values, each with its locks.
#[derive(Debug)]
pub(super) struct Striped<T> {
    stripes: [Stripe; STRIPES],
    values: Box<[UnsafeCell<T>]>,
}

/// One lock for every value. Aligned so that no two stripes have a cache line, or a pair that is fetched together.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe(Box<[Aligned]>);

/// As many locks as a pair of cache lines holds.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Aligned([RwLock<()>; LOCKS]);

const LOCKS: usize = 16;

/// Reads one value.
pub(super) struct Reading<'a, T> {
    value: &'a T,
    _lock: RwLockReadGuard<'a, ()>,
}

/// Changes one value.
pub(super) struct Writing<'a, T> {
    value: &'a mut T,
    _locks: [RwLockWriteGuard<'a, ()>; STRIPES],
}

// SAFETY: a value is reached by `&T` under one of its locks held for reading, from several threads at once (so `T: Sync`), and by
// `&mut T` under all of them held for writing, from any thread (so `T: Send`).
unsafe impl<T: Send + Sync> Sync for Striped<T> {}

impl<T: Default> Striped<T> {
    pub(super) fn new(values: usize) -> Self {
        let stripe = || Stripe((0..values.div_ceil(LOCKS)).map(|_| Aligned::default()).collect());
        Self {
            stripes: std::array::from_fn(|_| stripe()),
            values: (0..values).map(|_| UnsafeCell::default()).collect(),
        }
    }
}

impl<T> Striped<T> {
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Bytes of the locks and of the values themselves.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.values) + self.stripes.iter().map(|stripe| size_of_val(&*stripe.0)).sum::<usize>()
    }

    pub(super) fn read(&self, at: usize) -> Reading<'_, T> {
        let lock = self.stripes[stripe()].lock(at).read();
        // SAFETY: whoever has `&mut` to this value holds all of its locks for writing, and so not while this one is held
        // for reading; the guard keeps it for as long as the reference lives, and drops it after.
        let value = unsafe { &*self.values[at].get() };
        Reading { value, _lock: lock }
    }

    pub(super) fn write(&self, at: usize) -> Writing<'_, T> {
        // Always in the same order: two writers do not wait for each other.
        let locks = self.stripes.each_ref().map(|stripe| stripe.lock(at).write());
        // SAFETY: all of this value's locks are held for writing, so nobody else has a reference to it; the guard keeps
        // them for as long as the reference lives, and drops them after.
        let value = unsafe { &mut *self.values[at].get() };
        Writing { value, _locks: locks }
    }
}

impl Stripe {
    fn lock(&self, at: usize) -> &RwLock<()> {
        &self.0[at / LOCKS].0[at % LOCKS]
    }
}

impl<T> Deref for Reading<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> Deref for Writing<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> DerefMut for Writing<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
    }
}

/// This thread's stripe.
pub(super) fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        mine.get()
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn nobody_reads_what_somebody_writes() {
        // Two words that are equal whenever nobody writes: a reader beside a writer would see them differ.
        let striped = Striped::<[u64; 2]>::new(3);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for n in 0..20_000u64 {
                        let mut pair = striped.write(n as usize % 3);
                        pair[0] += 1;
                        std::hint::spin_loop();
                        pair[1] += 1;
                    }
                });
            }
            // More threads than stripes.
            for _ in 0..2 * STRIPES {
                scope.spawn(|| {
                    for n in 0..20_000 {
                        let pair = striped.read(n % 3);
                        assert_eq!(pair[0], pair[1]);
                    }
                });
            }
        });
        let total: u64 = (0..3).map(|at| striped.read(at)[0]).sum();
        assert_eq!(total, 40_000, "a write was lost");
    }
}
