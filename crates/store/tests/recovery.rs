//! A store that serves while its logs are read.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::mpsc;
use std::time::Duration;

use forebay_model::{ByteRange, PAGE, PageIndex};
use forebay_store::{BootId, Kept, Store};
use support::{fill, id, keep, open, options, read};

const SMALL: u64 = 20_000;
const SIZE: u64 = 300;

/// Keeps many small objects, and waits for the last.
fn keep_many(store: &Store, numbers: std::ops::Range<u64>) {
    let (send, receive) = mpsc::channel();
    for number in numbers.clone() {
        let send = send.clone();
        store.keep(fill(number, SIZE, PageIndex(0)), Box::new(move |kept| send.send(kept).unwrap())).unwrap();
    }
    numbers.for_each(|_| assert_eq!(receive.recv().unwrap(), Kept::Yes));
}

#[test]
fn a_store_serves_right_bytes_while_it_recovers_and_all_of_them_after() {
    let scratch = tempfile::tempdir().unwrap();
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    let options = options(&[&one, &two], 1 << 30);
    let (store, _) = open(&options);
    keep_many(&store, 0..SMALL);
    (SMALL..SMALL + 8).for_each(|number| keep(&store, number, 3 * PAGE));
    // Their records are followed by others that withdraw them.
    (0..SMALL).step_by(10).for_each(|number| store.forget(id(number)));
    drop(store);
    let held = || {
        let (store, found) = open(&options);
        assert_eq!(found.contents, SMALL - SMALL / 10 + 8);
        store.stats().bytes_resident
    };
    let before = held();
    for boot in [1, 2] {
        let options = forebay_store::StoreOptions { boot_id: Some(BootId([boot; 16])), ..options.clone() };
        let store = Store::start(&options).unwrap();
        // Whatever is known by now is right; what is not is absent.
        let mut number = 0;
        while store.recovery().recovering > 0 {
            number = (number + 7919) % SMALL;
            read(&store, number, SIZE, ByteRange::new(0, SIZE));
            read(&store, SMALL + number % 8, 3 * PAGE, ByteRange::new(PAGE, 2 * PAGE));
        }
        let found = store.wait_recovered(Duration::ZERO);
        assert_eq!((found.unverified, found.unclean), (if boot == 1 { 0 } else { 2 }, 0));
        for number in 0..SMALL {
            let here = read(&store, number, SIZE, ByteRange::new(0, SIZE));
            assert_eq!(here, !number.is_multiple_of(10), "object {number}");
        }
        (SMALL..SMALL + 8).for_each(|number| assert!(read(&store, number, 3 * PAGE, ByteRange::new(0, 3 * PAGE))));
        assert_eq!((store.stats().blocks_damaged, store.stats().bytes_resident), (0, before));
    }
}

#[test]
fn what_is_kept_while_a_store_recovers_is_kept_once() {
    let scratch = tempfile::tempdir().unwrap();
    let options = options(&[scratch.path()], 1 << 30);
    let (store, _) = open(&options);
    keep_many(&store, 0..SMALL);
    keep(&store, SMALL, 2 * PAGE);
    let before = store.stats();
    drop(store);
    let store = Store::start(&options).unwrap();
    // The last of the log: the least likely to be known already.
    keep_many(&store, SMALL - 100..SMALL);
    keep(&store, SMALL, 2 * PAGE);
    assert_eq!(store.recovery().recovering, 0, "nothing is written before all is known");
    assert_eq!(store.stats().bytes_resident, before.bytes_resident);
    assert_eq!(store.stats().contents, before.contents);
}

#[test]
fn what_is_forgotten_while_a_store_recovers_is_gone() {
    let scratch = tempfile::tempdir().unwrap();
    let options = options(&[scratch.path()], 1 << 30);
    let (store, _) = open(&options);
    keep_many(&store, 0..SMALL);
    keep(&store, SMALL, 2 * PAGE);
    drop(store);
    let store = Store::start(&options).unwrap();
    store.forget(id(SMALL - 1));
    store.forget(id(SMALL));
    // Orders are worked off in order.
    keep(&store, SMALL + 1, SIZE);
    assert!(!read(&store, SMALL - 1, SIZE, ByteRange::new(0, SIZE)));
    assert!(!read(&store, SMALL, 2 * PAGE, ByteRange::new(0, PAGE)));
    assert!(read(&store, SMALL - 2, SIZE, ByteRange::new(0, SIZE)));
    drop(store);
    assert_eq!(open(&options).1.contents, SMALL);
}

#[test]
fn a_store_that_is_closed_while_it_recovers_loses_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let options = options(&[scratch.path()], 1 << 30);
    let (store, _) = open(&options);
    keep_many(&store, 0..SMALL);
    drop(store);
    for _ in 0..5 {
        let store = Store::start(&options).unwrap();
        store.close().unwrap();
        assert_eq!(store.recovery().recovering, 0);
    }
    let (store, found) = open(&options);
    assert_eq!((found.contents, found.cut_bytes, found.unverified), (SMALL, 0, 0));
    assert!(read(&store, SMALL - 1, SIZE, ByteRange::new(0, SIZE)));
}
