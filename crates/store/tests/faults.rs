//! Directories that are full, removed or read-only; callers that panic; queues that are full.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

use forebay_model::{ByteRange, ByteSize, PAGE, PageIndex};
use forebay_store::{Kept, NotKept, Reserve, Residency};
use support::{fill, id, keep, keep_page, open, options, read, readable};

/// A small file system of its own.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// None without the right to mount: then the quota stands for the full disk.
    fn mount(at: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(at)
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_evicts_or_refuses_and_fails_no_read() {
    let scratch = tempfile::tempdir().unwrap();
    let mount = scratch.path().join("mount");
    let _tmpfs = Tmpfs::mount(&mount, 32);
    let quota = if _tmpfs.is_some() { 1 << 30 } else { 30 << 20 };
    for reserve in [0, 4 << 20] {
        let directory = mount.join(format!("{reserve}"));
        let mut options = options(&[&directory], quota);
        options.reserve = Reserve::Bytes(ByteSize(reserve));
        let (store, _) = open(&options);
        for number in 0..60 {
            let size = if number % 2 == 0 { PAGE } else { 2 * PAGE };
            for page in 0..forebay_model::page_count(size) {
                assert!(support::may_refuse(keep_page(&store, number, size, PageIndex(page))), "{number}");
            }
            readable(&store, number, size);
        }
        let stats = store.stats();
        assert!(stats.bytes_evicted > 0 && stats.directories_down == 0, "{stats:?}");
        assert!(stats.bytes_resident > 10 << 20, "the cache was emptied: {stats:?}");
        // Somebody else fills the disk: reads go on.
        if _tmpfs.is_some() {
            std::fs::write(mount.join("other"), vec![1; 40 << 20]).unwrap_err();
            for number in 100..110 {
                assert!(support::may_refuse(keep_page(&store, number, PAGE, PageIndex(0))));
            }
            assert_eq!(store.stats().directories_down, 0);
            std::fs::remove_file(mount.join("other")).unwrap();
        }
        store.close().unwrap();
        drop(store);
        let (store, recovery) = open(&options);
        assert_eq!(recovery.cut_bytes, 0);
        (0..60).for_each(|number| _ = readable(&store, number, if number % 2 == 0 { PAGE } else { 2 * PAGE }));
        assert_eq!(store.stats().blocks_damaged, 0);
        drop(store);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}

#[test]
fn a_full_disk_does_not_keep_a_store_from_opening_in_another_boot() {
    let scratch = tempfile::tempdir().unwrap();
    let mount = scratch.path().join("mount");
    let Some(_tmpfs) = Tmpfs::mount(&mount, 16) else { return };
    let directory = mount.join("store");
    let mut options = options(&[&directory], 1 << 30);
    let (store, _) = open(&options);
    (0..4).for_each(|number| keep(&store, number, PAGE));
    drop(store);
    let log = directory.join("index.log");
    let other = mount.join("other");
    std::fs::write(&other, vec![1; 40 << 20]).unwrap_err();
    options.boot_id = Some(forebay_store::BootId([2; 16]));
    for _ in 0..2 {
        let (store, recovery) = open(&options);
        assert_eq!(recovery.contents, 4);
        (0..4).for_each(|number| assert!(read(&store, number, PAGE, ByteRange::new(0, PAGE))));
        assert_eq!(store.stats().directories_down, 0);
    }
    // A log that is of no use, and no room for another: nothing is kept until there is.
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let (store, recovery) = open(&options);
    assert_eq!(recovery.contents, 0);
    assert_eq!(keep_page(&store, 10, PAGE, PageIndex(0)), Kept::No(NotKept::Full));
    std::fs::remove_file(&other).unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let kept = keep_page(&store, 10, PAGE, PageIndex(0));
        if kept == Kept::Yes {
            break;
        }
        assert!(std::time::Instant::now() < end, "{kept:?} {:?}", store.stats());
    }
    drop(store);
    let (store, recovery) = open(&options);
    assert_eq!(recovery.unverified, 0);
    assert!(read(&store, 10, PAGE, ByteRange::new(0, PAGE)));
}

#[test]
fn one_directory_that_cannot_be_read_does_not_keep_the_others_from_opening() {
    let scratch = tempfile::tempdir().unwrap();
    let (bad, good) = (scratch.path().join("bad"), scratch.path().join("good"));
    // A folder where its log should be.
    std::fs::create_dir_all(bad.join("index.log")).unwrap();
    let refused = forebay_store::Store::open(&options(&[&bad], 1 << 30)).unwrap_err();
    assert!(refused.to_string().contains(&bad.display().to_string()), "{refused}");
    let (store, _) = open(&options(&[&bad, &good], 1 << 30));
    keep(&store, 1, 100);
    assert_eq!((store.stats().directories, store.stats().directories_down), (2, 1));
    let is_down: Vec<_> = store.directories().into_iter().map(|of| (of.path, of.is_down)).collect();
    assert_eq!(is_down, [(good, false), (bad.clone(), true)]);
    // What somebody has to put right is refused.
    std::fs::remove_dir(bad.join("index.log")).unwrap();
    let file = scratch.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let third = scratch.path().join("third");
    assert!(forebay_store::Store::open(&options(&[&file, &third], 1 << 30)).is_err());
}

#[test]
fn a_removed_directory_is_taken_out_and_the_other_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    let (store, _) = open(&options(&[&one, &two], 1 << 30));
    for number in 0..20 {
        keep(&store, number, if number % 2 == 0 { 100 } else { 2 * PAGE });
    }
    std::fs::remove_dir_all(&one).unwrap();
    // Reads are right or absent; fills find it out.
    for number in 0..200 {
        let size = if number % 2 == 0 { 100 } else { 2 * PAGE };
        readable(&store, number, size);
        keep_page(&store, number, size, PageIndex(0));
    }
    assert_eq!(store.stats().directories_down, 1);
    for number in 300..310 {
        keep(&store, number, 100);
        assert!(read(&store, number, 100, ByteRange::new(0, 100)));
    }
    store.close().unwrap();
}

#[test]
fn all_directories_gone_means_absent() {
    let scratch = tempfile::tempdir().unwrap();
    let one = scratch.path().join("one");
    let (store, _) = open(&options(&[&one], 1 << 30));
    keep(&store, 1, 100);
    std::fs::remove_dir_all(&one).unwrap();
    assert_eq!(keep_page(&store, 2, 100, PageIndex(0)), Kept::No(NotKept::Failed));
    assert_eq!(store.residency(id(1), 100), Residency::None);
    assert!(!read(&store, 1, 100, ByteRange::new(0, 100)));
    assert_eq!(keep_page(&store, 2, 100, PageIndex(0)), Kept::No(NotKept::Failed));
    assert_eq!(store.stats().not_kept, 2);
}

#[test]
fn a_full_queue_refuses_and_takes_again() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut options = options(&[scratch.path()], 1 << 30);
    options.write_queue = ByteSize(2 * PAGE);
    let (store, _) = open(&options);
    // A callback holds the writer; nothing else does.
    let (entered, has_entered) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let block = Box::new(move |_| {
        entered.send(()).unwrap();
        released.recv().unwrap();
    });
    store.keep(fill(1, PAGE, PageIndex(0)), block).unwrap();
    has_entered.recv().unwrap();
    let (send, receive) = mpsc::channel();
    let mut queued = 0;
    let refused = (2..10).find_map(|number| {
        let send = send.clone();
        let outcome = store.keep(fill(number, PAGE, PageIndex(0)), Box::new(move |kept| send.send(kept).unwrap()));
        queued += u32::from(outcome.is_ok());
        outcome.err()
    });
    assert_eq!((refused, queued), (Some(NotKept::QueueFull), 2));
    assert!(read(&store, 1, PAGE, ByteRange::new(0, PAGE)), "reads do not wait for the queue");
    release.send(()).unwrap();
    assert_eq!(receive.recv().unwrap(), Kept::Yes);
    // The room is free once the batch is done.
    while keep_page(&store, 20, PAGE, PageIndex(0)) != Kept::Yes {}
}

#[test]
fn a_panic_in_a_callback_stays_there() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let (store, _) = open(&options(&[scratch.path()], 1 << 30));
    store.keep(fill(1, 10, PageIndex(0)), Box::new(|_| panic!("on purpose"))).unwrap();
    keep(&store, 2, 10);
    assert!(read(&store, 1, 10, ByteRange::new(0, 10)));
}

#[test]
fn fills_that_do_not_fit_are_refused() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let (store, _) = open(&options(&[scratch.path()], 1 << 30));
    let mut long = fill(1, 10, PageIndex(0));
    long.size = 9;
    let mut sums = fill(1, 10, PageIndex(0));
    sums.sums.clear();
    let mut beyond = fill(1, 10, PageIndex(0));
    beyond.page = PageIndex(1);
    for bad in [long, sums, beyond] {
        assert_eq!(store.keep(bad, Box::new(|_| ())), Err(NotKept::Invalid));
    }
    keep(&store, 3, 2 * PAGE);
    assert_eq!(keep_page(&store, 3, 3 * PAGE, PageIndex(2)), Kept::No(NotKept::Invalid), "another size");
}

#[test]
fn metrics_are_encoded() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let (store, _) = open(&options(&[scratch.path()], 1 << 30));
    let mut registry = prometheus_client::registry::Registry::with_prefix("forebay");
    store.register(&mut registry);
    keep(&store, 1, 10);
    read(&store, 1, 10, ByteRange::new(0, 10));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in
        ["forebay_store_hits_total 1", "forebay_store_contents 1", "forebay_store_not_kept_total{reason=\"full\"} 0"]
    {
        assert!(text.contains(line), "{line} in {text}");
    }
}
