//! Disks that fail in their own ways: a real file system that is full, read-only or cannot read its device; a directory
//! that another has taken the place of; an older format.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use forebay_model::{ByteRange, PAGE, PageIndex, block_sum, page_count};
use forebay_store::{Event, Kept, Level, Offline, Store, StoreError};
use support::{copy, keep, keep_page, may_refuse, open, options, read, readable};

/// An ext4 of its own on a file. Tests that need it need the right to mount, as those of the mount do.
struct Ext4 {
    image: PathBuf,
    at: PathBuf,
}

impl Ext4 {
    fn make(scratch: &Path, mib: u64) -> Self {
        let ext4 = Self { image: scratch.join("image"), at: scratch.join("mount") };
        File::create_new(&ext4.image).unwrap().set_len(mib << 20).unwrap();
        fs::create_dir(&ext4.at).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", ext4.image.to_str().unwrap()]);
        ext4.mount();
        ext4
    }

    fn mount(&self) {
        run("mount", &["-o", "loop", self.image.to_str().unwrap(), self.at.to_str().unwrap()]);
    }

    fn remount(&self, how: &str) {
        run("mount", &["-o", &format!("remount,{how}"), self.at.to_str().unwrap()]);
    }

    fn unmount(&self) {
        run("umount", &[self.at.to_str().unwrap()]);
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let_go(&self.at);
    }
}

fn run(program: &str, args: &[&str]) {
    let output = start(program, args).and_then(Child::wait_with_output);
    let output = output.unwrap_or_else(|error| panic!("this test needs {program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// One at a time: until a child runs its own program it holds what its parent has open, and what another test has closed since is
/// still in use.
fn start(program: &str, args: &[&str]) -> io::Result<Child> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    Command::new(program).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// Unmounts what may be in use still.
fn let_go(at: &Path) {
    let _ = start("umount", &["-l", at.to_str().unwrap()]).and_then(Child::wait_with_output);
}

/// Contents of the tests: every third is large.
fn size(number: u64) -> u64 {
    if number.is_multiple_of(3) { 2 * PAGE + number } else { 70_000 + number }
}

fn fill(store: &Store, numbers: std::ops::Range<u64>) {
    for number in numbers {
        for page in 0..page_count(size(number)) {
            let kept = keep_page(store, number, size(number), PageIndex(page));
            assert!(may_refuse(kept), "{number}: {kept:?}");
        }
        readable(store, number, size(number));
    }
}

fn pages(store: &Store, numbers: std::ops::Range<u64>) -> u32 {
    numbers.map(|number| readable(store, number, size(number))).sum()
}

#[test]
fn a_full_ext4_evicts_or_refuses_and_comes_back() {
    let scratch = tempfile::tempdir().unwrap();
    let ext4 = Ext4::make(scratch.path(), 64);
    let at = ext4.at.join("store");
    let options = options(&[&at], 1 << 30);
    for round in 0..3 {
        let (store, recovery) = open(&options);
        assert_eq!((recovery.cut_bytes, recovery.unverified), (0, 0), "round {round}");
        assert_eq!(pages(&store, 0..200) > 0, round > 0);
        // A disk that is found full is left alone for a second.
        let until = Instant::now() + Duration::from_secs(30);
        while store.stats().bytes_evicted == 0 {
            assert!(Instant::now() < until, "nothing is evicted: {:?}", store.stats());
            fill(&store, 0..200);
        }
        let stats = store.stats();
        assert!(stats.bytes_resident > 20 << 20 && stats.directories_down == 0, "{stats:?}");
        assert_eq!(stats.blocks_damaged, 0);
        // Somebody else takes what is left to the last byte; reads go on.
        let other = ext4.at.join("other");
        fs::write(&other, vec![1; 80 << 20]).unwrap_err();
        let before = pages(&store, 0..200);
        assert!(before > 0);
        fill(&store, 200..220);
        assert_eq!(store.stats().directories_down, 0);
        fs::remove_file(other).unwrap();
        store.close().unwrap();
        // The log could not be written while there was no room. It says all that is true now.
        let (mut findings, offline) = (Vec::new(), Offline::open(&at, None).unwrap());
        let each = &mut |event: Event<'_>| {
            findings.extend(if let Event::Finding(finding) = event { Some(finding.clone()) } else { None });
            ControlFlow::Continue(())
        };
        offline.check(Level::Data, each).unwrap();
        assert_eq!(findings, [], "round {round}");
    }
}

#[test]
fn a_directory_that_is_read_only_is_refused_and_one_that_becomes_so_is_taken_out() {
    let scratch = tempfile::tempdir().unwrap();
    let ext4 = Ext4::make(scratch.path(), 32);
    let (one, two) = (ext4.at.join("store"), scratch.path().join("two"));
    let (store, _) = open(&options(&[&one], 1 << 30));
    keep(&store, 1, size(1));
    keep(&store, 3, size(3));
    store.close().unwrap();
    drop(store);
    ext4.remount("ro");
    // It has to be put right: no other directory stands in for it.
    for directories in [vec![&*one], vec![&*one, &*two]] {
        let refused = Store::open(&options(&directories, 1 << 30)).unwrap_err();
        assert!(matches!(&refused, StoreError::Directory { directory, .. } if *directory == one), "{refused}");
    }
    ext4.remount("rw");
    let (store, recovery) = open(&options(&[&one, &two], 1 << 30));
    assert_eq!(recovery.contents, 2);
    fill(&store, 10..20);
    let sizes = || (10..400).map(|number| (number, size(number)));
    // As the kernel does when it finds the file system broken.
    run("mount", &["-o", "remount,abort", ext4.at.to_str().unwrap()]);
    for (number, size) in sizes() {
        readable(&store, number, size);
        keep_page(&store, number, size, PageIndex(0));
    }
    assert_eq!(store.stats().directories_down, 1);
    // The other goes on with all of it.
    for (number, size) in sizes().take(30) {
        keep(&store, number, size);
        assert_eq!(readable(&store, number, size), page_count(size));
    }
}

#[test]
fn a_device_that_cannot_be_read_makes_reads_absent_and_never_wrong() {
    let scratch = tempfile::tempdir().unwrap();
    let ext4 = Ext4::make(scratch.path(), 96);
    let (one, two) = (ext4.at.join("store"), scratch.path().join("two"));
    let (store, _) = open(&options(&[&one], 1 << 30));
    (0..24).for_each(|number| keep(&store, number, size(number)));
    store.close().unwrap();
    drop(store);
    ext4.unmount();
    ext4.mount();
    let (store, recovery) = open(&options(&[&one, &two], 1 << 30));
    assert_eq!(recovery.contents, 24);
    // The device ends early: the kernel answers EIO for what lay behind.
    File::options().write(true).open(&ext4.image).unwrap().set_len(20 << 20).unwrap();
    let found = pages(&store, 0..24);
    let all: u32 = (0..24).map(|number| page_count(size(number))).sum();
    assert!(found < all, "nothing failed");
    let stats = store.stats();
    assert!(stats.blocks_damaged > 0 || stats.directories_down == 1, "{stats:?}");
    // What it lost is fetched anew, there or on the other directory.
    let kept = (0..24).filter(|number| keep_page(&store, *number, size(*number), PageIndex(0)) == Kept::Yes).count();
    assert!(kept > 0);
    pages(&store, 0..24);
}

/// A file system of so many bytes in memory.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn make(at: PathBuf, mib: u64) -> Self {
        fs::create_dir(&at).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs", at.to_str().unwrap()]);
        Self(at)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let_go(&self.0);
    }
}

/// What was written is in the page cache and was read from there, when the device has no room for it: the kernel drops it.
#[test]
fn a_thin_volume_without_room_is_taken_out_although_nobody_writes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let thin = Tmpfs::make(scratch.path().join("thin"), 24);
    let ext4 = Ext4::make(&thin.0, 200);
    let (one, two) = (ext4.at.join("store"), scratch.path().join("two"));
    let (store, _) = open(&options(&[&one], 1 << 30));
    // Less than the store has on its way to the disk before it waits for any.
    let objects = || (1..800).filter(|number| number % 3 != 0);
    for number in objects() {
        keep(&store, number, size(number));
    }
    let until = Instant::now() + Duration::from_secs(60);
    while store.stats().directories_down == 0 {
        assert!(Instant::now() < until, "not noticed: {:?}", store.stats());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(objects().map(|number| readable(&store, number, size(number))).sum::<u32>(), 0);
    drop(store);
    // The next start reads what it finds before it believes it.
    let (store, _) = open(&options(&[&one, &two], 1 << 30));
    pages(&store, 1..800);
    drop(store);
    drop(ext4);
}

#[test]
fn a_directory_that_a_copy_takes_the_place_of_is_served_where_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, away) = (scratch.path().join("store"), scratch.path().join("away"));
    let (store, _) = open(&options(&[&path], 1 << 30));
    fill(&store, 0..10);
    let all = pages(&store, 0..10);
    fs::rename(&path, &away).unwrap();
    copy(&away, &path);
    fill(&store, 10..20);
    assert_eq!(store.stats().directories_down, 0);
    assert_eq!(pages(&store, 0..10), all);
    // Another store opens the copy meanwhile. It takes nothing from the first, and believes nothing unread.
    let (other, recovery) = open(&options(&[&path], 1 << 30));
    assert_eq!((recovery.contents, recovery.unverified), (10, 1));
    assert_eq!(pages(&other, 0..10), all);
    (0..5).for_each(|number| other.forget(support::id(number)));
    other.close().unwrap();
    assert_eq!(pages(&store, 0..10), all);
    store.close().unwrap();
    drop(store);
    let (store, recovery) = open(&options(&[&away], 1 << 30));
    assert_eq!((recovery.contents, recovery.unverified), (20, 0));
    assert_eq!(pages(&store, 0..10), all);
}

#[test]
fn an_older_format_is_begun_anew() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let options = options(&[scratch.path()], 1 << 30);
    let (store, _) = open(&options);
    keep(&store, 1, 100);
    keep(&store, 3, 2 * PAGE);
    drop(store);
    // Version 0 never was: whatever it is, this version cannot read it.
    let path = scratch.path().join("index.log");
    let mut log = fs::read(&path).unwrap();
    log[8] = 0;
    let sum = block_sum(&log[..24]).0;
    log[24..32].copy_from_slice(&sum.to_le_bytes());
    fs::write(&path, &log).unwrap();
    let (store, recovery) = open(&options);
    assert_eq!((recovery.contents, recovery.cut_bytes), (0, log.len() as u64));
    assert!(!read(&store, 1, 100, ByteRange::new(0, 100)));
    assert_eq!(keep_page(&store, 1, 100, PageIndex(0)), Kept::Yes);
    keep(&store, 3, 2 * PAGE);
    drop(store);
    let (store, recovery) = open(&options);
    assert_eq!((recovery.contents, recovery.unverified), (2, 0));
    assert!(read(&store, 1, 100, ByteRange::new(0, 100)));
}
