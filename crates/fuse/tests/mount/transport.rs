//! The two ways by which requests come.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use forebay_fuse::Transport;

use crate::service::Fake;
use crate::support::{DEVICE, Fixture, errno, pattern, pread, runtime};

fn is_enabled() -> bool {
    fs::read_to_string("/sys/module/fuse/parameters/enable_uring").is_ok_and(|value| value.trim() == "Y")
}

#[test]
fn requests_come_by_io_uring_where_that_is_enabled_and_wanted() {
    for wanted in [true, false] {
        let fixture = Fixture::with(Fake::new(), |options| options.io_uring = wanted);
        let expected = if wanted && is_enabled() { Transport::IoUring } else { Transport::Device };
        assert_eq!(fixture.mount().transport(), expected);
    }
}

#[test]
fn all_tests_of_mounts_pass_over_the_device_too() {
    if std::env::var_os(DEVICE).is_some() || !is_enabled() {
        // This is the child, or all of them run so anyhow.
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap()).env(DEVICE, "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
}

/// Binds this thread to one core, so that its requests come to one queue.
fn bind() {
    let mut core = rustix::thread::CpuSet::new();
    core.set(0);
    rustix::thread::sched_setaffinity(None, &core).unwrap();
}

#[test]
fn more_requests_than_a_queue_has_entries_are_all_answered() {
    const FILES: usize = 400;
    let fake = Fake::new();
    let bytes: Vec<Vec<u8>> = (0..FILES).map(|i| pattern(70_000, i as u64)).collect();
    for (i, bytes) in bytes.iter().enumerate() {
        fake.put(&format!("/f{i}"), bytes.clone());
    }
    let fixture = Fixture::new(fake);
    let (next, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // What is at hand is read beside the queue, what is not by tasks of the runtime.
            while !done.load(Ordering::Relaxed) {
                fixture.fake.at_hand.fetch_xor(true, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        let readers: Vec<_> = (0..200)
            .map(|_| {
                scope.spawn(|| {
                    bind();
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        let Some(bytes) = bytes.get(i) else { return };
                        let file = fs::File::open(fixture.path(&format!("f{i}"))).unwrap();
                        assert_eq!(pread(&file, 65_000, 5_000).unwrap(), bytes[65_000..]);
                        assert!(fs::read(fixture.path(&format!("f{i}"))).unwrap() == *bytes);
                    }
                })
            })
            .collect();
        let results: Vec<_> = readers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok));
    });
}

#[test]
fn every_panic_of_a_read_is_one_error() {
    let fixture = Fixture::new(Fake::new());
    let bytes = pattern(10_000, 1);
    fixture.fake.put("/f", bytes.clone());
    let read_all = |wanted: Result<&[u8], i32>| {
        bind();
        // More of them than a queue has entries: none is lost.
        for _ in 0..100 {
            let file = fs::File::open(fixture.path("f")).unwrap();
            let read = pread(&file, 0, bytes.len());
            match wanted {
                Ok(bytes) => {
                    assert!(read.unwrap() == bytes);
                    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
                }
                Err(number) => assert_eq!(errno(read), number),
            }
        }
    };
    fixture.fake.panic_at_hand.store(true, Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| read_all(Err(libc::EIO)));
        }
    });
    fixture.fake.panic_at_hand.store(false, Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| read_all(Ok(&bytes)));
    });
    assert!(fixture.metric("panics_total") >= 100);
}

#[test]
fn a_mount_that_is_broken_off_ends_though_requests_hang() {
    let fixture = Fixture::new(Fake::new());
    fixture.fake.put("/f", vec![1; 100_000]);
    fixture.fake.at_hand.store(false, Ordering::Relaxed);
    fixture.fake.hang.store(true, Ordering::Relaxed);
    let path = fixture.path("f");
    let reader = std::thread::spawn(move || errno(fs::read(path)));
    runtime().block_on(fixture.fake.hung.notified());
    let status = Command::new("umount").arg("--force").arg("--lazy").arg(&fixture.directory).status().unwrap();
    assert!(status.success());
    assert!([libc::ECONNABORTED, libc::ENOTCONN].contains(&reader.join().unwrap()));
    let ended = async { tokio::time::timeout(Duration::from_secs(10), fixture.mount().unmounted()).await };
    runtime().block_on(ended).expect("the session ends");
}
