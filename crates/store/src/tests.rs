//! Tests that need what nobody outside may do: a writer that panics, a file that cannot be read, a race held still.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_model::{ByteRange, ByteSize, Capacity, ContentId, EXTENT, PAGE, PageIndex, block_sums, page_len};

use crate::pack;
use crate::past_cache::cached_pages;
use crate::queue::Order;
use crate::{
    Caching, DirectoryOptions, Fill, Group, Kept, NotKept, ReadOutcome, Recovery, Reserve, Residency, Store,
    StoreOptions,
};

fn open(paths: &[&Path], quota: u64) -> (Store, Recovery) {
    let capacity = Capacity::Bytes(ByteSize(quota));
    // Of one class, however busy the disk is: new contents go to the fastest.
    let class = Some(crate::Class::Ssd);
    let directory = |path: &&Path| DirectoryOptions { class, ..DirectoryOptions::new(path.to_path_buf(), capacity) };
    let directories = paths.iter().map(directory).collect();
    Store::open(&StoreOptions { reserve: Reserve::Bytes(ByteSize(0)), ..StoreOptions::new(directories) }).unwrap()
}

fn id(number: u8) -> ContentId {
    ContentId::from_u128(u128::from_le_bytes([number; 16]))
}

/// A page of `number`s.
fn fill(number: u8, size: u64, page: u32) -> Fill {
    let page = PageIndex(page);
    let bytes = Bytes::from(vec![number; page_len(size, page) as usize]);
    Fill { id: id(number), size, group: Group(0), page, sums: block_sums(&bytes), chunks: vec![bytes] }
}

fn keep(store: &Store, number: u8, size: u64, page: u32) -> Kept {
    let (send, receive) = mpsc::channel();
    match store.keep(fill(number, size, page), Box::new(move |kept| _ = send.send(kept))) {
        Ok(()) => receive.recv_timeout(Duration::from_secs(60)).unwrap(),
        Err(reason) => Kept::No(reason),
    }
}

fn read(store: &Store, number: u8, size: u64, page: u32) -> bool {
    let range = ByteRange::at(PageIndex(page).start(), PAGE, size);
    let mut buffer = vec![0; range.len() as usize];
    match store.read(id(number), size, range, &mut buffer, Caching::Keep) {
        ReadOutcome::Filled => {
            assert!(buffer.iter().all(|byte| *byte == number), "a wrong byte");
            true
        }
        ReadOutcome::Absent => false,
    }
}

/// Waits for a writer's doing.
fn until(mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < end, "in vain");
        std::thread::yield_now();
    }
}

#[test]
fn a_content_that_is_fetched_again_survives_the_order_to_drop_it() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let size = 3 * PAGE;
    for extent_only in [false, true] {
        let path = scratch.path().join(format!("{extent_only}"));
        let (store, _) = open(&[&path], 1 << 30);
        assert_eq!(keep(&store, 1, size, 0), Kept::Yes);
        let old = store.shared.index.large(id(1)).unwrap();
        // As a reader does that finds it missing; its order comes after fills that find no content.
        store.shared.index.remove_large(&old);
        (0..3).for_each(|page| assert_eq!(keep(&store, 1, size, page), Kept::Yes));
        let queue = &store.shared.directories[0].queue;
        if extent_only {
            queue.order(Order::DropExtent(Arc::clone(&old), PageIndex(0).extent()));
        }
        queue.order(Order::DropLarge(Arc::clone(&old)));
        until(|| old.gone.load(Ordering::Acquire));
        let check = |store: &Store| {
            assert_eq!(store.residency(id(1), size), Residency::Whole);
            assert!((0..3).all(|page| read(store, 1, size, page)));
            assert_eq!(store.stats().bytes_resident, size);
        };
        check(&store);
        drop(store);
        let (store, recovery) = open(&[&path], 1 << 30);
        assert_eq!(recovery.unverified, 0);
        check(&store);
    }
}

#[test]
fn a_pack_is_followed_over_its_filler_also_after_a_start() {
    let scratch = tempfile::tempdir().unwrap();
    let size = |number: u8| (40 << 10) + u64::from(number) * 999;
    let check = |store: &Store| {
        let packs = store.shared.index.packs_of(0);
        let found: usize = packs.iter().map(|pack| store.shared.follow(pack).len()).sum();
        assert_eq!(found, 20, "in {} packs", packs.len());
        let live: u64 = (0..20).map(|number| pack::entry_len(size(number))).sum();
        assert!(packs.iter().map(|pack| pack.len.load(Ordering::Relaxed)).sum::<u64>() > live, "there is filler");
        assert!((0..20).all(|number| read(store, number, size(number), 0)));
    };
    let (store, _) = open(&[scratch.path()], 1 << 30);
    assert!((0..20).all(|number| keep(&store, number, size(number), 0) == Kept::Yes));
    check(&store);
    drop(store);
    let (store, recovery) = open(&[scratch.path()], 1 << 30);
    assert_eq!(recovery.unverified, 0);
    check(&store);
}

#[test]
fn the_log_is_younger_than_what_was_written_before_it() {
    use std::os::unix::fs::MetadataExt;
    let scratch = tempfile::tempdir().unwrap();
    let (store, _) = open(&[scratch.path()], 1 << 30);
    for number in 1..20 {
        assert_eq!(keep(&store, number, if number % 2 == 0 { 3 * PAGE } else { 500 }, 0), Kept::Yes);
        let changed = |path: &Path| std::fs::metadata(path).map(|of| (of.ctime(), of.ctime_nsec()));
        let log = || std::fs::metadata(scratch.path().join(crate::log::LOG)).map(|of| (of.mtime(), of.mtime_nsec()));
        let large = |number| scratch.path().join(store.shared.index.large(id(number)).unwrap().name());
        let file = if number % 2 == 0 {
            large(number)
        } else {
            scratch.path().join(pack::name(store.shared.index.packs_of(0)[0].number))
        };
        until(|| changed(&file).unwrap() < log().unwrap());
    }
}

#[test]
fn what_a_crash_has_taken_away_is_kept_anew() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let (store, _) = open(&[scratch.path()], 1 << 30);
    assert_eq!(keep(&store, 1, 3 * PAGE, 0), Kept::Yes);
    let name = store.shared.index.large(id(1)).unwrap().name();
    drop(store);
    std::fs::remove_file(scratch.path().join(name)).unwrap();
    let (store, _) = open(&[scratch.path()], 1 << 30);
    assert_eq!(keep(&store, 1, 3 * PAGE, 1), Kept::Yes, "the file of the log's content is not there");
    assert!(read(&store, 1, 3 * PAGE, 1));
    assert!(!read(&store, 1, 3 * PAGE, 0), "it went with its file");
    // The scrub may have found it missing first: then the writer takes it out of the account after the new page.
    until(|| store.stats().bytes_resident == PAGE);
}

#[test]
fn eviction_of_what_was_dropped_and_fetched_again_ends() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let size = 2 * PAGE;
    let (store, _) = open(&[scratch.path()], 8 * PAGE);
    for round in 0..6 {
        for number in 1..=6 {
            for page in 0..2 {
                let kept = keep(&store, number, size, page);
                assert!(matches!(kept, Kept::Yes | Kept::No(NotKept::Full)), "{kept:?}");
            }
            // Out of the index, and its order is still to come.
            if let Some(old) = store.shared.index.large(id(number))
                && (number + round) % 2 == 0
            {
                store.shared.index.remove_large(&old);
                keep(&store, number, size, 0);
                store.shared.directories[0].queue.order(Order::DropLarge(old));
            }
        }
    }
    assert!((1..=6).any(|number| (0..2).any(|page| read(&store, number, size, page))));
    assert!(store.stats().bytes_resident <= 8 * PAGE, "{:?}", store.stats());
}

#[test]
fn a_small_object_that_is_kept_again_survives_the_order_to_drop_it() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let (store, _) = open(&[scratch.path()], 1 << 30);
    assert_eq!(keep(&store, 1, 100, 0), Kept::Yes);
    let (pack, place) = store.shared.index.small(id(1)).unwrap();
    store.shared.index.remove_small(id(1), place, &pack);
    assert_eq!(keep(&store, 1, 100, 0), Kept::Yes);
    store.shared.directories[0].queue.order(Order::DropSmall(id(1), place));
    assert_eq!(keep(&store, 2, 100, 0), Kept::Yes);
    store.forget(id(2));
    assert!(read(&store, 1, 100, 0));
    drop(store);
    let (store, _) = open(&[scratch.path()], 1 << 30);
    assert!(read(&store, 1, 100, 0));
    assert!(!read(&store, 2, 100, 0));
}

/// A window of write-back is 8 MiB: of one object alone nothing would be known until somebody writes on.
#[test]
fn what_was_written_is_sent_to_the_disk_when_nothing_more_is() {
    let scratch = tempfile::tempdir().unwrap();
    let capacity = Capacity::Bytes(ByteSize(1 << 30));
    let directories = vec![DirectoryOptions::new(scratch.path().to_path_buf(), capacity)];
    let options =
        StoreOptions { fills: Caching::Drop, reserve: Reserve::Bytes(ByteSize(0)), ..StoreOptions::new(directories) };
    let (store, _) = Store::open(&options).unwrap();
    let len = PAGE / 2;
    assert_eq!(keep(&store, 1, len, 0), Kept::Yes);
    let (pack, place) = store.shared.index.small(id(1)).unwrap();
    let file = store.shared.directories[0].root.open_to_read(&pack::name(pack.number)).unwrap();
    // What has reached the disk leaves the page cache.
    until(|| cached_pages(&file, place.offset.into(), len).unwrap() <= 1);
    assert!(read(&store, 1, len, 0));
}

#[test]
fn what_lay_on_a_failed_directory_is_kept_on_the_other() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    let (store, _) = open(&[&one, &two], 1 << 30);
    let size = |number: u8| if number.is_multiple_of(2) { 100 } else { 2 * PAGE };
    (1..20).for_each(|number| assert_eq!(keep(&store, number, size(number), 0), Kept::Yes));
    store.shared.directories[0].take_out(&std::io::Error::other("on purpose"));
    until(|| store.shared.index.packs_of(0).is_empty() && store.shared.index.larges_of(0).is_empty());
    for number in 1..20 {
        assert_eq!(keep(&store, number, size(number), 0), Kept::Yes);
        assert!(read(&store, number, size(number), 0));
    }
    let directories = store.directories();
    assert_eq!(directories.iter().map(|of| (&of.path, of.is_down)).collect::<Vec<_>>(), [(&one, true), (&two, false)]);
    assert_eq!((directories[0].bytes_resident, directories[1].capacity), (0, 1 << 30));
}

#[test]
fn a_writer_that_panics_ends_its_directory_and_nothing_waits_for_it() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    let (store, _) = open(&[&one, &two], 1 << 30);
    (1..20).for_each(|number| assert_eq!(keep(&store, number, 100, 0), Kept::Yes));
    let directory = &store.shared.directories[0];
    // The writer is held until the queue has the panic and a fill behind it.
    let (held, hold) = mpsc::channel::<()>();
    let (send, receive) = mpsc::channel();
    let keep_there = |number: u8, done: crate::Done| directory.queue.keep(fill(number, 100, 0), 100, done).unwrap();
    keep_there(101, Box::new(move |_| _ = hold.recv()));
    directory.queue.order(Order::Panic);
    keep_there(102, Box::new(move |kept| send.send(kept).unwrap()));
    held.send(()).unwrap();
    assert_eq!(receive.recv_timeout(Duration::from_secs(60)).unwrap(), Kept::No(NotKept::Failed));
    until(|| store.shared.index.packs_of(0).is_empty());
    assert_eq!((store.stats().directories_down, store.stats().bytes_queued), (1, 0));
    (1..20).for_each(|number| assert_eq!(keep(&store, number, 100, 0), Kept::Yes));
    let start = Instant::now();
    store.close().unwrap();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn a_page_that_cannot_be_read_takes_no_other_with_it() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let size = EXTENT + 3 * PAGE;
    let (store, _) = open(&[scratch.path()], 1 << 30);
    (0..67).for_each(|page| assert_eq!(keep(&store, 1, size, page), Kept::Yes));
    let large = store.shared.index.large(id(1)).unwrap();
    let path = scratch.path().join(large.name());
    let unreadable = OwnedFd::from(File::options().write(true).open(&path).unwrap());
    let readable = large.file.replace(Arc::new(unreadable));
    assert!(!read(&store, 1, size, 2));
    large.file.replace(readable.unwrap());
    assert_eq!((0..67).filter(|page| read(&store, 1, size, *page)).count(), 66);
    assert_eq!(store.stats().directories_down, 0);
    assert_eq!(keep(&store, 1, size, 2), Kept::Yes);
    assert!(read(&store, 1, size, 2) && read(&store, 1, size, 65));
}

/// An object that is kept twice before the order to let go of it is carried out lies at the second place; the first is a
/// hole, and a log that is read again must not lead there.
#[test]
fn an_object_that_is_kept_anew_before_it_is_let_go_is_found_where_it_lies() {
    let scratch = tempfile::tempdir().unwrap();
    let size = 70_000;
    {
        let (store, _) = open(&[scratch.path()], 1 << 30);
        assert_eq!(keep(&store, 1, size, 0), Kept::Yes);
        let (pack, place) = store.shared.index.small(id(1)).unwrap();
        // As `forget` does when the writer has another fill of it before the order.
        store.shared.index.remove_small(id(1), place, &pack);
        drop(pack);
        assert_eq!(keep(&store, 1, size, 0), Kept::Yes);
        assert!(store.shared.directories[0].queue.order(Order::DropSmall(id(1), place)));
        until(|| store.stats().holes_punched > 0);
        assert!(read(&store, 1, size, 0));
        store.close().unwrap();
    }
    let (store, recovery) = open(&[scratch.path()], 1 << 30);
    assert_eq!(recovery.contents, 1);
    assert!(read(&store, 1, size, 0));
}

/// A pack that is just leaving the index may have readers still: nothing in it becomes a hole.
#[test]
fn a_pack_that_has_left_the_index_is_not_punched_under_its_readers() {
    let scratch = tempfile::tempdir().unwrap();
    let size = 70_000;
    let (store, _) = open(&[scratch.path()], 1 << 30);
    for number in 1..4 {
        assert_eq!(keep(&store, number, size, 0), Kept::Yes);
    }
    let (reader, place) = store.shared.index.small(id(2)).unwrap();
    let file = reader.open(&store.shared.directories[0].root, &store.shared.files).unwrap();
    // The order to let go of one object, then the whole pack leaves the index before the writer comes to punch.
    store.shared.index.remove_small(id(2), place, &reader);
    store.shared.index.remove_pack(&reader);
    assert!(store.shared.directories[0].queue.order(Order::DropSmall(id(2), place)));
    assert_eq!(keep(&store, 9, size, 0), Kept::Yes);
    let mut bytes = vec![0; size as usize];
    let offset = u64::from(place.offset) + crate::pack::header_len(size) as u64;
    rustix::io::pread(&file, &mut bytes[..], offset).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 2), "a hole");
}
