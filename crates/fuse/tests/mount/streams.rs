//! Mounts of kind `streams`: open calls and passthrough.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use forebay_fuse::{Kind, Passthrough};

use crate::service::Fake;
use crate::support::{Fixture, errno, pattern, pread};

const OPENS: &str = "passthrough_opens_total";

/// A mount and a directory for files that are handed out.
fn streams() -> (Fixture, tempfile::TempDir) {
    let fixture = Fixture::with(Fake::new(), |options| options.kind = Kind::Streams);
    assert_eq!(fixture.mount().passthrough(), Passthrough::Active, "these tests need root and Linux 6.9");
    // On a file system that passthrough can read: the build's, not a stacked one.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    (fixture, place)
}

fn file(place: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = place.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_whole_content_is_read_by_the_kernel() {
    let (fixture, place) = streams();
    let bytes = pattern(3_000_000, 1);
    fixture.fake.put_file("/whole", file(&place, "whole", &bytes));
    fixture.fake.put("/parts", bytes.clone());
    assert!(fs::read(fixture.path("whole")).unwrap() == bytes);
    assert_eq!((fixture.metric(OPENS), fixture.metric("requests_total{op=\"read\"}")), (1, 0));
    assert!(fs::read(fixture.path("parts")).unwrap() == bytes);
    assert_eq!(fixture.metric(OPENS), 1);
    assert!(fixture.metric("requests_total{op=\"read\"}") > 0);
}

#[test]
fn opens_of_one_inode_share_a_backing_file_and_its_lease_ends_with_the_last() {
    let (fixture, place) = streams();
    let bytes = pattern(1_000_000, 1);
    fixture.fake.put_file("/f", file(&place, "f", &bytes));
    let files: Vec<File> = (0..5).map(|_| File::open(fixture.path("f")).unwrap()).collect();
    for file in &files {
        assert!(pread(file, 500_000, 100_000).unwrap() == bytes[500_000..600_000]);
    }
    assert_eq!(Arc::strong_count(&fixture.fake.leases), 2);
    drop(files);
    // The kernel sends the last release in the background.
    wait_until(|| Arc::strong_count(&fixture.fake.leases) == 1);
    assert!(fs::read(fixture.path("f")).unwrap() == bytes);
    assert_eq!(fixture.metric(OPENS), 6);
}

#[test]
fn an_inode_that_is_open_cached_stays_so_until_its_last_close() {
    let (fixture, place) = streams();
    let bytes = pattern(1_000_000, 1);
    let id = fixture.fake.put("/f", bytes.clone());
    let cached = File::open(fixture.path("f")).unwrap();
    assert!(pread(&cached, 0, 1000).unwrap() == bytes[..1000]);
    fixture.fake.now_whole(id, file(&place, "f", &bytes));
    assert!(fs::read(fixture.path("f")).unwrap() == bytes);
    assert_eq!(fixture.metric(OPENS), 0);
    drop(cached);
    wait_until(|| fixture.metric("requests_total{op=\"release\"}") == 2);
    assert!(fs::read(fixture.path("f")).unwrap() == bytes);
    assert_eq!(fixture.metric(OPENS), 1);
}

#[test]
fn an_inode_that_is_open_by_passthrough_stays_so() {
    let (fixture, place) = streams();
    let bytes = pattern(1_000_000, 1);
    let path = file(&place, "f", &bytes);
    fixture.fake.put_file("/f", path.clone());
    let first = File::open(fixture.path("f")).unwrap();
    fs::remove_file(path).unwrap();
    // The store could not hand it out any more; the open one is shared.
    let second = File::open(fixture.path("f")).unwrap();
    assert!(pread(&first, 0, 1000).unwrap() == pread(&second, 0, 1000).unwrap());
    assert_eq!(fixture.metric(OPENS), 2);
}

#[test]
fn a_file_of_another_size_than_its_content_is_not_handed_to_the_kernel() {
    let (fixture, place) = streams();
    let bytes = pattern(100_000, 1);
    let id = fixture.fake.put("/f", bytes.clone());
    fixture.fake.now_whole(id, file(&place, "f", &pattern(104_448, 1)));
    assert!(fs::read(fixture.path("f")).unwrap() == bytes);
    assert_eq!(fixture.metric(OPENS), 0);
}

#[test]
fn many_threads_open_read_and_close_one_inode() {
    let (fixture, place) = streams();
    let bytes = pattern(200_000, 1);
    let id = fixture.fake.put("/f", bytes.clone());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (fixture, bytes, place) = (&fixture, &bytes, &place);
            scope.spawn(move || {
                for n in 0..200 {
                    if thread == 0 && n == 50 {
                        fixture.fake.now_whole(id, file(place, "f", bytes));
                    }
                    assert!(fs::read(fixture.path("f")).unwrap() == *bytes);
                }
            });
        }
    });
    assert!(fs::read(fixture.path("f")).unwrap() == bytes);
}

#[test]
fn a_mapped_passthrough_file_holds_the_bytes_and_a_changed_one_its_version() {
    let (fixture, place) = streams();
    fixture.fake.fresh_ms.store(0, Ordering::Relaxed);
    let (one, two) = (pattern(2_000_000, 1), pattern(1_000_000, 2));
    fixture.fake.put_file("/f", file(&place, "one", &one));
    let old = File::open(fixture.path("f")).unwrap();
    fixture.fake.put_file("/f", file(&place, "two", &two));
    assert!(fs::read(fixture.path("f")).unwrap() == two);
    assert!(pread(&old, 1_500_000, 1000).unwrap() == one[1_500_000..1_501_000]);
    let script = "import mmap,sys; f=open(sys.argv[1],'rb'); m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ); \
                  sys.stdout.buffer.write(m[:])";
    let output = std::process::Command::new("python3").args(["-c", script]).arg(fixture.path("f")).output();
    assert!(output.expect("this test needs python3").stdout == two);
}

#[test]
fn writes_and_absent_files_are_refused() {
    let (fixture, _place) = streams();
    fixture.fake.put("/f", "x");
    assert_eq!(errno(fs::OpenOptions::new().write(true).open(fixture.path("f"))), libc::EROFS);
    assert_eq!(errno(fs::write(fixture.path("new"), "x")), libc::EROFS);
    assert_eq!(errno(File::open(fixture.path("none"))), libc::ENOENT);
}

fn wait_until(condition: impl Fn() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !condition() {
        assert!(std::time::Instant::now() < end, "it did not come about within 10 s");
        std::thread::yield_now();
    }
}
