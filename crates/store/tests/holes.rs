//! The rule that must never break: nobody ever reads a hole. Not in this process, not through a descriptor or an mmap that
//! outlives the store that gave it, not after a kill.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use forebay_model::{ByteRange, EXTENT, PAGE, PageIndex, page_count};
use forebay_store::{Residency, Store};
use support::{content, files, id, keep, open, options, read, readable};

/// Two extents.
const SIZE: u64 = EXTENT + 2 * PAGE + 5;

/// Brings other data into the store until nothing of content 1 can be left.
fn flood(store: &Store) {
    let mut number = 1000;
    while store.residency(id(1), SIZE) != Residency::None {
        for page in 0..4 {
            support::keep_page(store, number, 4 * PAGE, PageIndex(page));
        }
        number += 1;
        assert!(number < 3000, "{:?}", store.stats());
    }
}

fn check_file(file: &std::fs::File) {
    let mut bytes = vec![0; SIZE as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == content(1, 0, SIZE), "the descriptor lost its bytes");
}

#[test]
fn a_descriptor_keeps_its_bytes_when_everything_is_evicted() {
    let scratch = tempfile::tempdir().unwrap();
    let (store, _) = open(&options(&[scratch.path()], 100 << 20));
    keep(&store, 1, SIZE);
    let descriptor = store.descriptor(id(1), SIZE).unwrap();
    assert_eq!(store.stats().bytes_handed_out, SIZE);
    let file = std::fs::File::from(descriptor.file.try_clone().unwrap());
    // The lease is given back, the file is not: the kernel is the judge.
    drop(descriptor);
    assert_eq!(store.stats().bytes_handed_out, 0);
    flood(&store);
    check_file(&file);
    assert!(store.stats().leases_refused > 0, "{:?}", store.stats());
    assert_eq!(store.stats().holes_punched, 0);
}

#[test]
fn an_extent_that_nobody_holds_is_punched_and_never_read_as_zeros() {
    for scratch in [tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap()] {
        // Room for one and a half: each content drives out the one before, while both are read.
        let options = options(&[scratch.path()], 100 << 20);
        let (store, _) = open(&options);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = 1u64;
                while !stop.load(Ordering::Relaxed) {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let first = if random >> 40 & 1 == 0 { 0 } else { EXTENT };
                    let range = ByteRange::at(first + (random >> 20) % (SIZE - first), 9000, SIZE);
                    read(&store, random >> 50 & 7, SIZE, range);
                }
            });
            for number in 0..8 {
                for page in 0..page_count(SIZE) {
                    assert!(support::may_refuse(support::keep_page(&store, number, SIZE, PageIndex(page))));
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        let stats = store.stats();
        assert!(stats.holes_punched > 0 && stats.hits > 0 && stats.blocks_damaged == 0, "{stats:?}");
        drop(store);
        let (store, _) = open(&options);
        assert!((0..8).map(|number| readable(&store, number, SIZE)).sum::<u32>() > 50);
    }
}

#[test]
fn an_index_that_forgot_a_hole_finds_no_file() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let options = options(&[scratch.path()], 100 << 20);
    let (store, _) = open(&options);
    keep(&store, 1, SIZE);
    let log = scratch.path().join("index.log");
    let before = std::fs::read(&log).unwrap();
    let mut number = 1000;
    while store.stats().holes_punched == 0 {
        keep(&store, number, 4 * PAGE);
        number += 1;
    }
    drop(store);
    // As if the log's tail had never reached the disk, in the same boot.
    std::fs::write(&log, before).unwrap();
    let (store, recovery) = open(&options);
    assert_eq!((recovery.cut_bytes, recovery.unverified), (0, 0));
    readable(&store, 1, SIZE);
    assert_eq!(store.residency(id(1), SIZE), Residency::None);
}

#[test]
fn at_most_four_fifths_are_handed_out() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let (store, _) = open(&options(&[scratch.path()], 20 << 20));
    (1..=5).for_each(|number| keep(&store, number, 3 * PAGE));
    let held: Vec<_> = (1..=5).map_while(|number| store.descriptor(id(number), 3 * PAGE)).collect();
    assert_eq!(held.len(), 5);
    assert!(store.descriptor(id(1), 3 * PAGE).is_some(), "a content counts once");
    keep(&store, 6, 3 * PAGE);
    assert!(store.descriptor(id(6), 3 * PAGE).is_none(), "{:?}", store.stats());
    drop(held);
    assert!(store.descriptor(id(6), 3 * PAGE).is_some());
}

/// The daemon of the next test: keeps a content and waits to be killed.
#[test]
#[ignore = "run by the next test in a process of its own"]
fn daemon() {
    let path = std::env::var("STORE_TEST_DIRECTORY").unwrap();
    let (store, _) = open(&options(&[path.as_ref()], 100 << 20));
    keep(&store, 1, SIZE);
    keep(&store, 2, 77);
    let descriptor = store.descriptor(id(1), SIZE).unwrap();
    println!("\nready {}", descriptor.file.as_raw_fd());
    // Until it is killed.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    panic!("was not killed");
}

#[test]
fn a_descriptor_and_a_map_keep_their_bytes_when_the_daemon_was_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["daemon", "--exact", "--ignored", "--nocapture"])
        .env("STORE_TEST_DIRECTORY", scratch.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines().map(Result::unwrap);
    let fd = lines.find_map(|line| line.strip_prefix("ready ").map(str::to_owned)).unwrap();
    // What a reader was given: the very descriptor that the daemon handed out, opened through /proc.
    let file = std::fs::File::open(format!("/proc/{}/fd/{fd}", daemon.id())).unwrap();
    let map = support_map::Map::new(&file, SIZE as usize);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let (store, recovery) = open(&options(&[scratch.path()], 100 << 20));
    assert_eq!((recovery.unclean, recovery.unverified, recovery.contents), (1, 0, 2));
    assert_eq!((readable(&store, 1, SIZE), readable(&store, 2, 77)), (page_count(SIZE), 1));
    assert!(store.descriptor(id(1), SIZE).is_some(), "nothing need be read again after a kill");
    flood(&store);
    check_file(&file);
    drop(file);
    assert!(map.bytes() == content(1, 0, SIZE), "the map lost its bytes");
    assert!(
        files(&scratch.path().join("large"))
            .iter()
            .all(|path| !path.display().to_string().contains(&id(1).to_string()))
    );
}

#[test]
fn on_overlayfs_a_map_whose_descriptor_is_closed_keeps_its_bytes() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let part = |name: &str| {
        let path = scratch.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let (lower, upper, work, merged) = (part("lower"), part("upper"), part("work"), part("merged"));
    let layers = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let mount = Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers]).arg(&merged).output();
    // Without the right to mount the directory is an ordinary one, for which the same holds.
    let is_mounted = mount.is_ok_and(|mount| mount.status.success());
    println!("overlayfs: {is_mounted}");
    let (store, _) = open(&options(&[&merged], 100 << 20));
    keep(&store, 1, SIZE);
    let descriptor = store.descriptor(id(1), SIZE).unwrap();
    let file = std::fs::File::from(descriptor.file.try_clone().unwrap());
    let map = support_map::Map::new(&file, SIZE as usize);
    drop((file, descriptor));
    flood(&store);
    let is_whole = map.bytes() == content(1, 0, SIZE);
    drop(store);
    map.unmap();
    if is_mounted {
        let _ = Command::new("umount").arg("-l").arg(&merged).status();
    }
    assert!(is_whole, "the map lost its bytes");
}

/// An mmap of a file.
mod support_map {
    #![expect(unsafe_code, reason = "mmap")]

    use std::fs::File;

    pub(super) struct Map(*mut std::ffi::c_void, usize);

    impl Map {
        pub(super) fn new(file: &File, len: usize) -> Self {
            use rustix::mm::{MapFlags, ProtFlags, mmap};
            // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
            let at = unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, 0) };
            Self(at.unwrap(), len)
        }

        pub(super) fn unmap(self) {
            // SAFETY: the mapping is this one's own, and `self` ends here.
            unsafe { rustix::mm::munmap(self.0, self.1).unwrap() }
        }

        pub(super) fn bytes(&self) -> &[u8] {
            // SAFETY: the mapping has that length, lives as long as `self`, and the file is not changed by rule.
            unsafe { std::slice::from_raw_parts(self.0.cast(), self.1) }
        }
    }
}
